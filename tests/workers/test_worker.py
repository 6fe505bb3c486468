"""A worker in one process: what it drives, when, and what it leaves alone."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest

from power_loop import (
    AgentLoopConfig,
    HumanInputRequired,
    LLMError,
    LLMRetryPolicy,
    RunPolicy,
    SessionStore,
    StatefulAgentLoop,
    tool,
)
from power_loop.contracts.errors import LLMPermanentError
from power_loop.contracts.records import StopRequested, ToolReturned, UserSaid
from power_loop.contracts.store import MAX_TAKEOVERS
from power_loop.store.claims import Standing
from power_loop.store.memory import MemoryDatabase
from power_loop.testing import Died, DyingStore, FunctionLLM, ManualClock, ScriptedLLM, call, check_invariants, fail, hang, say
from power_loop.worker import FIRST_RETRY_S, LONGEST_PAUSE_S, LONGEST_RETRY_S, RESTING_MS, Worker, doubled

MINUTE_S = 60.0


class Stand(SessionStore):
    """A store whose time stands still until it is moved, and the loops that were made on it."""

    def __init__(self) -> None:
        super().__init__(MemoryDatabase.with_schema(), MemoryDatabase.dialect, clock=ManualClock())
        self.loops: list[StatefulAgentLoop] = []


@pytest.fixture
async def store() -> AsyncIterator[Stand]:
    stand = Stand()
    yield stand
    for loop in stand.loops:
        await loop.aclose()
    await stand.close()


def echo() -> FunctionLLM:
    return FunctionLLM(lambda request: say(f"heard: {request.messages[-1]['content']}"))


def loop_on(stand: Stand, llm: Any, *, through: SessionStore | None = None, **settings: Any) -> StatefulAgentLoop:
    """A loop on the stand, or on what it looks like ``through``."""
    loop = StatefulAgentLoop(llm=llm, store=through or stand, **settings)
    stand.loops.append(loop)
    return loop


async def texts(loop: StatefulAgentLoop, session: str) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in await loop.get_messages(session)]


def clock_of(store: Stand) -> ManualClock:
    assert isinstance(store.clock, ManualClock)
    return store.clock


async def row(store: Stand, session: str, columns: str) -> tuple[Any, ...]:
    return (await store.database.read(f"SELECT {columns} FROM pl_sessions WHERE session_id = ?", (session,)))[0]


# --- words ------------------------------------------------------------------------------------------


async def test_what_was_enqueued_is_answered_and_then_nothing_is_due(store: Stand) -> None:
    loop = loop_on(store, echo())
    worker = Worker(loop)
    sessions = [await loop.new_session() for _ in range(3)]
    for session in sessions[:2]:
        await loop.enqueue("hello", session)
    assert await worker.run_once() == 2
    for session in sessions[:2]:
        ((_, said), (_, answer)) = await texts(loop, session)
        assert "hello" in said
        assert "hello" in answer
        assert await row(store, session, "runnable_at, claim, claimed_until, attempts, holder") == (None, None, 0, 0, None)
    assert await texts(loop, sessions[2]) == []
    assert await worker.run_once() == 0
    assert await check_invariants(store, at_rest=True) == []


async def test_sessions_are_taken_in_the_order_in_which_they_began_to_wait(store: Stand) -> None:
    loop = loop_on(store, echo())
    sessions = [await loop.new_session() for _ in range(3)]
    for session in reversed(sessions):
        await loop.enqueue("hello", session)
        await clock_of(store).advance(1)
    answered: list[str] = []
    for _ in sessions:
        await Worker(loop, concurrency=1).run_once()
        answered += [session for session in sessions if session not in answered and await texts(loop, session)]
    assert answered == sessions[::-1]


async def test_a_word_for_later_is_heard_when_its_time_has_come(store: Stand) -> None:
    loop = loop_on(store, echo())
    session = await loop.new_session()
    now = store.clock.now_ms()
    await store.post(session, UserSaid("later"), key="a", not_before=now + 60_000)
    await store.post(session, UserSaid("much later"), key="b", not_before=now + 120_000)
    assert await Worker(loop).run_once() == 0
    assert len(await store.inbox(session, due=False)) == 2
    await clock_of(store).advance(MINUTE_S)
    assert await Worker(loop).run_once() == 1
    assert await row(store, session, "runnable_at") == (now + 120_000,)
    assert [item.key for item in await store.inbox(session, due=False)] == ["b"]
    await clock_of(store).advance(MINUTE_S)
    assert await Worker(loop).run_once() == 1
    assert [role for role, _ in await texts(loop, session)] == ["user", "assistant"] * 2


async def test_a_word_that_a_send_by_hand_heard_costs_a_worker_one_look(store: Stand) -> None:
    loop = loop_on(store, echo())
    session = await loop.new_session()
    await loop.enqueue("one", session)
    await loop.send("two", session)
    asked = len(loop.llm.requests)
    assert [await Worker(loop).run_once() for _ in range(2)] == [1, 0]
    assert len(loop.llm.requests) == asked


async def test_a_cancel_that_came_too_late_is_dropped(store: Stand) -> None:
    loop = loop_on(store, echo())
    session = await loop.new_session()
    await store.post(session, StopRequested("cancelled", "late", "cancel"), key="late")
    assert [await Worker(loop).run_once() for _ in range(2)] == [1, 0]
    assert await store.inbox(session) == []
    assert await texts(loop, session) == []


# --- whose sessions ---------------------------------------------------------------------------------


async def test_a_worker_drives_the_sessions_of_its_own_agent_only(store: Stand) -> None:
    support, sales = loop_on(store, echo(), name="support"), loop_on(store, echo(), name="sales")
    sessions = {name: await loop.new_session() for name, loop in (("support", support), ("sales", sales))}
    nobodys = await store.create_session()
    for session in (*sessions.values(), nobodys):
        await support.enqueue("hello", session)
    assert await Worker(support).run_once() == 1
    assert len(await texts(support, sessions["support"])) == 2
    assert await Worker(support, agents=["sales"]).run_once() == 1
    assert await Worker(support, agents=["support", "sales"]).run_once() == 0
    assert await Worker(support, agents="*").run_once() == 1
    assert len(await texts(support, nobodys)) == 2


async def test_archived_sessions_are_left_alone(store: Stand) -> None:
    loop = loop_on(store, echo())
    session = await loop.new_session()
    await loop.enqueue("hello", session)
    await store.archive_session(session)
    assert await Worker(loop).run_once() == 0
    await store.unarchive_session(session)
    assert await Worker(loop).run_once() == 1


async def test_a_session_that_is_driven_by_hand_is_left_to_its_driver(store: Stand) -> None:
    loop = loop_on(store, ScriptedLLM([hang(), say("never")], strict=False))
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("by hand", session))
    while not loop.llm.requests:
        await asyncio.sleep(0)
    await loop.enqueue("meanwhile", session)
    assert await Worker(loop_on(store, echo())).run_once() == 0
    await loop.cancel(session)
    await sending


# --- failures ---------------------------------------------------------------------------------------


async def test_a_failed_send_is_tried_again_later_and_later_and_then_left_alone(store: Stand) -> None:
    loop = loop_on(store, ScriptedLLM([fail(LLMError("down"))] * 5, strict=False))
    session = await loop.new_session()
    await loop.enqueue("hello", session)
    worker = Worker(loop, max_attempts=3)
    assert await worker.run_once() == 1
    for n in range(3):
        assert await worker.run_once() == 0, "not before its time"
        await clock_of(store).advance(FIRST_RETRY_S * 2**n)
        assert await worker.run_once() == 1
    await clock_of(store).advance(LONGEST_RETRY_S)
    assert await worker.run_once() == 0
    assert len(loop.llm.requests) == 4
    assert await row(store, session, "attempts, runnable_at") == (4, None)
    assert [finding.code for finding in (await loop.doctor(session)).findings] == ["interrupted_send"], "nobody else will tell of it"
    assert [role for role, _ in await texts(loop, session)] == ["user"], "the word is there once"


def test_a_pause_keeps_its_bound_however_long_the_database_is_away() -> None:
    assert [doubled(0.5, times, LONGEST_PAUSE_S) for times in (0, 1, 5, 6, 10**6)] == [0.5, 1.0, 16.0, 30.0, 30.0]
    assert doubled(60.0, 3, LONGEST_PAUSE_S) == 60.0


async def test_a_degraded_send_goes_on_and_ends_well(store: Stand) -> None:
    config = AgentLoopConfig(retry_policy=LLMRetryPolicy(max_attempts=1))
    loop = loop_on(store, ScriptedLLM([fail(LLMError("down")), say("up again")]), config=config)
    session = await loop.new_session()
    await loop.enqueue("hello", session)
    assert await Worker(loop).run_once() == 1
    await clock_of(store).advance(FIRST_RETRY_S)
    assert await Worker(loop).run_once() == 1
    assert (await texts(loop, session))[-1] == ("assistant", "up again")
    assert await row(store, session, "attempts, runnable_at, send_index") == (0, None, 1)


async def test_what_no_repetition_mends_is_not_repeated(store: Stand) -> None:
    config = AgentLoopConfig(retry_policy=LLMRetryPolicy(max_attempts=1))
    loop = loop_on(store, ScriptedLLM([fail(LLMPermanentError("no such model"))]), config=config)
    session = await loop.new_session()
    await loop.enqueue("hello", session)
    assert await Worker(loop).run_once() == 1
    assert await row(store, session, "attempts, runnable_at") == (0, None)


async def test_a_send_that_failed_by_hand_is_its_callers_business(store: Stand) -> None:
    loop = loop_on(store, ScriptedLLM([fail(LLMError("down"))]))
    session = await loop.new_session()
    with pytest.raises(LLMError):
        await loop.send("hello", session)
    await clock_of(store).advance(LONGEST_RETRY_S)
    assert await Worker(loop).run_once() == 0


async def test_a_new_word_after_the_last_attempt_begins_a_new_send(store: Stand) -> None:
    loop = loop_on(store, ScriptedLLM([fail(LLMError("down"))] * 2 + [say("better")]))
    session = await loop.new_session()
    worker = Worker(loop, max_attempts=1)
    await loop.enqueue("one", session)
    await worker.run_once()
    await clock_of(store).advance(LONGEST_RETRY_S)
    await worker.run_once()
    await loop.enqueue("two", session)
    assert await worker.run_once() == 1
    assert (await texts(loop, session))[-1] == ("assistant", "better")
    assert await row(store, session, "attempts, send_index") == (0, 2)


# --- after deaths -----------------------------------------------------------------------------------


@tool(effects="pure")
async def look(n: int) -> str:
    """Look."""
    return f"found {n}"


async def cut_short(store: Stand, session: str, said: str | None = "look", **settings: Any) -> None:
    """Leave the session as a process leaves it that dies while the model is asked: after ``said``, or when it took over."""
    llm = ScriptedLLM([call("look", n=1), hang()] if said else [hang()], strict=False)
    # What the task would write on its way out is the first commit that it does not live to see.
    loop = loop_on(store, llm, through=DyingStore(store, at=4 if said else 2, when="before"), tools=[look])
    asked = asyncio.create_task(loop.send(said, session, **settings) if said else loop.resume(session))
    while len(llm.requests) < (2 if said else 1):
        await asyncio.sleep(0)
    asked.cancel()
    await asyncio.wait([asked])
    assert isinstance(asked.exception(), Died)


# acceptance: 35 (a worker resumes)
async def test_a_send_whose_holder_died_goes_on_once_its_lease_has_run_out(store: Stand) -> None:
    session = await store.create_session(agent="agent")
    await cut_short(store, session)
    loop = loop_on(store, ScriptedLLM([say("done")]), tools=[look])
    worker = Worker(loop)
    assert await worker.run_once() == 0
    await clock_of(store).advance(MINUTE_S)
    assert await worker.run_once() == 1
    assert [role for role, _ in await texts(loop, session)] == ["user", "assistant", "tool", "assistant"]
    assert await check_invariants(store, at_rest=True) == []


# acceptance: 35 (nothing is healed without being asked)
async def test_without_recover_a_cut_off_send_is_left_as_it_is(store: Stand) -> None:
    session = await store.create_session(agent="agent")
    await cut_short(store, session)
    loop = loop_on(store, ScriptedLLM([]), tools=[look])
    await clock_of(store).advance(2 * MINUTE_S)
    before = await store.look(session)
    assert await Worker(loop, recover=False).run_once() == 0
    assert await store.look(session) == before


async def test_what_was_set_for_one_send_holds_when_a_worker_goes_on_with_it_and_no_longer(store: Stand) -> None:
    session = await store.create_session(agent="agent")
    await cut_short(store, session, system_prompt="You look.")
    loop = loop_on(store, ScriptedLLM([say("done"), say("heard")]), tools=[look])
    await clock_of(store).advance(MINUTE_S)
    assert await Worker(loop).run_once() == 1
    await loop.enqueue("And now?", session)
    assert await Worker(loop).run_once() == 1
    assert ["You look." in str(request.system_prompt) for request in loop.llm.requests] == [True, False]


# acceptance: 143
async def test_a_session_that_kills_its_drivers_is_poisoned_and_still_usable_by_hand(store: Stand) -> None:
    session = await store.create_session(agent="agent")
    await cut_short(store, session)
    for n in range(MAX_TAKEOVERS):
        await clock_of(store).advance(MINUTE_S)
        assert not (await store.look(session)).poisoned, n
        await cut_short(store, session, said=None)
    await clock_of(store).advance(MINUTE_S)
    loop = loop_on(store, ScriptedLLM([say("done")]), tools=[look])
    assert await Worker(loop).run_once() == 0
    assert (await store.look(session)).poisoned
    assert (await loop.resume(session)).final_text == "done"
    assert not (await store.look(session)).poisoned


# --- questions --------------------------------------------------------------------------------------


@tool(effects="once")
def book(city: str) -> str:
    """Book a room."""
    raise HumanInputRequired(f"How many nights in {city}?")


async def test_an_answered_question_goes_on_and_words_wait_for_the_answer(store: Stand) -> None:
    loop = loop_on(store, ScriptedLLM([call("book", city="Rome"), say("booked")]), tools=[book])
    session = await loop.new_session()
    waiting = await loop.send("Book.", session)
    worker = Worker(loop)
    assert await worker.run_once() == 0
    await loop.enqueue("With breakfast.", session)
    assert [await worker.run_once() for _ in range(3)] == [1, 0, 0], "a word that may not enter yet is looked at once a minute"
    assert (await row(store, session, "runnable_at"))[0] == store.clock.now_ms() + RESTING_MS
    asked = waiting.pending_interactions[0]
    await store.post(session, ToolReturned(asked["tool_call_id"], "two", name="book", ran=False), key="answer")
    assert await worker.run_once() == 1
    said = await texts(loop, session)
    assert [role for role, _ in said] == ["user", "assistant", "tool", "user", "assistant"]
    assert "With breakfast." in said[3][1]


class Settling(Stand):
    """Somebody does ``meanwhile`` once, when a worker has driven a session and looks how it stands now."""

    meanwhile: Awaitable[Any] | None = None

    async def standing(self, session_id: str) -> Standing | None:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile
        return await super().standing(session_id)


async def test_an_answer_that_comes_while_a_worker_gives_the_session_back_is_heard_at_once() -> None:
    store = Settling()
    loop = loop_on(store, ScriptedLLM([call("book", city="Rome"), say("booked")]), tools=[book])
    session = await loop.new_session()
    waiting = await loop.send("Book.", session)
    worker, asked = Worker(loop), waiting.pending_interactions[0]
    await loop.enqueue("With breakfast.", session)
    store.meanwhile = store.post(session, ToolReturned(asked["tool_call_id"], "two", name="book", ran=False), key="answer")
    assert [await worker.run_once() for _ in range(2)] == [1, 1]
    assert [role for role, _ in await texts(loop, session)] == ["user", "assistant", "tool", "user", "assistant"]
    await loop.aclose()
    await store.close()


# --- its life ---------------------------------------------------------------------------------------


async def test_it_runs_until_it_is_stopped_and_hears_what_comes_meanwhile(store: Stand) -> None:
    loop = loop_on(store, echo())
    session = await loop.new_session()
    worker = Worker(loop, poll_s=0.5)
    running = asyncio.create_task(worker.run())
    await clock_of(store).advance(5)
    await loop.enqueue("hello", session)
    await clock_of(store).advance(5)
    assert len(await texts(loop, session)) == 2
    await worker.stop()
    await running


async def test_stopping_waits_for_what_is_in_hand_and_interrupts_what_takes_too_long(store: Stand) -> None:
    loop = loop_on(store, ScriptedLLM([hang(), say("done after all")]))
    session = await loop.new_session()
    await loop.enqueue("hello", session)
    worker = Worker(loop)
    running = asyncio.create_task(worker.run())
    await clock_of(store).advance(1)
    assert len(loop.llm.requests) == 1
    stopping = asyncio.create_task(worker.stop(drain_timeout_s=10))
    await clock_of(store).advance(9)
    assert not stopping.done()
    await clock_of(store).advance(1)
    await stopping
    await running
    assert (await store.look(session)).holder is None
    assert await Worker(loop).run_once() == 1, "the next one goes on at once"
    assert await texts(loop, session) == [("user", "<follow_up>\nhello\n</follow_up>"), ("assistant", "done after all")]


async def test_a_worker_drives_no_more_than_it_may_at_once(store: Stand) -> None:
    most, now, go_on = 0, 0, asyncio.Event()

    @tool(effects="pure")
    async def slow() -> str:
        """Take its time."""
        nonlocal most, now
        now += 1
        most = max(most, now)
        await go_on.wait()
        now -= 1
        return "done"

    llm = FunctionLLM(lambda request: call("slow") if request.messages[-1]["role"] == "user" else say("done"))
    loop = loop_on(store, llm, tools=[slow])
    sessions = [await loop.new_session() for _ in range(7)]
    for session in sessions:
        await loop.enqueue("go", session)
    worker = Worker(loop, concurrency=3)
    running = asyncio.create_task(worker.run())
    await clock_of(store).advance(2)
    assert now == 3
    go_on.set()
    await clock_of(store).advance(5)
    await worker.stop()
    await running
    assert most == 3
    assert [len(await texts(loop, session)) for session in sessions] == [4] * 7


async def test_bad_settings_are_refused_before_anything_is_done(store: Stand) -> None:
    loop = loop_on(store, echo())
    for settings in ({"concurrency": 0}, {"max_attempts": 0}, {"poll_s": 0}):
        with pytest.raises(ValueError, match="must be positive"):
            Worker(loop, **settings)


async def test_two_loops_on_one_store_share_the_work_and_answer_each_word_once(store: Stand) -> None:
    loops = [loop_on(store, echo(), config=AgentLoopConfig(running=RunPolicy(lease_ttl_s=5))) for _ in range(2)]
    sessions = [await loops[0].new_session() for _ in range(10)]
    for n, session in enumerate(sessions * 3):
        await loops[0].enqueue(f"word {n}", session)
    counts = await asyncio.gather(*(Worker(loop, concurrency=5).run_once() for loop in loops))
    assert sum(counts) == 10
    told = [message for session in sessions for message in await texts(loops[0], session)]
    heard = "".join(content for role, content in told if role == "user")
    assert [heard.count(f"word {n}\n") for n in range(30)] == [1] * 30
    assert await check_invariants(store, at_rest=True) == []


async def test_stopping_ends_also_when_the_work_was_cancelled_again_and_again(store: Stand) -> None:
    loop = loop_on(store, ScriptedLLM([hang()]))
    await loop.enqueue("hello", await loop.new_session())
    worker = Worker(loop)
    running = asyncio.create_task(worker.run())
    await clock_of(store).advance(1)
    while not running.done():
        running.cancel()
        await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await worker.stop(drain_timeout_s=0)


# --- signals ----------------------------------------------------------------------------------------------------


async def test_every_worker_of_a_process_hears_that_it_is_to_end(store: Stand) -> None:
    before = signal.getsignal(signal.SIGTERM)
    workers = [Worker(loop_on(store, echo(), name=name)) for name in ("a", "b", "c")]
    running = [asyncio.create_task(worker.run()) for worker in workers]
    await clock_of(store).advance(1)
    await workers[1].stop()
    signal.raise_signal(signal.SIGTERM)
    async with asyncio.timeout(60):
        await asyncio.gather(*running)
    assert signal.getsignal(signal.SIGTERM) is before


async def test_a_host_that_listens_itself_still_hears_and_keeps_its_handler(store: Stand) -> None:
    heard = list[int]()
    hosts = lambda number, _: heard.append(number)  # noqa: E731  # compared by identity below
    before = signal.signal(signal.SIGTERM, hosts)
    try:
        running = asyncio.create_task(Worker(loop_on(store, echo())).run())
        await clock_of(store).advance(1)
        signal.raise_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            await running
        assert (heard, signal.getsignal(signal.SIGTERM)) == ([signal.SIGTERM], hosts)
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_a_handler_that_was_set_meanwhile_stays(store: Stand) -> None:
    running = asyncio.create_task((worker := Worker(loop_on(store, echo()))).run())
    await clock_of(store).advance(1)
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        await worker.stop()
        await running
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert callable(before)
