"""Todos, notes and wake-ups: bounded, kept beside the session, and the same after a repeated call."""

from __future__ import annotations

from typing import Any

import pytest

from power_loop.contracts.errors import ToolValidationError
from power_loop.contracts.tool import ToolRun
from power_loop.loop import StatefulAgentLoop
from power_loop.testing import ScriptedLLM, call, say
from power_loop.tools.presets import create_default_tool_registry, definition_of
from power_loop.tools.todos import todos_of


def item(n: int, status: str = "pending", text: str = "write") -> dict[str, Any]:
    return {"id": str(n), "text": text, "status": status}


@pytest.mark.parametrize(
    ("name", "effects"),
    [
        *((name, "idempotent") for name in ("todo", "note_add", "note_update", "note_delete", "schedule_wakeup", "cancel_wakeup")),
        *((name, "pure") for name in ("list_wakeups", "current_time", "recall_compacted", "recall_send", "recall_output", "load_skill")),
    ],
)
def test_the_small_tools_state_their_effects(name: str, effects: str) -> None:
    assert definition_of(name).effects == effects


# --- todos --------------------------------------------------------------------------------------------


async def test_a_todo_list_replaces_the_one_before_and_listeners_hear_of_it(desk: Any) -> None:
    await desk.good("todo", items=[item(1), item(2)])
    text = await desk.good("todo", items=[item(1, "completed"), item(2, "in_progress", "test")])
    assert text == "1 of 2 completed\n[x] 1: write\n[>] 2: test"
    assert await todos_of(desk.store, desk.session) == [item(1, "completed"), item(2, "in_progress", "test")]
    kind, told = desk.told[-1]
    assert kind == "todo_updated"
    assert told["kind"] == "todo_snapshot"
    assert told["counts"] == {"pending": 0, "in_progress": 1, "completed": 1}
    assert await desk.good("todo", items=[]) == "nothing to do"
    assert await todos_of(desk.store, desk.session) == []


@pytest.mark.parametrize(
    ("items", "why"),
    [
        ([item(n) for n in range(21)], "at most 20 items, not 21"),
        ([item(1, "in_progress"), item(2, "in_progress")], "Only one item may be in progress"),
        ([item(1), item(1)], "more than once: '1'"),
        ([item(1, text="  ")], "no text: '1'"),
    ],
)
async def test_a_todo_list_out_of_bounds_is_refused_and_the_old_one_stays(desk: Any, items: Any, why: str) -> None:
    await desk.good("todo", items=[item(n) for n in range(20)])
    assert why in await desk.bad("todo", items=items)
    assert len(await todos_of(desk.store, desk.session)) == 20


# --- notes --------------------------------------------------------------------------------------------


async def test_notes_are_added_changed_and_deleted_by_their_number(desk: Any) -> None:
    assert await desk.good("note_add", content="tea, no milk") == "Note 1 is kept."
    assert await desk.good("note_add", content="left-handed", pinned=True) == "Note 2 is kept, pinned."
    assert await desk.good("note_update", note_id=1, pinned=True) == "Note 1 (pinned): tea, no milk"
    assert await desk.good("note_update", note_id=1, content="coffee", pinned=False) == "Note 1: coffee"
    assert await desk.good("note_delete", note_id=1) == "Note 1 is deleted."
    assert [(note.note_id, note.content) for note in await desk.store.list_notes(desk.session)] == [(2, "left-handed")]


async def test_a_note_that_is_not_there_cannot_be_changed_or_deleted(desk: Any) -> None:
    await desk.good("note_add", content="one")
    assert "There is no note 7 in this session. There are:\n1: one" in await desk.bad("note_update", note_id=7, content="x")
    assert "There is no note 7" in await desk.bad("note_delete", note_id=7)
    assert "give content, pinned, or both" in await desk.bad("note_update", note_id=1)


async def test_the_fifty_first_note_and_the_thousand_and_first_character_are_refused(desk: Any) -> None:
    assert "1 to 1000 characters, not 1001" in await desk.bad("note_add", content="x" * 1001)
    assert "1 to 1000 characters" in await desk.bad("note_add", content="  ")
    for n in range(50):
        await desk.good("note_add", content=f"fact {n}")
    refused = await desk.bad("note_add", content="one more")
    assert "Update or delete one of these first:\n1: fact 0\n2: fact 1" in refused
    assert await desk.store.count_notes(desk.session) == 50


async def test_a_repeated_note_call_changes_nothing_more(desk: Any) -> None:
    first = await desk.good("note_add", content="x", key="a")
    assert await desk.good("note_add", content="x", key="a") == first
    assert await desk.good("note_add", content="x", key="b") == "Note 2 is kept."
    for n in range(48):
        await desk.good("note_add", content=str(n))
    assert await desk.good("note_add", content="x", key="a") == first, "also when there is no room for another"
    assert await desk.good("note_delete", note_id=1, key="c") == await desk.good("note_delete", note_id=1, key="c")


# --- wake-ups -----------------------------------------------------------------------------------------


async def test_a_wake_up_is_heard_when_its_time_has_come(desk: Any) -> None:
    assert await desk.good("schedule_wakeup", delay_seconds=60, note="look") == "Wake-up 1 is set for 2027-01-15T08:01:00+00:00."
    assert await desk.good("list_wakeups") == "1: 2027-01-15T08:01:00+00:00: look"
    assert await desk.store.fire_due() == 0
    desk.clock.at += 60_000
    assert await desk.store.fire_due() == 1
    assert await desk.good("list_wakeups") == "No wake-up waits in this session."
    assert "has fired already" in await desk.bad("cancel_wakeup", timer_id=1)


