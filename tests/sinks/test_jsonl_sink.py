"""Events in a file that outlives the process."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from power_loop import AgentEvent, AgentEventBus
from power_loop.contrib import jsonl_sink
from power_loop.contrib.jsonl_sink import attach_jsonl_sink, replay
from power_loop.testing import call, say


# acceptance: 61
async def test_the_events_of_a_run_come_back_as_they_were(stage: Any, tmp_path: Path) -> None:
    sink = attach_jsonl_sink(stage.bus, tmp_path / "events.jsonl")
    await stage.loop(call("look", at="a"), say("done")).run("go")
    sink.close()
    sink.close()
    again = list(replay(sink.path))
    assert again == stage.heard
    assert [(event.seq, event.ts, event.mono) for event in again] == [(event.seq, event.ts, event.mono) for event in stage.heard]
    assert AgentEvent("next", {}).seq == stage.heard[-1].seq + 1


# acceptance: 61 (survives the process)
def test_events_survive_a_process_that_ends_without_closing(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom power_loop import AgentEvent, AgentEventBus\nfrom power_loop.contrib.jsonl_sink import attach_jsonl_sink\n"
        "bus = AgentEventBus(); attach_jsonl_sink(bus, sys.argv[1])\n"
        "for n in range(500): bus.publish(AgentEvent('own', {'n': n}))\n"
    )
    path = tmp_path / "events.jsonl"
    subprocess.run([sys.executable, "-W", "error", "-c", code, str(path)], check=True)
    assert [event.payload["n"] for event in replay(path)] == list(range(500))


# acceptance: 61 (rotation)
def test_a_full_file_is_rotated_and_the_oldest_is_lost(tmp_path: Path) -> None:
    bus = AgentEventBus()
    sink = attach_jsonl_sink(bus, tmp_path / "e.jsonl", max_bytes=1000, backup_count=3)
    for n in range(40):
        bus.publish(AgentEvent("own", {"n": n, "text": "x" * 100}))
    sink.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.jsonl", "e.jsonl.1", "e.jsonl.2", "e.jsonl.3"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    numbers = [event.payload["n"] for event in replay(sink.path)]
    assert numbers == list(range(numbers[0], 40))
    assert 0 < numbers[0] < 39


def test_more_than_ten_rotations_are_read_in_order(tmp_path: Path) -> None:
    bus = AgentEventBus()
    sink = attach_jsonl_sink(bus, tmp_path / "e[1].jsonl", max_bytes=1, backup_count=20)
    for n in range(15):
        bus.publish(AgentEvent("own", {"n": n}))
    sink.close()
    assert [event.payload["n"] for event in replay(sink.path)] == list(range(15))


def test_a_file_that_is_rotated_while_it_is_replayed_is_read_whole(tmp_path: Path) -> None:
    bus, path = AgentEventBus(), tmp_path / "e.jsonl"
    sink = attach_jsonl_sink(bus, path, max_bytes=300, backup_count=20)

    def tell(first: int) -> None:
        for n in range(first, first + 8):
            bus.publish(AgentEvent("own", {"n": n, "text": "x" * 60}))
        assert sink.flush()

    tell(0)
    replayed = replay(path)
    told = [next(replayed).payload["n"]]
    tell(8)
    told += [event.payload["n"] for event in replayed]
    sink.close()
    assert told[:8] == list(range(8))
    assert told == sorted(set(told))


def test_without_backups_the_file_grows(tmp_path: Path) -> None:
    bus = AgentEventBus()
    sink = attach_jsonl_sink(bus, tmp_path / "e.jsonl", max_bytes=10, backup_count=0)
    for n in range(20):
        bus.publish(AgentEvent("own", {"n": n}))
    sink.close()
    assert [path.name for path in tmp_path.iterdir()] == ["e.jsonl"]
    assert len(list(replay(sink.path))) == 20


# acceptance: 61 (a torn last line)
def test_a_torn_last_line_is_passed_over_and_spoils_nothing_that_follows(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    bus = AgentEventBus()
    for n in range(2):
        sink = attach_jsonl_sink(bus, path)
        bus.publish(AgentEvent("own", {"n": n}))
        sink.close()
        if n == 0:
            with path.open("ab") as file:
                file.write(b'{"type": "own", "payl')
    assert [event.payload["n"] for event in replay(path)] == [0, 1]


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize(
    "line", [b"", b"[]", b"5", b"{}", b"nonsense", b'{"type": "x", "payload": 5}', b"\xff\xfe", b'"x"', b"[" * 100_000, b'{"type": []}']
)
def test_lines_that_are_no_events_are_passed_over(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "e.jsonl"
    path.write_bytes(line + b'\n{"type": "own", "payload": {"n": 1}}\n')
    assert [event.payload["n"] for event in replay(path)] == [1]


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="replay"):
        list(replay(tmp_path / "none.jsonl"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError):  # noqa: PT011 - the system words it
        attach_jsonl_sink(AgentEventBus(), tmp_path / "file" / "below.jsonl")


@pytest.mark.parametrize("wrong", [{"max_bytes": 0}, {"backup_count": -1}, {"max_field_len": 0}])
def test_limits_that_make_no_sense_are_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"above 0|from 0"):
        attach_jsonl_sink(AgentEventBus(), tmp_path / "e.jsonl", **wrong)


def test_fsync_reaches_the_disk_with_every_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(jsonl_sink.os, "fsync", synced.append)
    for fsync in (False, True):
        bus = AgentEventBus()
        sink = attach_jsonl_sink(bus, tmp_path / f"{fsync}.jsonl", fsync=fsync)
        bus.publish(AgentEvent("own", {}))
        assert sink.flush()
        sink.close()
        assert bool(synced) == fsync


# acceptance: 178 (the file)
def test_secrets_do_not_reach_the_file(tmp_path: Path) -> None:
    bus = AgentEventBus()
    key = "sk" + "-proj-" + "Ab12" * 8
    sink = attach_jsonl_sink(bus, tmp_path / "e.jsonl")
    bus.publish(AgentEvent("agent_error", {"error": f"401: {key}", "details": {"authorization": "x"}, "n": ("a", key)}))
    sink.close()
    assert key not in sink.path.read_text()
    assert next(replay(sink.path)).payload["details"] == {"authorization": "***"}


class Slow:
    """A file system that does not answer until it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may_write, self.writes = threading.Event(), threading.Event()
        write = jsonl_sink.RotatingFile.write

        def slow(file: Any, line: str) -> None:
            if line:
                self.writes.set()
                self.may_write.wait(100)
            write(file, line)

        monkeypatch.setattr(jsonl_sink.RotatingFile, "write", slow)


