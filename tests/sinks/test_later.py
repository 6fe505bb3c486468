"""What sinks leave to a thread of their own: all of it is done, by nobody twice."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest
from scarce import no_threads

from power_loop.contrib import later
from power_loop.contrib.jsonl_sink import replay
from power_loop.contrib.later import Later

WAIT_S = 100.0


class Work:
    """Numbers that are put somewhere to be done later."""

    def __init__(self) -> None:
        self.pending: deque[int] = deque()
        self.done: list[list[int]] = []
        self.later = Later("test-later", self.pending.__len__, self.act)

    def act(self) -> None:
        self.done.append([self.pending.popleft() for _ in range(len(self.pending))])

    def put(self, number: int) -> None:
        self.pending.append(number)
        self.later.due()

    @property
    def numbers(self) -> list[int]:
        return [number for batch in self.done for number in batch]


def test_all_that_several_threads_leave_is_done_and_in_few_goes() -> None:
    work = Work()
    threads = [threading.Thread(target=lambda at=at: [work.put(at + n) for n in range(1000)]) for at in range(0, 4000, 1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert work.later.flush(WAIT_S)
    assert sorted(work.numbers) == list(range(4000))
    assert len(work.done) < 400
    assert work.later.close(WAIT_S)


def test_a_thread_that_is_needed_no_more_ends_and_another_one_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(later, "IDLE_S", 0)
    work, threads = Work(), list[threading.Thread]()
    for number in range(200):
        work.put(number)
        threads += [each for each in threading.enumerate() if each.name == "test-later" and each not in threads]
        if number % 20 == 0:
            assert work.later.flush(WAIT_S)
    assert work.later.flush(WAIT_S)
    assert work.numbers == list(range(200))
    for thread in threads:
        thread.join(WAIT_S)
    assert len(threads) > 1


@pytest.mark.parametrize("asks", [Later.flush, Later.close])
def test_what_found_no_thread_is_done_by_who_waits_for_it(asks: Callable[[Later, float], bool]) -> None:
    work = Work()
    with no_threads():
        with pytest.raises(RuntimeError):
            work.put(1)
        assert asks(work.later, WAIT_S)
    assert work.numbers == [1]
    work.later.close(WAIT_S)


def test_who_comes_late_with_what_was_done_already_keeps_nobody_from_being_heard() -> None:
    work = Work()
    work.put(1)
    assert work.later.flush(WAIT_S)
    work.later.due()  # as another thread does, whose number was taken along before it could say so
    work.put(2)
    begun = time.monotonic()
    assert work.later.flush(WAIT_S)
    assert work.numbers == [1, 2]
    assert time.monotonic() - begun < later.IDLE_S / 2
    assert work.later.close(WAIT_S)


@pytest.mark.parametrize("quiet", ["", "later.IDLE_S = 0; time.sleep(0.2)"])
def test_what_is_published_while_a_program_ends_is_written(quiet: str, tmp_path: Path) -> None:
    code = (
        "import atexit, sys, time\nfrom power_loop import AgentEvent, AgentEventBus\nfrom power_loop.contrib import later\n"
        "from power_loop.contrib.jsonl_sink import attach_jsonl_sink\n"
        "bus = AgentEventBus(); sink = attach_jsonl_sink(bus, sys.argv[1])\n"
        "atexit.register(lambda: bus.publish(AgentEvent('own', {'n': 2})))\n"
        f"bus.publish(AgentEvent('own', {{'n': 1}}))\n{quiet}\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "e.jsonl")], check=True)
    assert [event.payload["n"] for event in replay(tmp_path / "e.jsonl")] == [1, 2]


def test_closing_does_what_is_pending_and_is_fine_where_nothing_ever_was() -> None:
    assert Work().later.close(WAIT_S)
    work = Work()
    work.put(1)
    assert work.later.close(WAIT_S)
    assert work.numbers == [1]
    assert work.later.close(WAIT_S)


def test_what_fails_is_logged_and_what_comes_next_is_done(caplog: pytest.LogCaptureFixture) -> None:
    work = Work()
    act, work.later._act = work.act, fails
    work.put(1)
    assert not work.later.flush(0)
    while not caplog.records:
        work.later.flush(0.01)
    work.later._act = act
    work.put(2)
    assert work.later.flush(WAIT_S)
    assert work.numbers == [1, 2]
    work.later.close(WAIT_S)


def fails() -> None:
    raise OSError("no")
