"""The bus in threaded mode: a slow listener delays nobody, the queue is bounded, and the policy says what gives way."""

from __future__ import annotations

import asyncio
import os
import threading
from contextvars import ContextVar
from typing import Any

import pytest

from power_loop.contracts.events import AgentEvent
from power_loop.runtime import bus_thread
from power_loop.runtime.bus import AgentEventBus

LONG_S = 30.0


class Slow:
    """A subscriber that is stuck with its first event until the gate is opened."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.stuck, self.gate = threading.Event(), threading.Event()

    def __call__(self, event: AgentEvent) -> None:
        self.stuck.set()
        assert self.gate.wait(LONG_S)
        self.heard.append(event.payload["n"])


def bus_with(slow: Slow, **settings: Any) -> AgentEventBus:
    """A bus whose worker is busy with event 0."""
    bus = AgentEventBus(sync_dispatch="thread", **settings)
    bus.subscribe(None, slow)
    bus.publish(numbered(0))
    assert slow.stuck.wait(LONG_S)
    return bus


def numbered(n: int) -> AgentEvent:
    return AgentEvent("my_own", {"n": n})


# acceptance: 57
async def test_a_slow_subscriber_does_not_delay_publishing() -> None:
    slow = Slow()
    bus = bus_with(slow)
    for n in range(1, 10):
        bus.publish(numbered(n))
    assert slow.heard == [], "every publish returned while the subscriber was stuck"
    slow.gate.set()
    assert await bus.drain()
    assert slow.heard == list(range(10))
    assert bus.dropped == 0
    bus.shutdown()


# acceptance: 57
def test_sync_subscribers_run_inline_by_default_and_on_a_worker_in_threaded_mode() -> None:
    ran_in: list[str] = []
    for bus in (AgentEventBus(), AgentEventBus(sync_dispatch="thread")):
        bus.subscribe(None, lambda _: ran_in.append(threading.current_thread().name))
        bus.publish(numbered(0))
        bus.shutdown()
    assert ran_in == [threading.current_thread().name, "power-loop-events"]


# acceptance: 57
@pytest.mark.parametrize(
    ("on_overflow", "heard"),
    [("drop_newest", [0, 1, 2]), ("drop_oldest", [0, 3, 4])],
)
def test_a_full_queue_drops_what_its_policy_says_and_counts_it(on_overflow: str, heard: list[int]) -> None:
    slow = Slow()
    bus = bus_with(slow, queue_maxsize=2, on_overflow=on_overflow)
    for n in (1, 2, 3, 4):
        bus.publish(numbered(n))
    assert bus.dropped == 2
    slow.gate.set()
    bus.shutdown()
    assert slow.heard == heard


# acceptance: 57
def test_with_block_a_full_queue_makes_the_publisher_wait_and_drops_nothing() -> None:
    slow = Slow()
    bus = bus_with(slow, queue_maxsize=1, on_overflow="block")
    bus.publish(numbered(1))
    published = threading.Event()

    def publish() -> None:
        bus.publish(numbered(2))
        published.set()

    thread = threading.Thread(target=publish)
    thread.start()
    assert not published.is_set()
    slow.gate.set()
    assert published.wait(LONG_S)
    thread.join()
    bus.shutdown()
    assert slow.heard == [0, 1, 2]
    assert bus.dropped == 0


async def test_with_block_publish_async_leaves_the_event_loop_free() -> None:
    slow = Slow()
    bus = bus_with(slow, queue_maxsize=1, on_overflow="block")
    await bus.publish_async(numbered(1))
    waiting = asyncio.create_task(bus.publish_async(numbered(2)))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    slow.gate.set()
    await waiting
    assert await bus.drain()
    assert slow.heard == [0, 1, 2]
    bus.shutdown()


async def test_drain_gives_up_after_its_timeout_and_leaves_the_rest_to_be_heard() -> None:
    slow = Slow()
    bus = bus_with(slow)
    assert not await bus.drain(timeout=0)
    slow.gate.set()
    assert await bus.drain()
    assert slow.heard == [0]
    bus.shutdown()


def test_shutdown_flushes_and_what_comes_later_is_counted_as_dropped() -> None:
    slow = Slow()
    bus = bus_with(slow)
    bus.publish(numbered(1))
    slow.gate.set()
    bus.shutdown()
    assert slow.heard == [0, 1]
    bus.publish(numbered(2))
    bus.shutdown()
    assert (slow.heard, bus.dropped) == ([0, 1], 1)


def test_a_shutdown_that_runs_out_of_time_drops_the_rest_and_counts_it() -> None:
    slow = Slow()
    bus = bus_with(slow)
    bus.publish(numbered(1))
    bus.shutdown(timeout=0)
    assert bus.dropped == 1
    slow.gate.set()


async def test_a_worker_that_nobody_needs_goes_home_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_thread, "IDLE_S", 0.001)
    bus, workers = AgentEventBus(sync_dispatch="thread"), list[threading.Thread]()
    bus.subscribe(None, lambda _: workers.append(threading.current_thread()))
    for _ in range(2):
        bus.publish(numbered(0))
        assert await bus.drain()
        workers[-1].join(LONG_S)
        assert not workers[-1].is_alive()
    assert len(workers) == 2


async def test_async_and_inline_handlers_do_not_wait_behind_the_queue() -> None:
    slow, heard = Slow(), list[str]()
    bus = bus_with(slow)

    async def async_handler(_: AgentEvent) -> None:
        heard.append("async")

    bus.subscribe(None, async_handler)
    bus.subscribe(None, lambda _: heard.append("inline"), inline=True)
    await bus.publish_async(numbered(1))
    assert heard == ["async", "inline"]
    slow.gate.set()
    bus.shutdown()


async def test_a_handler_that_publishes_to_its_own_full_bus_does_not_wait_for_itself() -> None:
    bus = AgentEventBus(sync_dispatch="thread", queue_maxsize=1, on_overflow="block")
    heard: list[int] = []

    def hear(event: AgentEvent) -> None:
        heard.append(event.payload["n"])
        if event.payload["n"] == 0:
            bus.publish(numbered(1))
            bus.publish(numbered(2))

    bus.subscribe(None, hear)
    bus.publish(numbered(0))
    assert await bus.drain()
    bus.shutdown()
    assert heard == [0, 1, 2]


@pytest.mark.usefixtures("caplog")
async def test_a_raising_subscriber_does_not_stop_the_worker() -> None:
    bus, heard = AgentEventBus(sync_dispatch="thread", suppress_subscriber_errors=False), list[AgentEvent]()

    def raises(_: AgentEvent) -> None:
        raise ValueError("no")

    bus.subscribe(None, raises)
    bus.subscribe(None, heard.append)
    bus.publish(numbered(0))
    bus.publish(numbered(1))
    assert await bus.drain()
    assert (len(heard), bus.errors) == (2, 2)
    bus.shutdown()


def test_a_sync_handler_that_returns_an_awaitable_is_awaited_on_the_worker() -> None:
    bus, heard = AgentEventBus(sync_dispatch="thread"), list[AgentEvent]()

    async def later(event: AgentEvent) -> None:
        heard.append(event)

    bus.subscribe(None, lambda event: later(event))
    bus.publish(numbered(0))
    bus.shutdown()
    assert len(heard) == 1


def test_events_of_many_threads_are_each_heard_once_and_in_the_order_of_their_thread() -> None:
    bus, heard = AgentEventBus(sync_dispatch="thread", queue_maxsize=10_000), list[tuple[int, int]]()
    bus.subscribe(None, lambda event: heard.append((event.payload["thread"], event.payload["n"])))

    def publish(number: int) -> None:
        for n in range(200):
            bus.publish(AgentEvent("my_own", {"thread": number, "n": n}))

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bus.shutdown()
    assert len(heard) == 800
    for number in range(4):
        assert [n for thread, n in heard if thread == number] == list(range(200))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_hears_its_own_events_and_not_again_those_of_its_parent() -> None:
    slow = Slow()
    bus = bus_with(slow)
    bus.publish(numbered(1))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        slow.gate.set()
        bus.publish(numbered(7))
        bus.shutdown()
        os.write(write, repr(slow.heard).encode())
        os._exit(0)
    os.close(write)
    assert os.read(read, 100) == b"[7]"
    os.close(read)
    os.waitpid(child, 0)
    slow.gate.set()
    bus.shutdown()
    assert slow.heard == [0, 1]


class Closing(asyncio.SelectorEventLoop):
    """An event loop that looks alive, and is closed by the time that something is handed to it."""

    def is_running(self) -> bool:
        return self.is_closed()


async def test_a_subscriber_whose_event_loop_just_closed_keeps_nobody_from_hearing() -> None:
    heard: list[int] = []

    async def noted(event: AgentEvent) -> None:
        heard.append(event.payload["n"])

    bus = AgentEventBus(sync_dispatch="thread")
    bus.subscribe(None, lambda event: noted(event))
    closed = Closing()
    closed.close()
    bus._subscribers[0].loop = closed
    for n in range(3):
        bus.publish(numbered(n))
    assert await bus.drain(timeout=LONG_S)
    assert heard == [0, 1, 2]
    bus.shutdown()


async def test_a_subscriber_on_the_worker_finds_what_the_publisher_was_doing() -> None:
    doing, found = ContextVar[str]("doing"), list[str]()
    bus = AgentEventBus(sync_dispatch="thread")
    bus.subscribe(None, lambda event: found.append(doing.get()))

    async def does(what: str) -> None:
        doing.set(what)
        bus.publish(numbered(0))
        await bus.publish_async(numbered(1))

    await asyncio.gather(does("one"), does("two"))
    assert await bus.drain()
    assert sorted(found) == ["one", "one", "two", "two"]
    bus.shutdown()
