"""Is that holder still alive? Provable on its own machine: a lock file held for the life of the process.

The kernel gives the lock back when the process dies, however it dies. A holder of another machine, or one whose
file cannot be seen from here, proves nothing: then its lease has to run out.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from power_loop.contracts.forks import mind_forks

if TYPE_CHECKING:
    from power_loop.contracts.store import SessionLog

try:
    import fcntl
except ImportError:  # no such locks on this platform: nothing can be proved there
    fcntl = None  # type: ignore[assignment]  # the module's absence is the value

# The file of a process that died is left as proof for everyone who waits for its leases, and swept up after a day.
SWEPT_AFTER_S = 86_400.0
# One process an hour looks through them all: a machine whose processes come and go by the thousand has thousands of them.
SWEPT_EVERY_S = 3_600.0


class Lifeline:
    """Our own sign of life, and a look at that of others."""

    def __init__(self, holder: str, directory: str | os.PathLike[str] | None = None) -> None:
        self.holder = holder
        self._directory = os.fspath(directory or os.path.join(os.environ.get("TMPDIR") or "/tmp", f"power-loop-{_user()}"))
        self._file: int | None = None
        self._begun = False
        mind_forks(self, in_child=Lifeline.let_go)

    def hold(self) -> None:
        """Begin the sign of life, once per process. Without a place for it, others wait for our lease to end."""
        if fcntl is None or self._begun:
            return
        self._begun = True
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            self._file = _locked(self._path(self.holder), os.O_CREAT | os.O_RDWR)
        except OSError:
            return
        with suppress(OSError):  # a folder that cannot be read, a full disk: another process sweeps another day
            self._sweep(os.fstat(self._file).st_mtime)

    def is_dead(self, holder: str) -> bool:
        """True only when ``holder`` provably died."""
        return fcntl is not None and holder != self.holder and _is_loose(self._path(holder))

    def let_go(self) -> None:
        """In a forked child: a lock that it inherits would outlive the parent that it stands for. The child begins its own."""
        if self._file is not None:
            os.close(self._file)
        self._file, self._begun = None, False

    def release(self, *, owes: bool = False) -> None:
        """End the sign of life. ``owes``: a lease was not given back; the file stays as proof that nobody holds it."""
        if self._file is not None:
            with suppress(FileNotFoundError):
                if not owes:
                    os.unlink(self._path(self.holder))
            os.close(self._file)
            self._file, self._begun = None, False

    def _path(self, holder: str) -> str:
        return os.path.join(self._directory, f"{''.join(c if c.isalnum() or c in '._-' else '_' for c in holder)}.alive")

    def _sweep(self, now: float) -> None:
        """Clear away what the dead left long ago: nobody waits for a lease of theirs any more."""
        if not _is_due(os.path.join(self._directory, "swept"), now):
            return
        for name in os.listdir(self._directory):
            path = os.path.join(self._directory, name)
            with suppress(OSError):  # somebody else was faster
                if name.endswith(".alive") and now - os.stat(path).st_mtime > SWEPT_AFTER_S and _is_loose(path):
                    os.unlink(path)


async def pass_over_the_dead(log: SessionLog, lifeline: Lifeline, ticket: int) -> None:
    """Take ``ticket`` out of the line when whoever stood there provably died; it would also count no more after a while."""
    holder = await log.holder_of_ticket(ticket)
    if holder is not None and lifeline.is_dead(holder):
        await log.leave_line(ticket)


def _locked(path: str, flags: int) -> int:
    """``path``, open and locked by us. Raises `OSError` when somebody else has it, or it is not there."""
    assert fcntl is not None, "asked only where there are such locks"
    file = os.open(path, flags, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise
    return file


def _is_loose(path: str) -> bool:
    """The file is there, and nobody alive holds it."""
    try:
        os.close(_locked(path, os.O_RDWR))
    except OSError:
        return False
    return True


def _is_due(stamp: str, now: float) -> bool:
    """Nobody swept within the last hour; then the caller does, as its ``stamp`` says from now on."""
    with suppress(FileNotFoundError):
        if now - os.stat(stamp).st_mtime < SWEPT_EVERY_S:
            return False
    with open(stamp, "w"):
        os.utime(stamp, (now, now))
    return True


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else "user"
