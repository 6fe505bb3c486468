"""What holds for every test: no network beyond this machine, and nothing is left running."""

from __future__ import annotations

import gc
import ipaddress
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import engines
import pytest
import warm
from hypothesis import settings
from loops import loops_closed

# Chance is the same in every run, and a busy machine fails nothing.
settings.register_profile("house", deadline=None, derandomize=True, database=None)
settings.load_profile("house")

__all__ = ["loops_closed"]

MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 << 30
GRACE_S = 3.0
_reached_out: list[str] = []


def _roomy_memory() -> bool:
    """There is a file system in memory that takes our databases, and programs that a test writes."""
    if not MEMORY.is_dir():
        return False
    there = os.statvfs(MEMORY)
    return there.f_bavail * there.f_frsize >= ROOM_BYTES and not there.f_flag & os.ST_NOEXEC and os.access(MEMORY, os.W_OK)


# Most of a test's time on a database is its disk's. What a disk does to us is shown by tests/prove, which counts each sync.
if _roomy_memory():
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


# A shell has what it starts in the background ignore Ctrl-C, and so would every program that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_local(host: object) -> bool:
    if not isinstance(host, (str, bytes)) or host in ("", "localhost", b"", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(host if isinstance(host, str) else host.decode()).is_loopback
    except ValueError:
        return False


def _refuse_the_outside(event: str, args: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto"):
        host = args[1][0] if isinstance(args[1], tuple) else ""  # anything but a pair is no IP address: a Unix socket
    elif event == "socket.getaddrinfo":
        host = args[0]
    else:
        return
    if not _is_local(host):
        _reached_out.append(f"{event} {host!r}")
        raise ConnectionRefusedError(f"tests reach loopback addresses only, not {host!r}")


if not os.environ.get("POWER_LOOP_LIVE"):  # asked for real models, which are outside: see tests/live
    sys.addaudithook(_refuse_the_outside)


@pytest.fixture(autouse=True)
def _stays_on_this_machine() -> Iterator[None]:
    """A library may swallow the refusal, so it is counted besides."""
    _reached_out.clear()
    yield
    assert not _reached_out, f"this test tried to reach {_reached_out}"


def pytest_collection_finish() -> None:
    """Thousands of tests stay until the end: nothing need look through them whenever there is garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def uncollected() -> Iterator[None]:
    """For text that is nested beyond every limit: a collector that strikes at the deepest point runs finalizers that find no room."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def quiet_log() -> Iterator[None]:
    """For tests in which thousands of sessions go wrong on purpose."""
    log = logging.getLogger("power_loop")
    level = log.level
    log.setLevel(logging.CRITICAL)
    yield
    log.setLevel(level)


@pytest.fixture(scope="session", autouse=True)
def _leaves_nothing_behind() -> Iterator[None]:
    """Set up first, so torn down last: after every server and store that other fixtures own."""
    before = set(_children())
    yield
    engines.stop_servers()
    warm.stop()
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("power-loop")]
    for thread in threads:
        thread.join(GRACE_S / len(threads))
    assert not (alive := [thread.name for thread in threads if thread.is_alive()]), f"threads left running: {alive}"
    assert not (left := {pid: name for pid, name in _children().items() if pid not in before}), f"processes left running: {left}"


def _children() -> dict[int, str]:
    """Our child processes by pid, but for the dead and multiprocessing's own tracker; none where there is no ``ps``."""
    if shutil.which("ps") is None:
        return {}
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat=,args="], capture_output=True, text=True, check=False).stdout
    rows = [line.split(None, 3) for line in listed.splitlines()]
    ours = {int(row[0]): row[3] for row in rows if len(row) == 4 and row[1] == str(os.getpid()) and row[2][0] != "Z"}
    return {pid: args for pid, args in ours.items() if "resource_tracker" not in args and not args.startswith("ps -A")}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One loud line for all tests that found no server to run on."""
    reasons = [report.longrepr[2] for report in terminalreporter.stats.get("skipped", ()) if isinstance(report.longrepr, tuple)]
    for missing in sorted({reason.removeprefix("Skipped: ") for reason in reasons if engines.MISSING in reason}):
        terminalreporter.write_line(f"{sum(missing in reason for reason in reasons)} tests skipped: {missing}", red=True, bold=True)


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the repository."""
    return Path(__file__).parent.parent
