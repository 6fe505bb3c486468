"""One key, one word, one outcome: whether it was sent, enqueued or said to a running session, in whatever order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from power_loop import FollowUpQueued, HumanInputRequired, SessionPendingError, StatefulAgentLoop, tool
from power_loop.store.memory import MemoryDatabase
from power_loop.store.sql_store import SessionStore
from power_loop.testing import FunctionLLM, ManualClock, ScriptedLLM, call, say


@pytest.fixture
async def loops() -> AsyncIterator[Any]:
    """Makes loops on one store whose time is moved by hand."""
    store, made = SessionStore(MemoryDatabase.with_schema(), MemoryDatabase.dialect, clock=ManualClock()), list[StatefulAgentLoop]()

    def make(llm: Any = None, **settings: Any) -> StatefulAgentLoop:
        model = llm or FunctionLLM(lambda request: say(f"answer to {request.messages[-1]['content']}"))
        made.append(StatefulAgentLoop(llm=model, store=store, **settings))
        return made[-1]

    yield make
    for loop in made:
        await loop.aclose()
    await store.close()


async def users(loop: StatefulAgentLoop, session: str) -> list[str]:
    return [message["content"] for message in await loop.get_messages(session) if message["role"] == "user"]


# acceptance: 138 (enqueued first)
async def test_a_send_under_the_key_of_what_waits_hears_that_and_gives_its_outcome(loops: Any) -> None:
    loop = loops()
    session = await loop.new_session()
    await loop.enqueue("hello", session, key="k")
    first, again = [await loop.send("hello", session, key="k") for _ in range(2)]
    assert first.final_text == again.final_text == "answer to <follow_up>\nhello\n</follow_up>"
    assert (first.send_index, again.send_index, len(loop.llm.requests)) == (1, 1, 1)
    assert await users(loop, session) == ["<follow_up>\nhello\n</follow_up>"]


# acceptance: 138 (enqueued later), 135 (the same key twice)
async def test_what_was_sent_under_a_key_is_not_taken_into_the_inbox_under_it(loops: Any) -> None:
    loop = loops()
    session = await loop.new_session()
    await loop.send("hello", session, key="k")
    queued = await loop.enqueue("hello", session, key="k")
    assert (queued.duplicate, queued.queue_depth, await loop.inbox(session)) == (True, 0, [])


async def test_the_same_key_in_another_session_is_another_word(loops: Any) -> None:
    loop = loops()
    one, two = await loop.new_session(), await loop.new_session()
    await loop.enqueue("hello", one, key="k")
    assert not (await loop.enqueue("hello", two, key="k")).duplicate


# acceptance: 138 (all at once), 135 (the same key at once)
async def test_sends_and_posts_under_one_key_at_once_are_one_word(loops: Any) -> None:
    loop, other = loops(), loops()
    session = await loop.new_session()
    verbs = [each.send("hello", session, key="k") for each in (loop, other)] + [other.enqueue("hello", session, key="k")]
    results = await asyncio.gather(*verbs, loop.follow_up("hello", session, key="k"))
    assert len(loop.llm.requests) + len(other.llm.requests) == 1
    assert len(await users(loop, session)) == 1
    texts = {result.final_text for result in results if not isinstance(result, FollowUpQueued)}
    assert len(texts) == 1


async def test_a_word_for_later_is_waited_for_by_a_send_under_its_key(loops: Any) -> None:
    loop = loops()
    session = await loop.new_session()
    clock = (await loop.ensure_store()).clock
    await loop.enqueue("hello", session, key="k", not_before_ms=clock.now_ms() + 60_000)
    sending = asyncio.create_task(loop.send("hello", session, key="k"))
    await clock.advance(59)
    assert not sending.done()
    await clock.advance(2)
    assert (await sending).final_text.endswith("hello\n</follow_up>")


@tool(effects="once")
def ask() -> str:
    """Ask a person."""
    raise HumanInputRequired("May I?")


async def test_a_key_that_waits_behind_a_question_is_refused_as_any_send_would_be(loops: Any) -> None:
    loop = loops(ScriptedLLM([call("ask"), say("heard")]), tools=[ask])
    session = await loop.new_session()
    await loop.send("go", session)
    await loop.enqueue("hello", session, key="k")
    with pytest.raises(SessionPendingError):
        await loop.send("hello", session, key="k")
    assert (await loop.send("hello", session, key="k", heal_pending=True)).final_text == "heard"
