"""Notes beside a session, and messages that a host brings along."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from operating import Place

from power_loop import MessageState, NotesFullError, NotesPolicy, SessionArchivedError, SessionBusyError, SessionNotFoundError
from power_loop.testing import hang


async def test_notes_are_numbered_kept_in_order_and_changed_one_by_one(memory_place: Place) -> None:
    place = memory_place
    store, session = place.store, await place.store.create_session()
    first, second = await store.add_note(session, "a"), await store.add_note(session, "b", pinned=True)
    assert (first.note_id, second.note_id, second.pinned) == (1, 2, True)
    changed = await store.update_note(session, 1, content="A")
    assert changed is not None
    assert (changed.content, changed.pinned, changed.created_at) == ("A", False, first.created_at)
    assert await store.update_note(session, 9, content="x") is None
    assert [await store.delete_note(session, 1), await store.delete_note(session, 1)] == [True, False]
    assert (await store.add_note(session, "c")).note_id == 3, "a number is never used again"
    assert [note.content for note in await store.list_notes(session)] == ["b", "c"]
    assert await store.count_notes(session) == 2
    with pytest.raises(SessionNotFoundError):
        await store.add_note("gone", "x")


async def test_the_bounds_of_notes_hold_for_writers_at_once(place: Place) -> None:
    store, session = place.store, await place.store.create_session()
    outcomes = await asyncio.gather(
        *(store.add_note(session, str(n), policy=NotesPolicy(max_notes=3)) for n in range(6)), return_exceptions=True
    )
    assert sum(isinstance(outcome, NotesFullError) for outcome in outcomes) == 3
    assert await store.count_notes(session) == 3
    for content in ("", "  ", "x" * 1001):
        with pytest.raises(ValueError, match="1 to 1000 characters"):
            await store.add_note(session, content)


# --- messages from outside ------------------------------------------------------------------------

CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "Rome"}'}}


async def test_a_host_brings_its_history_and_the_model_goes_on_from_it(place: Place) -> None:
    append, session = place.store.append_message, await place.store.create_session()
    assert await append(session, role="user", content="Is Rome fine?", meta={"from": "mail"}) == 1
    assert await append(session, role="assistant", tool_calls=[CALL], meta={"model": "old"}, round_index=7) == 2
    assert await append(session, role="tool", content="fine", tool_call_id="c1", name="look") == 3
    await append(session, role="assistant", content="It is.")
    await append(session, role="user", content="And Oslo?")
    await append(session, role="assistant", content="Too.")
    await append(session, role="assistant", content="One more thing.")
    [request] = await place.next_requests(session)
    assert [(message["role"], message["content"]) for message in request["messages"]] == [
        ("user", "Is Rome fine?"), ("assistant", ""), ("tool", "fine"), ("assistant", "It is."), ("user", "And Oslo?"),
        ("assistant", "Too."), ("assistant", "One more thing."), ("user", "What next?"),
    ]  # fmt: skip
    rows = await place.store.load_all_messages(session)
    assert (rows[0].meta["from"], rows[1].meta["model"]) == ("mail", "old")
    assert rows[1].round_index == 7
    assert [row.send_index for row in rows] == [1, 1, 1, 1, 2, 2, 2, 3, 3]


async def test_what_a_host_notes_beside_a_message_is_in_its_meta_and_means_nothing_to_us(memory_place: Place) -> None:
    append, session = memory_place.store.append_message, await memory_place.store.create_session()
    notes = {"from": "mail", "pruned": True}
    await append(session, role="user", content="Look.", meta=notes)
    await append(session, role="assistant", tool_calls=[CALL], meta=notes)
    await append(session, role="tool", content="fine", tool_call_id="c1", meta=notes)
    rows = await memory_place.store.load_all_messages(session)
    assert [{name: row.meta[name] for name in notes} for row in rows] == [notes] * 3
    assert {row.state for row in rows} == {MessageState.ACTIVE}


async def test_what_would_break_the_history_is_refused_and_changes_nothing(memory_place: Place) -> None:
    place = memory_place
    store, session = place.store, await place.store.create_session()

    async def refused(words: str, **message: object) -> None:
        head = await store.look(session)
        with pytest.raises(ValueError, match=words):
            await store.append_message(session, **message)  # type: ignore[arg-type]  # what a host may pass
        assert await store.look(session) == head

    await refused("a conversation begins with what a user says", role="assistant", content="hi")
    await refused("no call 'c1' waits", role="tool", content="x", tool_call_id="c1")
    await refused("none of 'user', 'assistant', 'tool'", role="system", content="x")
    await refused("needs the tool_call_id", role="tool", content="x")
    await store.append_message(session, role="user", content="hi")
    await refused("needs text or tool calls", role="assistant", content=" ")
    await refused("share an id", role="assistant", tool_calls=[CALL, CALL])
    await refused("an id and a function with a name", role="assistant", tool_calls=[{"id": "c"}])
    await refused("stand in a message of the role 'assistant'", role="user", content="x", tool_calls=[CALL])
    await store.append_message(session, role="assistant", tool_calls=[CALL])
    await refused("the calls c1 have no result yet", role="user", content="x")
    await refused("the calls c1 have no result yet", role="assistant", content="x")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"role": "assistant", "tool_calls": "look"}, "a tool call is a dict with an id and a function, not 'l'"),
        ({"role": "assistant", "tool_calls": [7]}, "a tool call is a dict with an id and a function, not 7"),
        ({"role": "user", "content": 7}, "text or a list of content blocks, not 7"),
        ({"role": "user", "content": {"type": "text", "text": "hi"}}, "text or a list of content blocks, not {'type'"),
        ({"role": "user", "content": [7]}, r"text or a list of content blocks, not \[7\]"),
        ({"role": "user", "content": "hi", "name": 7}, "the name of a message takes text, not int"),
    ],
)
async def test_a_value_that_is_no_part_of_a_message_is_refused_by_name(memory_place: Place, message: Any, words: str) -> None:
    session = await memory_place.store.create_session()
    with pytest.raises(TypeError, match=words):
        await memory_place.store.append_message(session, **message)
    assert not await memory_place.store.load_all_messages(session)


@pytest.mark.parametrize("content", [None, 7])
async def test_a_note_that_is_no_text_is_refused_by_name(memory_place: Place, content: Any) -> None:
    session = await memory_place.store.create_session()
    with pytest.raises(TypeError, match="a note is text, not"):
        await memory_place.store.add_note(session, content)


async def test_nobody_writes_into_a_running_or_an_archived_session(memory_place: Place) -> None:
    place = memory_place
    loop = place.loop(hang())
    session = await loop.new_session()
    task = asyncio.create_task(loop.send("go", session))
    while not (await place.store.look(session)).holder:
        await asyncio.sleep(0)
    with pytest.raises(SessionBusyError):
        await place.store.append_message(session, role="user", content="x")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await place.store.archive_session(session)
    with pytest.raises(SessionArchivedError):
        await place.store.append_message(session, role="user", content="x")
    with pytest.raises(SessionNotFoundError):
        await place.store.append_message("gone", role="user", content="x")


# acceptance: 82 (in one process)
async def test_messages_and_sends_at_once_leave_no_gap_and_no_double(place: Place) -> None:
    session = await place.said("one")
    loop = place.loop(*["ok"] * 4)

    async def bring(text: str) -> None:
        while True:
            try:
                await place.store.append_message(session, role="user", content=text)
            except SessionBusyError:
                await asyncio.sleep(0)
            else:
                return

    await asyncio.gather(*(bring(f"host {n}") for n in range(3)), *(loop.send(f"send {n}", session) for n in range(4)))
    ((count, first, last),) = await place.store.database.read(
        "SELECT COUNT(*), MIN(seq), MAX(seq) FROM pl_records WHERE session_id = ?", (session,)
    )
    assert (count, first) == (last, 1)