async def test_a_recurring_wake_up_waits_again_until_it_is_cancelled(desk: Any) -> None:
    assert (await desk.good("schedule_wakeup", delay_seconds=5, note="tick", every_seconds=30)).endswith(", then every 30 s.")
    desk.clock.at += 5000
    assert await desk.store.fire_due() == 1
    assert await desk.good("list_wakeups") == "1: 2027-01-15T08:00:35+00:00, every 30 s: tick"
    assert await desk.good("cancel_wakeup", timer_id=1) == await desk.good("cancel_wakeup", timer_id=1) == "Wake-up 1 is cancelled."
    desk.clock.at += 60_000
    assert await desk.store.fire_due() == 0


@pytest.mark.parametrize("wrong", [{"delay_seconds": 4.9}, {"delay_seconds": 30 * 86400 + 1}, {"every_seconds": 1}, {"note": ""}])
async def test_a_wake_up_out_of_bounds_breaks_the_schema(desk: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ToolValidationError):
        await desk.call("schedule_wakeup", **{"delay_seconds": 5, "note": "x", **wrong})


async def test_ten_wake_ups_may_wait_and_cancelling_one_makes_room(desk: Any) -> None:
    assert "needs a note" in await desk.bad("schedule_wakeup", delay_seconds=5, note=" ")
    for n in range(10):
        await desk.good("schedule_wakeup", delay_seconds=5 + n, note=f"n{n}", key=f"k{n}")
    refused = await desk.bad("schedule_wakeup", delay_seconds=5, note="one more", key="k10")
    assert refused.startswith("10 wake-ups wait already")
    assert "1: 2027-01-15T08:00:05+00:00: n0" in refused
    assert await desk.good("schedule_wakeup", delay_seconds=14, note="n9", key="k9"), "a repeated call is no further one"
    await desk.good("cancel_wakeup", timer_id=3)
    await desk.good("schedule_wakeup", delay_seconds=5, note="one more", key="k10")


async def test_a_repeated_wake_up_call_arms_no_second_timer(desk: Any) -> None:
    first = await desk.good("schedule_wakeup", delay_seconds=60, note="look", key="a")
    desk.clock.at += 30_000
    assert await desk.good("schedule_wakeup", delay_seconds=60, note="look", key="a") == first
    desk.clock.at += 30_000
    assert await desk.store.fire_due() == 1
    assert await desk.good("schedule_wakeup", delay_seconds=60, note="look", key="a") == first
    assert await desk.store.list_timers(desk.session) == []


async def test_two_drivers_that_arm_a_timer_of_one_key_at_once_arm_one(desk: Any) -> None:
    """The one that was stalled has looked before the other wrote."""
    one = await desk.store.create_timer(desk.session, due_at=1, note="x", key="a")
    assert await desk.store.create_timer(desk.session, due_at=2, note="x", key="a") == one
    other = await desk.store.create_session()
    assert (await desk.store.create_timer(other, due_at=2, note="x", key="a")).timer_id != one.timer_id


async def test_another_session_can_neither_see_nor_cancel_a_wake_up(desk: Any) -> None:
    await desk.good("schedule_wakeup", delay_seconds=60, note="mine")
    desk.session = await desk.store.create_session()
    assert "There is no wake-up 1 in this session" in await desk.bad("cancel_wakeup", timer_id=1)
    assert await desk.good("list_wakeups") == "No wake-up waits in this session."


# --- the clock, and nowhere ---------------------------------------------------------------------------


async def test_the_time_is_that_of_the_store(desk: Any) -> None:
    local, utc = (await desk.good("current_time")).split("\n")
    assert utc == "utc: 2027-01-15T08:00:00+00:00"
    assert local.startswith("local: 2027-01-1")


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("todo", {"items": []}),
        ("note_add", {"content": "x"}),
        ("note_delete", {"note_id": 1}),
        ("schedule_wakeup", {"delay_seconds": 5, "note": "x"}),
        ("list_wakeups", {}),
        ("cancel_wakeup", {"timer_id": 1}),
        ("recall_compacted", {}),
        ("recall_send", {"send_index": 1}),
        ("recall_output", {"call_id": "x"}),
    ],
)
async def test_without_a_session_the_tools_say_so(name: str, args: dict[str, Any]) -> None:
    registry = create_default_tool_registry(include=[name])
    result = await registry.invoke_async(name, args, run=ToolRun())
    assert not result.ok
    assert "There is no session here" in result.content


async def test_in_a_loop_equal_notes_of_one_reply_are_two_notes_and_nothing_of_it_is_in_the_transcript() -> None:
    registry = create_default_tool_registry(include=["note_add", "todo"])
    model = ScriptedLLM([call("note_add", content="x"), call("note_add", content="x"), call("todo", items=[item(1)]), say("done")])
    async with StatefulAgentLoop(llm=model, dsn=":memory:", tool_registry=registry) as loop:
        session = await loop.new_session()
        assert (await loop.send("remember", session)).final_text == "done"
        assert [note.note_id for note in await loop.store.list_notes(session)] == [1, 2]
        assert not [each for each in await loop.get_messages(session) if "current_todos" in str(each)]
