"""What a watcher is given: the records of a session as events, from any process, wherever it was cut off."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import engines
import pytest

from power_loop import (
    AgentEvent,
    AgentLoopConfig,
    LLMError,
    LLMRetryPolicy,
    LLMSummaryFold,
    SessionNotFoundError,
    SessionStore,
    StatefulAgentLoop,
    StructuredOutputSpec,
    tool,
)
from power_loop.config import ContextPolicy
from power_loop.contracts.store import Statement
from power_loop.store.memory import MemoryDatabase
from power_loop.testing import ScriptedLLM, call, calls, fail, hang, say

Key = tuple[str | None, str, dict[str, Any]]


@tool(effects="once")
def add(a: int) -> str:
    """Add up."""
    if a > 8:
        raise ValueError("too much")
    return f"sum {a}"


@tool
async def stuck() -> str:
    """Never end."""
    await asyncio.Event().wait()
    return "never"


class Place:
    """One database; each loop is a process of its own, as far as the store can tell."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.loops: list[StatefulAgentLoop] = []

    def loop(self, *script: Any, **settings: Any) -> StatefulAgentLoop:
        loop = StatefulAgentLoop(llm=ScriptedLLM(script), dsn=self.dsn, tools=[add, stuck], **settings)
        self.loops.append(loop)
        return loop


@pytest.fixture(params=engines.FILES_AND_SERVERS)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """The same claim on every engine that processes share."""
    async with engines.fresh(request.param, tmp_path) as dsn:
        here = Place(dsn)
        yield here
        for loop in here.loops:
            await loop.aclose(drain_timeout_s=0)


def key(event: AgentEvent) -> Key:
    return event.cursor, str(event.type), dict(event.payload)


async def read(loop: StatefulAgentLoop, session: str, after: int | str = 0) -> list[AgentEvent]:
    return [event async for event in loop.watch(session, after=after, follow=False)]


async def eventful(place: Place) -> str:
    """A session in which about everything happened that records tell of."""
    retry = AgentLoopConfig(retry_policy=LLMRetryPolicy(backoff_initial=0))
    loop = place.loop(
        calls(call("add", a=1), call("add", a=9), text="Both."), fail(LLMError("lost"), after="It "), "It is one.", config=retry
    )
    session = await loop.new_session()
    await loop.send("go", session, max_rounds=7)
    await cut_off(place, session)
    await place.loop("Healed.").send("again", session, heal_pending=True)
    await cut_off(place, session)
    assert await place.loop().abort_pending(session) == 1
    with pytest.raises(LLMError):
        await place.loop(fail(LLMError("down"))).send("try", session)
    await place.loop("Up.").resume(session)
    await place.loop(call("add", a=2), "Summary.").send("count", session, max_rounds=1)
    return session


async def cut_off(place: Place, session: str) -> None:
    """A process that dies while a tool runs."""
    dying = place.loop(call("stuck"))
    began = asyncio.Event()
    dying.event_bus.subscribe("tool_call_started", lambda _: began.set())
    sending = asyncio.create_task(dying.send("hang", session))
    await began.wait()
    store = await dying.ensure_store()
    await store.database.write([Statement("UPDATE pl_sessions SET lease_until = 1, epoch = epoch + 1 WHERE session_id = ?", (session,), 1)])
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)


# acceptance: 133 (at every point)
async def test_a_watch_that_is_cut_at_any_point_goes_on_elsewhere_without_gap_or_repeat(place: Place) -> None:
    session = await eventful(place)
    whole = await read(place.loop(), session)
    assert len(whole) > 40
    assert len({event.cursor for event in whole}) == len(whole)
    elsewhere = place.loop()
    for n, event in enumerate(whole, start=1):
        assert event.cursor is not None
        rest = await read(elsewhere, session, event.cursor)
        assert [key(each) for each in rest] == [key(each) for each in whole[n:]], event.cursor


async def test_a_number_stands_for_the_end_of_that_record(place: Place) -> None:
    session = await eventful(place)
    whole = await read(place.loop(), session)
    for seq in range(whole[-1].record_seq or 0):
        assert [key(event) for event in await read(place.loop(), session, seq)] == [
            key(event) for event in whole if (event.record_seq or 0) > seq
        ], seq