def test_a_slow_disk_delays_nobody_and_what_passes_gives_way_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch)
    monkeypatch.setattr(jsonl_sink, "QUEUE_LIMIT", 10)
    bus = AgentEventBus()
    sink = attach_jsonl_sink(bus, tmp_path / "e.jsonl")
    bus.publish(AgentEvent("own", {"n": -1}))
    assert slow.writes.wait(100)
    for n in range(15):
        bus.publish(AgentEvent("stream_delta", {"text": "x", "n": n}))
        bus.publish(AgentEvent("own", {"n": n}))
    assert sink.flush(timeout=0) is False
    slow.may_write.set()
    sink.close()
    told = list(replay(sink.path))
    assert [event.payload["n"] for event in told if event.type == "own"] == [-1, *range(15)]
    assert 0 < sum(event.type == "stream_delta" for event in told) < 15
    assert sink.dropped == 15 - sum(event.type == "stream_delta" for event in told)


# acceptance: 58 (a full disk)
@pytest.mark.usefixtures("caplog")
async def test_a_full_disk_is_counted_and_disturbs_no_run(stage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Any, line: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    sink = attach_jsonl_sink(stage.bus, tmp_path / "e.jsonl")
    monkeypatch.setattr(jsonl_sink.RotatingFile, "write", full)
    assert (await stage.loop(say("done")).run("go")).status == "completed"
    assert sink.flush()
    sink.close()
    assert sink.errors == len(stage.heard)
    assert stage.bus.errors == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are of POSIX")
def test_a_forked_child_leaves_the_file_to_its_parent(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom power_loop import AgentEvent, AgentEventBus\nfrom power_loop.contrib.jsonl_sink import attach_jsonl_sink\n"
        "bus = AgentEventBus(); sink = attach_jsonl_sink(bus, sys.argv[1])\n"
        "pid = os.fork()\nbus.publish(AgentEvent('own', {'child': not pid}))\n"
        "sink.close()\n"
        "if pid: sys.exit(os.waitpid(pid, 0)[1])\n"
    )
    path = tmp_path / "e.jsonl"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert [event.payload["child"] for event in replay(path)] == [False]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are of POSIX")
def test_a_child_forked_while_the_writer_works_can_close_and_end(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", FORKS_UNDER_THE_LOCK, str(tmp_path / "e.jsonl")], check=True)


# The lock is held by another thread at the moment of the fork, as the writer holds it now and then.
FORKS_UNDER_THE_LOCK = """
import os, sys, threading
from power_loop import AgentEventBus
from power_loop.contrib.jsonl_sink import attach_jsonl_sink

sink, pids = attach_jsonl_sink(AgentEventBus(), sys.argv[1]), []

def fork():
    if pid := os.fork():
        pids.append(pid)
    else:
        sink.flush()
        sink.close()
        os._exit(0)

with sink._writer._changed:
    forks = threading.Thread(target=fork)
    forks.start()
    forks.join()
sys.exit(os.waitpid(pids[0], 0)[1])
"""


@pytest.mark.parametrize("how", ["moved", "removed"])
def test_a_file_that_somebody_took_away_is_begun_anew(tmp_path: Path, how: str) -> None:
    bus, path = AgentEventBus(), tmp_path / "e.jsonl"
    sink = attach_jsonl_sink(bus, path)
    bus.publish(AgentEvent("own", {"n": 1}))
    assert sink.flush()
    path.rename(tmp_path / "e.1") if how == "moved" else path.unlink()
    bus.publish(AgentEvent("own", {"n": 2}))
    sink.close()
    assert [event.payload["n"] for event in replay(path)] == [2]
    assert sink.errors == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a disk that is always full is of Linux")
def test_every_event_that_a_full_disk_lost_is_counted(tmp_path: Path) -> None:
    bus, path = AgentEventBus(), tmp_path / "e.jsonl"
    path.symlink_to("/dev/full")
    sink = attach_jsonl_sink(bus, path)
    for n in range(5):
        bus.publish(AgentEvent("own", {"n": n}))
    sink.close()
    assert sink.errors == 5
