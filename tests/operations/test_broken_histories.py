"""Histories of other systems that do not fit together: put right at the door, reported by the doctor, and sound for every provider."""

from __future__ import annotations

from typing import Any

import pytest
from operating import Place

from power_loop import AgentLoopConfig
from power_loop.context.pairing import check_pairs
from power_loop.contracts.codec import to_cells
from power_loop.contracts.messages import ToolCall
from power_loop.contracts.records import ModelReplied, ToolReturned
from power_loop.contracts.store import Statement
from power_loop.providers.anthropic.request import wire_messages
from power_loop.runtime.doctor import doctor
from power_loop.testing.wire_rules import anthropic_problems, openai_problems


def problems(messages: Any) -> list[str]:
    """What a provider would refuse."""
    return [*openai_problems(messages), *anthropic_problems({"messages": wire_messages(messages)})]


USER, ANSWER = {"role": "user", "content": "look"}, {"role": "assistant", "content": "seen"}


def asks(*ids: str) -> dict[str, Any]:
    calls = [{"id": each, "type": "function", "function": {"name": "look", "arguments": "{}"}} for each in ids]
    return {"role": "assistant", "content": "", "tool_calls": calls}


def gives(call_id: str, content: Any = "found") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


BROKEN: dict[str, tuple[list[dict[str, Any]], str, list[str]]] = {
    "an orphan result": ([USER, gives("c9"), ANSWER], "a result without a call was left out (1)", ["user", "assistant"]),
    "a missing result": (
        [USER, asks("c1", "c2"), gives("c1"), ANSWER],
        "a call without a result was answered (1)",
        ["user", "assistant", "tool", "tool", "assistant"],
    ),
    "an id twice in one reply": (
        [USER, asks("c1", "c1"), gives("c1"), gives("c1"), ANSWER],
        "a result without a call was left out (1); a second call of one id in a reply was left out (1)",
        ["user", "assistant", "tool", "assistant"],
    ),
    "an id of an earlier reply": (
        [USER, asks("c1"), gives("c1"), asks("c1"), gives("c1", "again"), ANSWER],
        "a call whose id an earlier one has got another id (1)",
        ["user", "assistant", "tool", "assistant", "tool", "assistant"],
    ),
    "a leading assistant": ([ANSWER, USER, ANSWER], "a reply that nothing led to has a beginning (1)", ["user", "assistant"] * 2),
    "an empty word": ([{"role": "user", "content": " "}, ANSWER], "an empty word has a text that says so (1)", ["user", "assistant"]),
    "an empty reply": (
        [USER, {"role": "assistant", "content": ""}, USER, ANSWER],
        "an empty reply is not shown (1)",
        ["user", "user", "assistant"],
    ),
}


@pytest.mark.parametrize("kind", list(BROKEN))
async def test_a_broken_history_of_another_system_is_repaired_and_reported(memory_place: Place, kind: str) -> None:
    messages, told, roles = BROKEN[kind]
    store = memory_place.store
    session = await store.import_session({"messages": messages})
    [finding] = (await doctor(store, session)).findings
    assert (finding.code, finding.automatic, finding.text.endswith(f"put right: {told}")) == ("invalid_import", True, True)
    [request] = await memory_place.next_requests(session)
    shown = request["messages"][:-1]
    assert [message["role"] for message in shown] == roles
    check_pairs(shown)
    assert problems(request["messages"]) == []


async def test_a_repair_is_reported_until_somebody_agrees(memory_place: Place) -> None:
    store = memory_place.store
    session = await store.import_session({"messages": BROKEN["a missing result"][0]})
    copy = await store.import_session(await store.export_session(session))
    assert [finding.code for finding in (await doctor(store, copy)).findings] == ["invalid_import"]
    assert (await doctor(store, session, repair=True)).findings == ()
    assert (await doctor(store, session)).findings == ()


async def test_a_sound_history_is_taken_as_it_is(memory_place: Place) -> None:
    store = memory_place.store
    session = await store.import_session({"messages": [USER, asks("c1"), gives("c1"), ANSWER]})
    assert (await doctor(store, session)).findings == ()


async def test_results_are_kept_with_the_calls_whose_ids_were_changed(memory_place: Place) -> None:
    messages = [USER, asks("c1", "c1_2"), gives("c1_2", "second"), gives("c1", "first"), asks("c1"), gives("c1", "third"), ANSWER]
    session = await memory_place.store.import_session({"messages": messages})
    results = {m["tool_call_id"]: m["content"] for m in (await memory_place.next_requests(session))[0]["messages"] if m["role"] == "tool"}
    assert results == {"c1": "first", "c1_2": "second", "c1_3": "third"}


