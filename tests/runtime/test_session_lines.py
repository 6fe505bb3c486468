"""`SessionLines`: one driver per session in this process, first come, first served, over event loops and threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import pytest

from power_loop.runtime.line import SessionLines


async def settle() -> None:
    """Let everything that is ready run."""
    for _ in range(5):
        await asyncio.sleep(0)


def in_thread(work: Coroutine[Any, Any, None]) -> threading.Thread:
    thread = threading.Thread(target=asyncio.run, args=(work,))
    thread.start()
    return thread


async def test_first_come_first_served() -> None:
    lines, order = SessionLines(), list[int]()

    async def drive(number: int) -> None:
        async with lines.held("s"):
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(drive(number) for number in range(20)))
    assert order == list(range(20))
    assert lines.names() == []


async def test_nobody_waits_for_another_session() -> None:
    lines = SessionLines()
    async with lines.held("a"), lines.held("b"):
        assert sorted(lines.names()) == ["a", "b"]
        assert not lines.enter("a")
        assert lines.enter("c")
    lines.leave("c")
    assert lines.names() == []


async def test_waiting_for_a_free_session_takes_it() -> None:
    lines = SessionLines()
    await lines.wait("s")
    assert not lines.enter("s")
    lines.leave("s")
    assert lines.enter("s")


async def test_whoever_leaves_hands_over_so_that_nobody_slips_in_between() -> None:
    lines = SessionLines()
    assert lines.enter("s")
    waiter = asyncio.create_task(lines.wait("s"))
    await settle()
    lines.leave("s")
    assert not lines.enter("s"), "the turn is the waiter's already, though it does not know yet"
    await waiter
    lines.leave("s")
    assert lines.names() == []


async def test_a_waiter_that_gives_up_is_passed_over() -> None:
    lines = SessionLines()
    lines.enter("s")
    first, second = asyncio.create_task(lines.wait("s")), asyncio.create_task(lines.wait("s"))
    await settle()
    first.cancel()
    await settle()
    lines.leave("s")
    await second
    lines.leave("s")
    assert lines.names() == []


@pytest.mark.parametrize("ticks", [0, 1, 2])
async def test_a_waiter_that_gives_up_while_its_turn_is_on_the_way_hands_it_on(ticks: int) -> None:
    lines = SessionLines()
    lines.enter("s")
    first, second = asyncio.create_task(lines.wait("s")), asyncio.create_task(lines.wait("s"))
    await settle()
    lines.leave("s")
    for _ in range(ticks):
        await asyncio.sleep(0)
    first.cancel()
    with suppress(asyncio.CancelledError):
        await first
        lines.leave("s")  # it got its turn before the cancel, and keeps it like anyone
    await second
    lines.leave("s")
    assert lines.names() == []


async def test_the_last_one_to_give_up_leaves_nothing_behind() -> None:
    lines = SessionLines()
    lines.enter("s")
    waiter = asyncio.create_task(lines.wait("s"))
    await settle()
    lines.leave("s")
    waiter.cancel()
    await settle()
    assert lines.names() == []


async def test_a_driver_that_fails_gives_the_session_back() -> None:
    lines = SessionLines()
    with pytest.raises(ValueError, match="broken"):
        async with lines.held("s"):
            raise ValueError("broken")
    assert lines.names() == []


async def test_a_waiter_whose_event_loop_was_closed_is_passed_over() -> None:
    lines = SessionLines()
    lines.enter("s")

    def wait_and_vanish() -> None:
        loop = asyncio.new_event_loop()
        task = loop.create_task(lines.wait("s"))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # left undone on purpose

    thread = threading.Thread(target=wait_and_vanish)
    thread.start()
    thread.join()
    waiter = asyncio.create_task(lines.wait("s"))
    await settle()
    lines.leave("s")
    await waiter
    lines.leave("s")
    assert lines.names() == []


async def test_the_line_keeps_its_order_over_threads() -> None:
    lines, order, standing = SessionLines(), list[int](), threading.Semaphore(0)
    lines.enter("s")

    async def drive(number: int) -> None:
        waiting = asyncio.create_task(lines.wait("s"))
        await asyncio.sleep(0)
        standing.release()
        await waiting
        order.append(number)
        lines.leave("s")

    threads = list[threading.Thread]()
    for number in range(5):
        threads.append(in_thread(drive(number)))
        await asyncio.to_thread(standing.acquire)
    lines.leave("s")
    await asyncio.to_thread(lambda: [thread.join() for thread in threads])
    assert order == list(range(5))
    assert lines.names() == []


async def test_one_at_a_time_however_many_loops_and_cancels() -> None:
    lines, inside, crowded, served = SessionLines(), list[int](), list[list[int]](), list[int]()

    async def drive(number: int) -> None:
        async with lines.held("s"):
            inside.append(number)
            try:
                await asyncio.sleep(0)
                served.append(number)
            finally:
                if inside != [number]:
                    crowded.append(list(inside))
                inside.remove(number)

    async def crowd() -> None:
        tasks = [asyncio.create_task(drive(number)) for number in range(30)]
        for task in tasks[::3]:
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    threads = [in_thread(crowd()) for _ in range(3)]
    await asyncio.to_thread(lambda: [thread.join() for thread in threads])
    assert crowded == []
    assert len(served) >= 60
    assert lines.names() == []


class Slow(dict[str, Any]):
    """A table that tells when a thread has looked at it, and lets it go on when another one has done something."""

    def __init__(self) -> None:
        self.looked, self.go_on = threading.Event(), threading.Event()

    def setdefault(self, key: str, default: Any = None) -> Any:
        self._pause()
        return super().setdefault(key, default)

    def get(self, key: str, default: Any = None) -> Any:
        found = super().get(key, default)
        self._pause()
        return found

    def _pause(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            self.looked.set()
            self.go_on.wait(30)


def test_nobody_slips_in_while_another_thread_finds_the_session_free() -> None:
    lines, table, held = SessionLines(), Slow(), list[str]()
    lines._lines = table

    async def waits() -> None:
        waiting = asyncio.ensure_future(lines.wait("s"))
        done, _ = await asyncio.wait([waiting], timeout=0.05)
        held.extend("waiter" for _ in done)
        waiting.cancel()

    thread = in_thread(waits())
    assert table.looked.wait(30)
    held.extend(["who came"] if lines.enter("s") else [])
    table.go_on.set()
    thread.join()
    assert len(held) == 1
