"""`NoteMemory` recalls a session's own notes, within the characters of the policy and the tokens of the request."""

from __future__ import annotations

from typing import Any

import pytest

from power_loop import AgentLoopConfig, NoteMemory, NotesPolicy, SessionStore, SQLiteNoteMemory, StatefulAgentLoop, open_store
from power_loop.contracts.messages import estimate_text_tokens
from power_loop.testing import ScriptedLLM


@pytest.fixture
async def store() -> Any:
    made = await open_store(":memory:")
    yield made
    await made.close()


async def recalled(memory: NoteMemory, session: str, tokens: int = 1500) -> str:
    messages = await memory.recall(messages=[], session_id=session, budget_tokens=tokens)
    return messages[0]["content"] if messages else ""


# acceptance: 98
async def test_the_sessions_own_notes_are_at_the_tail_of_the_request(store: SessionStore) -> None:
    async with StatefulAgentLoop(llm=ScriptedLLM(["one", "two"]), store=store, config=AgentLoopConfig(memory=NoteMemory(store))) as loop:
        session, other = await loop.new_session(), await loop.new_session()
        await store.add_note(session, "the user likes blue")
        await store.add_note(other, "somebody else likes red")
        await loop.send("go", session)
        message = loop.llm.requests[0].messages[-1]
        assert (message["role"], message["name"]) == ("system", "memory_notes")
        assert "the user likes blue" in message["content"]
        assert "red" not in message["content"]
        await store.delete_note(session, 1)
        await loop.send("go", session)
        assert loop.llm.requests[1].messages[-1]["role"] == "user", "no notes, no message"


# acceptance: 98 (characters)
async def test_the_policys_characters_bound_what_is_shown(store: SessionStore) -> None:
    session = await store.create_session()
    for n in range(20):
        await store.add_note(session, f"note {n:02} " + "x" * 90)
    text = await recalled(NoteMemory(store, policy=NotesPolicy(inject_max_chars=500)), session)
    assert "note 19" in text
    assert "note 00" not in text
    assert "older notes are not shown" in text
    assert len(text) < 700


# acceptance: 98 (tokens)
@pytest.mark.parametrize("letter", ["x", "漢"])
async def test_the_tokens_of_the_request_bound_it_in_every_script(store: SessionStore, letter: str) -> None:
    session = await store.create_session()
    for n in range(30):
        await store.add_note(session, f"note {n:02} " + letter * 90)
    for tokens in (200, 400, 1500):
        text = await recalled(NoteMemory(store), session, tokens)
        assert estimate_text_tokens(text) <= tokens
        assert "note 29" in text


# acceptance: 98 (pinned)
async def test_pinned_notes_are_shown_however_little_room_there_is(store: SessionStore) -> None:
    session = await store.create_session()
    await store.add_note(session, "pinned " + "p" * 900, pinned=True)
    for n in range(10):
        await store.add_note(session, f"note {n} " + "x" * 100)
    for tokens in (1, 50, 300):
        assert "pinned ppp" in await recalled(NoteMemory(store), session, tokens)


# acceptance: 98 (the alias)
def test_the_name_of_the_3x_line_is_the_same_class() -> None:
    assert SQLiteNoteMemory is NoteMemory
