"""Starting processes in a group of their own, and ending all that came of them.

A command's processes are found by their process group, and where there is a ``/proc`` also by their session, by their
ancestors, and by a mark in their environment: so those that left the group are found too, unless they cleared their
environment and outlived their parents.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import IO, NamedTuple

# Every process that a shell starts inherits it, whatever group it moves to.
MARK = "POWER_LOOP_SHELL_ID"
PROC = "/proc"
# How often the dying are looked at; nothing tells when a process that is not our child is gone.
LOOK_S = 0.01
# A process that a signal 9 does not end within this hangs in the kernel.
GIVE_UP_S = 2.0


class Started(NamedTuple):
    """A process that leads a session and a group, and what its descendants can be known by."""

    popen: subprocess.Popen[bytes]
    mark: str

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def streams(self) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
        """Its input, its output, and what it says for itself."""
        stdin, stdout, stderr = self.popen.stdin, self.popen.stdout, self.popen.stderr
        assert stdin is not None, "it is a pipe"
        assert stdout is not None, "it is a pipe"
        assert stderr is not None, "it is a pipe"
        return stdin, stdout, stderr


def start(argv: Sequence[str], cwd: str | None, env: Mapping[str, str]) -> Started:
    """Start ``argv`` with its three streams as pipes, away from any terminal. Raises `OSError`, `ValueError`."""
    mark = os.urandom(8).hex()
    popen = subprocess.Popen(
        list(argv), cwd=cwd, env={**env, MARK: mark}, bufsize=0, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    return Started(popen, mark)


class Spawner:
    """The thread that starts processes; it lives while any of them does.

    A sandbox that shall die with its parent dies with the thread that started it, so that must not be one of a
    caller's, which may end before.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._pid = os.getpid()
        self._living = 0

    def start(self, make: Callable[[], Started]) -> Started:
        """What ``make()`` starts. Each is given back by `ended`. Raises what ``make`` raises."""
        with self._lock:
            if self._pool is None or self._pid != os.getpid():
                self._pool, self._pid, self._living = ThreadPoolExecutor(1, "power-loop-spawner"), os.getpid(), 0
            self._living += 1
            pool = self._pool
        try:
            return pool.submit(make).result()
        except BaseException:
            self.ended()
            raise

    def ended(self) -> None:
        with self._lock:
            if self._pid != os.getpid():
                return
            self._living -= 1
            if self._living == 0 and self._pool is not None:
                self._pool.shutdown(wait=False)
                self._pool = None


def send_signal(started: Started, number: signal.Signals) -> set[int]:
    """To its group, and to those of its processes that left the group; all that were found."""
    found = living(started)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(started.pid, number)
    for pid, group in found.items():
        if group != started.pid:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
    return set(found)


async def end(started: Started, grace_s: float, before_closing: Callable[[], None] | None = None) -> None:
    """Ask everything of it to end, kill what has not after ``grace_s``, and reap it; then nobody writes to its pipes any more."""
    for pause in _ending(started, grace_s):
        await asyncio.sleep(pause)
    if before_closing is not None:
        before_closing()
    _bury(started)


def end_now(started: Started, *, grace_s: float = 0.2) -> None:
    """The same, for where nobody can await."""
    for pause in _ending(started, grace_s):
        time.sleep(pause)
    _bury(started)


def _ending(started: Started, grace_s: float) -> Iterator[float]:
    """The steps of an end; between them to be waited for so long."""
    left = send_signal(started, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    # To look at those that are known is cheap; to look for others means to look at every process of the machine.
    while left := _still(left) or set(living(started)):
        if time.monotonic() > deadline + GIVE_UP_S:
            return
        if time.monotonic() > deadline:
            # Again and again: what is killed may have started others meanwhile.
            left = send_signal(started, signal.SIGKILL)
        yield LOOK_S


def disown(started: Started) -> None:
    """Forget a process that is our parent's, in a child that was forked."""
    started.popen.returncode = 0
    _close_streams(started)


def _bury(started: Started) -> None:
    """Only now may the pid, and with it the number of the group, become somebody else's."""
    with suppress(subprocess.TimeoutExpired):
        started.popen.wait(LOOK_S)
    _close_streams(started)


def _close_streams(started: Started) -> None:
    for stream in started.streams:
        with suppress(OSError):
            stream.close()


def has_ended(started: Started) -> bool:
    """It is dead, though its pid is still its own: it was not reaped, so no other process can have it."""
    if started.popen.returncode is not None:
        return True
    try:
        return os.waitid(os.P_PID, started.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # the host reaps all children by itself
        return True


def living(started: Started) -> dict[int, int]:
    """pid → group of its processes that still run; zombies do not count. Not reaped, it keeps its pid from being another's."""
    if not os.path.isdir(PROC):
        return {started.pid: started.pid} if _group_lives(started.pid) else {}
    table = {pid: place for pid in map(int, filter(str.isdigit, os.listdir(PROC))) if (place := _place(pid)) is not None}
    found = {pid for pid, (_, group, session) in table.items() if started.pid in (pid, group, session)}
    found |= {pid for pid in table if pid not in found and _is_marked(pid, started.mark)}
    while more := {pid for pid, (parent, _, _) in table.items() if parent in found and pid not in found}:
        found |= more
    return {pid: table[pid][1] for pid in found - {os.getpid()}}


def _still(pids: set[int]) -> set[int]:
    return {pid for pid in pids if _place(pid) is not None}


def _place(pid: int) -> tuple[int, int, int] | None:
    """(parent, group, session) of a process; None when it does not run, or nobody can tell."""
    try:
        with open(f"{PROC}/{pid}/stat", "rb") as file:
            # The name, in parentheses, may hold anything.
            state, parent, group, session = file.read().rpartition(b")")[2].split()[:4]
    except (OSError, ValueError):
        return None
    return None if state in (b"Z", b"X") else (int(parent), int(group), int(session))


def _is_marked(pid: int, mark: str) -> bool:
    try:
        with open(f"{PROC}/{pid}/environ", "rb") as file:
            return f"{MARK}={mark}".encode() in file.read().split(b"\0")
    except OSError:  # another user's, or gone
        return False


def _group_lives(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True