# acceptance: 133 (while it runs)
@pytest.mark.parametrize("seed", range(3))
async def test_readers_that_come_and_go_while_sends_run_see_all_of_it_once(place: Place, seed: int) -> None:
    chance = random.Random(seed)
    script = [step for n in range(4) for step in (calls(call("add", a=n), call("add", a=n + 10)), f"done {n}")]
    driver, others = place.loop(*script), [place.loop(), place.loop()]
    session = await driver.new_session()

    async def send_all() -> None:
        for n in range(4):
            await driver.send(f"go {n}", session)

    seen: list[AgentEvent] = []
    sending = asyncio.create_task(send_all())
    while sum(event.type == "result" for event in seen) < 4:
        after = seen[-1].cursor or 0 if seen else 0
        stop_at = len(seen) + chance.randint(1, 7)
        async with aclosing(chance.choice([driver, *others]).watch(session, after=after)) as events:
            async for event in events:
                seen.append(event)
                if len(seen) >= stop_at or event.type == "result":
                    break
    await sending
    durable = [key(event) for event in seen if event.record_seq is not None]
    assert durable == [key(event) for event in await read(others[0], session)]


async def test_what_a_run_tells_of_its_records_is_what_a_watcher_reads(place: Place) -> None:
    told: list[AgentEvent] = []
    loop = place.loop(calls(call("add", a=1), call("add", a=9)), "It is one.")
    loop.event_bus.subscribe(None, told.append)
    result = await loop.run("go", max_rounds=5)
    live = [event for event in told if event.record_seq is not None]
    read_again = await read(place.loop(), result.session_id)
    assert [(event.cursor, event.type, event.round_index, event.send_index) for event in live] == [
        (event.cursor, event.type, event.round_index, event.send_index) for event in read_again
    ]
    for one, other in zip(live, read_again, strict=True):
        assert {**one.payload, "time_iso": ""} == {**other.payload, "time_iso": ""}
    assert read_again[-1].result == result


async def test_what_passes_is_told_in_its_place_where_the_send_runs(place: Place) -> None:
    loop = place.loop(call("add", a=1), say("It is one."))
    session = await loop.new_session()
    told: list[AgentEvent] = []
    loop.event_bus.subscribe(None, told.append)

    async def watch() -> list[AgentEvent]:
        seen: list[AgentEvent] = []
        async with aclosing(loop.watch(session)) as events:
            async for event in events:
                seen.append(event)
                if event.type == "result":
                    break
        return seen

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    await loop.send("go", session)
    seen = await watching
    assert [str(event.type) for event in seen] == [str(event.type) for event in told]
    assert "".join(event.delta for event in seen) == "It is one."
    assert all(event.cursor is not None for event in seen)


# acceptance: 59 (crash takeover, for who watches)
async def test_every_run_has_one_end_whatever_ended_it(place: Place) -> None:
    session = await eventful(place)
    ends = [event.payload["reason"] for event in await read(place.loop(), session) if event.type == "session_ended"]
    assert ends == ["completed", "interrupted", "completed", "interrupted", "cancelled", "error", "completed", "hit_round_limit"]


async def test_a_watch_ends_with_its_session(place: Place) -> None:
    loop, other = place.loop("one"), place.loop()
    session = await loop.new_session()
    await loop.send("go", session)
    seen: list[AgentEvent] = []

    async def watch() -> None:
        async for event in other.watch(session):
            seen.append(event)

    watching = asyncio.create_task(watch())
    while not seen or seen[-1].type != "result":
        await asyncio.sleep(0)
    await loop.close_session(session)
    await watching
    with pytest.raises(SessionNotFoundError):
        await read(other, session)


async def test_a_watch_ends_when_its_loop_closes(place: Place) -> None:
    loop = place.loop("one")
    session = await loop.new_session()
    await loop.send("go", session)
    seen: list[AgentEvent] = []

    async def watch() -> None:
        async for event in loop.watch(session):
            seen.append(event)

    watching = asyncio.create_task(watch())
    while not seen or seen[-1].type != "result":
        await asyncio.sleep(0)
    await loop.aclose()
    await watching