async def test_append_message_refuses_what_an_import_repairs(memory_place: Place) -> None:
    store = memory_place.store
    session = await store.create_session()

    async def append(message: dict[str, Any]) -> None:
        await store.append_message(session, **message)

    with pytest.raises(ValueError, match="begins with what a user says"):
        await append(ANSWER)
    with pytest.raises(ValueError, match="a user message needs content"):
        await append({"role": "user", "content": " "})
    await append(USER)
    with pytest.raises(ValueError, match="no call 'c1' waits"):
        await append(gives("c1"))
    with pytest.raises(ValueError, match="needs text or tool calls"):
        await append({"role": "assistant", "content": ""})
    with pytest.raises(ValueError, match="two of the tool calls share an id"):
        await append(asks("c1", "c1"))
    await append(asks("c1"))
    with pytest.raises(ValueError, match="have no result yet"):
        await append(ANSWER)
    await append(gives("c1"))
    with pytest.raises(ValueError, match="the call id 'c1' was used before"):
        await append(asks("c1"))
    await append(ANSWER)


# --- rows that no door lets in ----------------------------------------------------------------------


async def broken_rows(place: Place, what: str) -> str:
    """A session whose rows were changed by hand: a result is missing, has no call, or two calls share an id."""
    session = await place.said("one", "two")
    twice = ToolCall("c1", "look", "{}")
    calls = to_cells(ModelReplied("answer 1", (twice, twice) if what == "twins" else (twice,))).tool_calls
    change = "UPDATE pl_records SET tool_calls = ? WHERE session_id = ? AND seq = 2"
    values: tuple[Any, ...] = (calls, session)
    if what == "orphan":
        cells = to_cells(ToolReturned("c7", "found"))
        change = "UPDATE pl_records SET kind = ?, role = ?, content = ?, call_id = ?, body = NULL WHERE session_id = ? AND seq = 2"
        values = (cells.kind, cells.role, cells.content, cells.call_id, session)
    await place.store.database.write([Statement(change, values)])
    return session


async def mended_by_hand(place: Place, session: str) -> None:
    """So that the invariants hold again, which the end of the test checks."""
    await place.store.close_session_tree(session)


@pytest.mark.parametrize("what", ["missing", "orphan", "twins"])
async def test_a_request_shows_what_does_not_fit_together_so_that_every_provider_takes_it(memory_place: Place, what: str) -> None:
    session = await broken_rows(memory_place, what)
    [finding] = (await doctor(memory_place.store, session)).findings
    assert (finding.code, finding.automatic) == ("invalid_import", True)
    [request] = await memory_place.next_requests(session)
    check_pairs(request["messages"])
    assert problems(request["messages"]) == []
    assert [finding.code for finding in (await doctor(memory_place.store, session)).findings] == ["invalid_import"]  # no record changed
    await mended_by_hand(memory_place, session)


@pytest.mark.parametrize("what", ["missing", "orphan", "twins"])
async def test_repair_corrupt_history_puts_it_right_for_good(memory_place: Place, what: str) -> None:
    session = await broken_rows(memory_place, what)
    config = AgentLoopConfig(repair_corrupt_history=True)
    loop = memory_place.loop("fine", "and fine", config=config)
    assert (await loop.send("three", session)).final_text == "fine"
    assert (await doctor(memory_place.store, session)).findings == ()
    kinds = [row.cells.kind for row in await memory_place.store.rows(session, after=0)]
    assert kinds.count("context_folded") == 1
    shown = loop.llm.requests[0].messages
    assert [message["role"] for message in shown] == ["user", "user"]
    assert "one" in shown[0]["content"]
    await loop.send("four", session)  # once is enough
    assert [row.cells.kind for row in await memory_place.store.rows(session, after=0)].count("context_folded") == 1
    await mended_by_hand(memory_place, session)


async def test_repair_corrupt_history_leaves_sound_sessions_alone(memory_place: Place) -> None:
    session = await memory_place.said("one")
    loop = memory_place.loop("fine", config=AgentLoopConfig(repair_corrupt_history=True))
    await loop.send("two", session)
    assert "context_folded" not in [row.cells.kind for row in await memory_place.store.rows(session, after=0)]
