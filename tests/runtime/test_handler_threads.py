"""The threads of synchronous handlers: as few as are needed, no more than allowed, and nothing runs that was reported as failed."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from scarce import no_threads

from power_loop.runtime.threads import HandlerThreads

LONG_S = 60.0


class Gate:
    """A call that ends when it is let go."""

    def __init__(self) -> None:
        self.begun, self.opened = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.opened.wait(LONG_S)
        return "through"

    async def entered(self) -> None:
        await asyncio.to_thread(self.begun.wait, LONG_S)


class Told:
    """What came late."""

    def __init__(self) -> None:
        self.came = asyncio.Event()
        self.late: list[Any] = []

    async def __call__(self, value: Any, error: BaseException | None) -> None:
        self.late.append((value, error))
        self.came.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.opened.set()


@pytest.fixture
def threads() -> Iterator[HandlerThreads]:
    made = HandlerThreads(2)
    yield made
    made.close()


def here() -> threading.Thread:
    return threading.current_thread()


async def turns(n: int = 5) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


# --- who runs what -------------------------------------------------------------------------------------------


async def test_a_call_that_no_thread_can_be_started_for_is_never_run(threads: HandlerThreads, gate: Gate) -> None:
    ran: list[str] = []
    busy = asyncio.create_task(threads.run(gate))
    await gate.entered()
    with no_threads(), pytest.raises(RuntimeError, match="thread"):
        await threads.run(lambda: ran.append("reported as failed"))
    gate.opened.set()
    assert await busy == "through"
    await threads.run(lambda: ran.append("later"))
    assert ran == ["later"]


async def test_without_a_new_thread_an_idle_one_serves(threads: HandlerThreads) -> None:
    await threads.run(here)
    with no_threads():
        assert await threads.run(lambda: "served") == "served"


async def test_calls_in_turn_share_one_thread(threads: HandlerThreads) -> None:
    assert len({await threads.run(here) for _ in range(50)}) == 1


async def test_calls_at_once_run_side_by_side_on_no_more_threads_than_allowed(threads: HandlerThreads) -> None:
    both = threading.Barrier(2)
    ran_in = await asyncio.gather(*(threads.run(lambda: both.wait(LONG_S) is not None and here()) for _ in range(6)))
    assert len(set(ran_in)) == 2


async def test_several_event_loops_share_the_threads(threads: HandlerThreads) -> None:
    async def some() -> list[int]:
        return list(await asyncio.gather(*(threads.run(lambda n=n: n) for n in range(20))))

    results = await asyncio.gather(*(asyncio.to_thread(lambda: asyncio.run(some())) for _ in range(4)))
    assert results == [list(range(20))] * 4


async def test_a_call_has_its_callers_context_and_leaves_no_mark_on_it(threads: HandlerThreads) -> None:
    word: ContextVar[str] = ContextVar("word")
    word.set("mine")

    def change() -> str:
        before = word.get()
        word.set("changed")
        return before

    assert [await threads.run(change) for _ in range(2)] == ["mine", "mine"]
    assert word.get() == "mine"


@pytest.mark.parametrize("error", [ValueError("no"), StopIteration("no"), SystemExit(3), asyncio.CancelledError("no")], ids=repr)
async def test_whatever_a_call_raises_is_raised_and_its_thread_goes_on(threads: HandlerThreads, error: BaseException) -> None:
    raised: list[BaseException] = []

    def explode() -> None:
        raise error

    async def calls() -> None:
        try:
            await threads.run(explode)
        except BaseException as caught:
            raised.append(caught)

    await calls()
    assert raised[0] is error or isinstance(raised[0], RuntimeError)  # a coroutine wraps a StopIteration
    with no_threads():
        assert await threads.run(lambda: "next") == "next"


# --- cancelled -------------------------------------------------------------------------------------------------


async def test_a_call_that_is_cancelled_before_a_thread_took_it_is_never_run(gate: Gate) -> None:
    threads, ran, told = HandlerThreads(1), list[str](), Told()
    busy = asyncio.create_task(threads.run(gate))
    await gate.entered()
    waiting = asyncio.create_task(threads.run(lambda: ran.append("cancelled"), told))
    await turns()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    gate.opened.set()
    await busy
    await threads.run(lambda: ran.append("next"))
    await threads.settle()
    threads.close()
    assert (ran, told.late) == (["next"], [])


async def test_what_a_call_gives_that_is_cancelled_while_it_runs_is_told_late(threads: HandlerThreads, gate: Gate) -> None:
    told = Told()
    running = asyncio.create_task(threads.run(gate, told))
    await gate.entered()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    gate.opened.set()
    async with asyncio.timeout(LONG_S):
        await told.came.wait()
    await threads.settle()
    assert told.late == [("through", None)]


async def test_what_a_call_gives_that_is_cancelled_as_it_lands_is_told_late(gate: Gate) -> None:
    threads, told, loop = HandlerThreads(1), Told(), asyncio.get_running_loop()
    cancelling = threading.Event()

    def cancel_it() -> None:
        loop.call_soon_threadsafe(running.cancel)
        cancelling.set()

    running = asyncio.create_task(threads.run(gate, told))
    await gate.entered()
    behind = asyncio.create_task(threads.run(cancel_it))
    await turns()
    gate.opened.set()
    assert cancelling.wait(LONG_S), "with the event loop held, so that both come in one turn of it"
    with pytest.raises(asyncio.CancelledError):
        await running
    await behind
    await threads.settle()
    threads.close()
    assert told.late == [("through", None)]


# --- the end ------------------------------------------------------------------------------------------------------


async def test_closing_ends_the_idle_threads_and_cancels_who_waits_for_one(gate: Gate) -> None:
    threads, ran, used = HandlerThreads(2), list[str](), list[threading.Thread]()
    other = Gate()
    busy = [asyncio.create_task(threads.run(call)) for call in (gate, other)]
    await gate.entered()
    await other.entered()
    used += [thread for thread in threading.enumerate() if thread.name.startswith("power-loop-tool")]
    waiting = asyncio.create_task(threads.run(lambda: ran.append("never")))
    await turns()
    threads.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(RuntimeError, match="closed"):
        await threads.run(lambda: ran.append("never"))
    for each in (gate, other):
        each.opened.set()
    assert await asyncio.gather(*busy) == ["through", "through"], "what runs is told all the same"
    for thread in used:
        await asyncio.to_thread(thread.join, LONG_S)
    assert not any(thread.is_alive() for thread in used)
    assert ran == []


async def test_threads_that_nobody_closes_end_when_their_pool_is_forgotten() -> None:
    threads = HandlerThreads()
    thread = await threads.run(here)
    del threads
    gc.collect()
    await asyncio.to_thread(thread.join, LONG_S)
    assert not thread.is_alive()


HANGS = """
import asyncio, threading
from power_loop.runtime.threads import HandlerThreads

async def main():
    begun, threads = threading.Event(), HandlerThreads()
    task = asyncio.create_task(threads.run(lambda: begun.set() or threading.Event().wait()))
    while not begun.is_set():
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait((task,))
    threads.close()

asyncio.run(main())
print("over")
"""


def test_a_call_that_hangs_keeps_no_interpreter_from_its_end() -> None:
    done = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=LONG_S, check=True)
    assert (done.stdout, done.stderr) == ("over\n", "")