@pytest.mark.parametrize("after", ["x", "1.", ".2", "-1", -1, True, 1.5, "99", 99, "9.9.9"])
async def test_what_is_no_cursor_of_the_session_is_refused(place: Place, after: Any) -> None:
    loop = place.loop("one")
    session = await loop.new_session()
    await loop.send("go", session)
    with pytest.raises(ValueError, match="no cursor"):
        await read(loop, session, after)


async def test_an_unknown_session_cannot_be_watched(place: Place) -> None:
    with pytest.raises(SessionNotFoundError):
        await read(place.loop(), "sess_none")
    with pytest.raises(SessionNotFoundError):
        async for _ in place.loop().watch("sess_none"):
            pass


async def test_a_watcher_that_is_cancelled_leaves_nothing_behind(place: Place) -> None:
    loop = place.loop(hang(after="One "))
    session = await loop.new_session()
    silent = loop.event_bus.silent

    async def watch() -> None:
        async for _ in loop.watch(session):
            pass

    watching = asyncio.create_task(watch())
    for _ in range(100):
        await asyncio.sleep(0)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert loop.event_bus.silent == silent
    async with asyncio.timeout(60):  # what it asked of the database is answered first
        while [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]:
            await asyncio.sleep(0)


async def test_cursors_outlive_pruning_and_a_pruned_message_says_that_it_is_gone(place: Place) -> None:
    config = AgentLoopConfig(context_tokens=300, context=ContextPolicy(fold_strategy=LLMSummaryFold(keep_last_sends=1)))
    loop = place.loop(call("add", a=1), "one" * 300, "<summary>It was one.</summary>", "two", "three", config=config)
    session = await loop.new_session()
    for text in ("first", "second", "third"):
        await loop.send(text, session)
    before = await read(place.loop(), session)
    assert "auto_compact" in {event.payload.get("kind") for event in before}
    store = await loop.ensure_store()
    assert await store.prune_compacted_messages(session) > 0
    assert await store.prune_usage_rounds(session, keep_last=0) > 0
    after = await read(place.loop(), session)
    assert {event.cursor for event in after} <= {event.cursor for event in before}
    gone = [event for event in before if event.cursor not in {each.cursor for each in after}]
    assert {str(event.type) for event in gone} == {"usage_updated"}
    first = next(event for event in after if event.type == "message_appended")
    assert (first.cursor, first.payload["role"], first.payload["content"]) == ("1.0", "user", None)
    for event in before:
        rest = await read(place.loop(), session, event.cursor or 0)
        assert [key(each) for each in rest] == [key(each) for each in after if place_of(each.cursor) > place_of(event.cursor)]


def place_of(cursor: str | None) -> list[int]:
    return [int(number) for number in (cursor or "").split(".")]


async def test_a_result_that_is_read_has_the_value_of_the_answer_by_the_form_that_its_send_was_begun_with(place: Place) -> None:
    loop = place.loop('{"n": 3}', "[1, 2]", "no JSON")
    schema = {"name": "n", "schema": {"type": "object", "properties": {"n": {"type": "integer"}}}}
    results = [await loop.run("go", output_type=StructuredOutputSpec(**schema)), await loop.run("go", output_type=list[int])]
    results.append(await loop.run("go"))
    read_again = [(await read(place.loop(), result.session_id))[-1].result for result in results]
    assert [result.output for result in read_again] == [{"n": 3}, [1, 2], None] == [result.output for result in results]


class SlowToRead(SessionStore):
    """A store in which a watch does not find its place until it may."""

    may_read: asyncio.Event

    async def spawn_depth(self, session_id: str) -> int:
        await self.may_read.wait()
        return await super().spawn_depth(session_id)


async def test_what_passes_while_a_watch_looks_for_its_place_is_told() -> None:
    store = SlowToRead(MemoryDatabase.with_schema(), MemoryDatabase.dialect)
    store.may_read = asyncio.Event()
    async with StatefulAgentLoop(llm=ScriptedLLM([say("One two three.")]), store=store) as loop:
        session = await loop.new_session()
        events = loop.watch(session)
        first = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        await loop.send("Count.", session)
        store.may_read.set()
        async with aclosing(events), asyncio.timeout(100):
            told = [await first]
            while told[-1].type != "result":
                told.append(await anext(events))
    assert "".join(event.delta for event in told) == "One two three."
