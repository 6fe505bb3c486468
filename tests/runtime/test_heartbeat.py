"""The heartbeat: leases are renewed in time, also while the host's code blocks the event loop."""

from __future__ import annotations

import errno
import threading
from collections.abc import Sequence

import pytest
from scarce import no_threads
from times import FakeClock

from power_loop.contracts.errors import StoreUnavailable
from power_loop.contracts.store import Head
from power_loop.runtime.heartbeat import Heartbeat
from power_loop.runtime.session import Session

TTL_MS = 30_000
# The thread looks this often in real time; no test waits for it longer than it takes to be heard.
QUICK_MS = 3


class Store:
    """Writes down what it is asked to renew; first it cannot, once for each of the ``failures``."""

    def __init__(self, *failures: BaseException) -> None:
        self.renewed: list[tuple[list[tuple[str, int]], int]] = []
        self.failures = [*failures]
        self.heard = threading.Event()

    async def renew(self, leases: Sequence[tuple[str, int]], until: int) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.renewed.append((list(leases), until))
        self.heard.set()


def session(name: str, lease_until: int, epoch: int = 1) -> Session:
    return Session(Head(name, epoch=epoch, holder="us", lease_until=lease_until))


def beating(store: Store, clock: FakeClock, *sessions: Session) -> Heartbeat:
    """A heartbeat whose own thread sleeps; beats are ours."""
    heart = Heartbeat(store, clock, TTL_MS)  # type: ignore[arg-type]  # all of the store that it needs
    for each in sessions:
        heart.hold(each)
    return heart


async def test_a_lease_is_renewed_when_a_third_of_it_is_gone() -> None:
    store, clock = Store(), FakeClock()
    heart = beating(store, clock, session("s", TTL_MS, epoch=7))
    clock.now_s = 10.0
    await heart.beat()
    assert store.renewed == [], "two thirds are left"
    clock.now_s = 10.001
    await heart.beat()
    assert store.renewed == [([("s", 7)], 10_001 + TTL_MS)]
    heart.stop()


async def test_one_write_renews_all_that_are_due_and_only_them() -> None:
    store, clock = Store(), FakeClock()
    clock.now_s = 100.0
    due, fresh, given_back = session("due", 105_000), session("fresh", 125_000), session("given back", 0)
    heart = beating(store, clock, due, fresh, given_back, session("also due", 99_000, epoch=2))
    await heart.beat()
    assert store.renewed == [([("due", 1), ("also due", 2)], 130_000)]
    heart.stop()


async def test_what_was_dropped_is_renewed_no_more() -> None:
    store, clock = Store(), FakeClock()
    heart = beating(store, clock, session("s", 1))
    heart.drop("s")
    heart.drop("s")
    await heart.beat()
    assert store.renewed == []
    heart.stop()


async def test_the_lease_that_counts_is_the_one_last_written() -> None:
    store, clock = Store(), FakeClock()
    held = session("s", 1)
    heart = beating(store, clock, held)
    held.head = held.head._replace(lease_until=TTL_MS, epoch=2)
    await heart.beat()
    assert store.renewed == []
    heart.stop()


async def test_a_lease_is_kept_while_the_event_loop_is_blocked() -> None:
    store = Store()
    heart = Heartbeat(store, FakeClock(), QUICK_MS)  # type: ignore[arg-type]  # all of the store that it needs
    heart.hold(session("s", 1))
    assert store.heard.wait(10), "blocks the event loop on purpose, like a handler without await"
    assert store.renewed[0] == ([("s", 1)], QUICK_MS)
    heart.stop()


def test_a_failing_store_does_not_end_the_heartbeat(caplog: pytest.LogCaptureFixture) -> None:
    store = Store(StoreUnavailable("the disk is away"), OSError(errno.EMFILE, "Too many open files"))
    heart = Heartbeat(store, FakeClock(), QUICK_MS)  # type: ignore[arg-type]  # all of the store that it needs
    heart.hold(session("s", 1))
    assert store.heard.wait(10)
    heart.stop()
    assert [record.getMessage() for record in caplog.records] == ["leases could not be renewed; the next beat tries again"] * 2


def test_a_thread_that_could_not_be_started_is_started_by_the_next_who_comes() -> None:
    store = Store()
    heart = Heartbeat(store, FakeClock(), QUICK_MS)  # type: ignore[arg-type]  # all of the store that it needs
    with no_threads(), pytest.raises(RuntimeError, match="thread"):
        heart.hold(session("refused", 1))
    heart.stop()
    assert heart.epoch_of("refused") is None
    heart = Heartbeat(store, FakeClock(), QUICK_MS)  # type: ignore[arg-type]  # all of the store that it needs
    with no_threads(), pytest.raises(RuntimeError, match="thread"):
        heart.hold(session("refused", 1))
    heart.hold(session("s", 1))
    assert store.heard.wait(10)
    heart.stop()
    assert store.renewed[0][0] == [("s", 1)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_was_ended_is_replaced() -> None:
    store = Store(SystemExit())
    heart = Heartbeat(store, FakeClock(), QUICK_MS)  # type: ignore[arg-type]  # all of the store that it needs
    heart.hold(session("s", 1))
    assert heart._thread is not None
    heart._thread.join(10)
    heart.hold(session("s", 1))
    assert store.heard.wait(10)
    heart.stop()


def test_stopping_ends_the_thread_and_may_be_repeated() -> None:
    heart = beating(Store(), FakeClock(), session("s", 1))
    assert "power-loop-heartbeat" in {thread.name for thread in threading.enumerate()}
    heart.stop()
    heart.stop()
    assert "power-loop-heartbeat" not in {thread.name for thread in threading.enumerate()}
