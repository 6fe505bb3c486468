"""One policy for notes, whoever writes them: tools, store calls, at once; and how a model reads them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from power_loop import (
    DEFAULT_NOTES_POLICY,
    AgentLoopConfig,
    MemoryPolicy,
    NoteRow,
    NotesFullError,
    NotesPolicy,
    StatefulAgentLoop,
    create_default_tool_registry,
    open_store,
    render_notes,
)
from power_loop.testing import ScriptedLLM, call, calls, say


def note(number: int, content: str, pinned: bool = False) -> NoteRow:
    return NoteRow("s", number, content, pinned, 0, 0)


def contents(rows: list[NoteRow]) -> list[str]:
    return [row.content for row in rows]


@pytest.mark.parametrize(
    ("policy", "pinned", "gone"),
    [
        (NotesPolicy(max_notes=3), [False, False], []),
        (NotesPolicy(max_notes=3), [False, False, False], None),
        (NotesPolicy(max_notes=3, eviction="fifo"), [False, False], []),
        (NotesPolicy(max_notes=3, eviction="fifo"), [False, False, False], [0]),
        (NotesPolicy(max_notes=3, eviction="fifo"), [True, False, True], [1]),
        (NotesPolicy(max_notes=3, eviction="fifo"), [True, True, True], None),
        (NotesPolicy(max_notes=1, eviction="fifo"), [False, True, False], None),
        (NotesPolicy(max_notes=2, eviction="fifo"), [False, True, False], [0, 2]),
    ],
)
def test_who_makes_room_for_one_more(policy: NotesPolicy, pinned: list[bool], gone: list[int] | None) -> None:
    assert policy.evicted(pinned) == gone


@pytest.mark.parametrize("wrong", [{"max_notes": 0}, {"max_note_chars": True}, {"inject_max_chars": "8"}, {"eviction": "lifo"}])
def test_a_policy_of_nonsense_is_refused_by_name(wrong: Any) -> None:
    with pytest.raises(ValueError, match=rf"NotesPolicy\.{next(iter(wrong))}"):
        NotesPolicy(**wrong)


async def test_the_oldest_note_makes_room_and_a_pinned_one_never_does() -> None:
    store = await open_store(":memory:")
    store.notes_policy = NotesPolicy(max_notes=3, eviction="fifo")
    session = await store.create_session()
    for n in range(5):
        await store.add_note(session, str(n), pinned=n == 1)
    rows = await store.list_notes(session)
    assert [(row.note_id, row.content) for row in rows] == [(2, "1"), (4, "3"), (5, "4")], "numbers are never used again"
    for row in rows:
        await store.update_note(session, row.note_id, pinned=True)
    with pytest.raises(NotesFullError, match="too many of them are pinned"):
        await store.add_note(session, "5")
    assert await store.count_notes(session) == 3
    await store.close()


async def test_the_bound_holds_for_writers_at_once_that_evict() -> None:
    store = await open_store(":memory:")
    store.notes_policy = NotesPolicy(max_notes=3, eviction="fifo")
    session = await store.create_session()
    await asyncio.gather(*(store.add_note(session, str(n)) for n in range(12)))
    assert await store.count_notes(session) == 3
    await store.close()


async def test_one_policy_holds_for_the_tools_and_for_calls_of_the_store(tmp_path: Path) -> None:
    config = AgentLoopConfig(recall=MemoryPolicy(notes=NotesPolicy(max_notes=2, max_note_chars=5, eviction="fifo")))
    steps = [call("note_add", content=text) for text in ("one", "two", "three")]
    long = calls(call("note_add", content="too long"), call("note_update", note_id=3, content="longer"))
    model = ScriptedLLM([*steps, long, say("1")])
    registry = create_default_tool_registry(include=["note_add", "note_update"])
    async with StatefulAgentLoop(llm=model, dsn=str(tmp_path / "n.db"), config=config, tool_registry=registry) as loop:
        session = await loop.new_session()
        await loop.send("remember", session)
        store = await loop.ensure_store()
        assert contents(await store.list_notes(session)) == ["two", "three"]
        told = [message["content"] for message in await loop.get_messages(session) if message["role"] == "tool"]
        assert all("1 to 5 characters" in text for text in told[3:])
        assert len(told) == 5
        await store.add_note(session, "four")
        assert contents(await store.list_notes(session)) == ["three", "four"]
        with pytest.raises(ValueError, match="1 to 5 characters"):
            await store.add_note(session, "too long")


async def test_a_policy_that_changes_holds_from_the_next_send_on() -> None:
    registry = create_default_tool_registry(include=["note_add"])
    model = ScriptedLLM([call("note_add", content="one"), say("1"), call("note_add", content="two"), say("2")])
    async with StatefulAgentLoop(llm=model, dsn=":memory:", tool_registry=registry) as loop:
        session = await loop.new_session()
        await loop.send("a", session)
        loop.config.notes_policy = NotesPolicy(max_notes=1)
        await loop.send("b", session)
        store = await loop.ensure_store()
        assert contents(await store.list_notes(session)) == ["one"]
        assert "no room" in str((await loop.get_messages(session))[-2]["content"])
        with pytest.raises(NotesFullError, match="has 1 notes already"):
            await store.add_note(session, "x")


async def test_a_loop_that_says_nothing_of_notes_leaves_the_store_as_it_is() -> None:
    store = await open_store(":memory:")
    store.notes_policy = strict = NotesPolicy(max_notes=1)
    async with StatefulAgentLoop(llm=ScriptedLLM([say("1")]), store=store) as loop:
        await loop.send("a", await loop.new_session())
    assert store.notes_policy is strict
    await store.close()


async def test_a_repeated_call_of_a_tool_keeps_its_note_once() -> None:
    store = await open_store(":memory:")
    session = await store.create_session()
    for _ in range(2):
        await store.add_note(session, "x", key="k", policy=NotesPolicy(max_notes=1))
    assert await store.count_notes(session) == 1
    await store.close()


# --- shown ------------------------------------------------------------------------------------------------


def test_notes_are_shown_oldest_first_with_their_numbers() -> None:
    rows = [note(1, "Ada likes\ntea"), note(4, " short ", pinned=True)]
    assert render_notes(rows) == "- [1] Ada likes\n  tea\n- [4] (pinned) short"
    assert render_notes([]) == ""


def test_the_newest_are_shown_where_there_is_no_room_for_all_and_pinned_ones_always() -> None:
    rows = [note(1, "p" * 30, pinned=True), *(note(n, "x" * 10) for n in range(2, 8))]
    line = len("- [2] " + "x" * 10) + 1
    policy = NotesPolicy(inject_max_chars=len("- [1] (pinned) " + "p" * 30) + 1 + 2 * line)
    assert render_notes(rows, policy=policy).splitlines() == [
        "(4 older notes are not shown)", "- [1] (pinned) " + "p" * 30, "- [6] " + "x" * 10, "- [7] " + "x" * 10,
    ]  # fmt: skip
    assert render_notes(rows, policy=NotesPolicy(inject_max_chars=1)).splitlines() == [
        "(6 older notes are not shown)", "- [1] (pinned) " + "p" * 30,
    ]  # fmt: skip
    assert render_notes([note(1, "a"), note(2, "b")], policy=NotesPolicy(inject_max_chars=8)).startswith("(1 older note is not shown)")


def test_the_group_answers_to_its_flat_names() -> None:
    config = AgentLoopConfig(
        memory_budget_tokens=9, memory_position="front", builtin_memory_hook=False, notes_policy=NotesPolicy(max_notes=7)
    )
    assert config.recall == MemoryPolicy(9, "front", False, NotesPolicy(max_notes=7))
    assert AgentLoopConfig().notes_policy is DEFAULT_NOTES_POLICY
    for name, value in (("memory_budget_tokens", 0), ("memory_position", "middle"), ("notes_policy", None)):
        with pytest.raises(ValueError, match="recall"):
            setattr(config, name, value)
    assert config.recall.notes.max_notes == 7
