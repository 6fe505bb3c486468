"""Is that holder still alive? Provable on its own machine: a lock file held for the life of the process.

The kernel gives the lock back when the process dies, however it dies. A holder of another machine, or one whose
file cannot be seen from here, proves nothing: then its lease has to run out.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

try:
    import fcntl
except ImportError:  # no such locks on this platform: nothing can be proved there
    fcntl = None  # type: ignore[assignment]  # the module's absence is the value


class Lifeline:
    """Our own sign of life, and a look at that of others."""

    def __init__(self, holder: str, directory: Path | None = None) -> None:
        self.holder = holder
        self._directory = directory or Path(tempfile.gettempdir()) / f"power-loop-{_user()}"
        self._file: int | None = None
        self._pid = 0

    def hold(self) -> None:
        """Begin the sign of life, once per process. Without a place for it, others wait for our lease to end."""
        if fcntl is None or self._pid == os.getpid():
            return
        self._pid = os.getpid()
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            self._file = os.open(self._path(self.holder), os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file = None

    def is_dead(self, holder: str) -> bool:
        """True only when ``holder`` provably died; its file is then cleared away."""
        if fcntl is None or holder == self.holder:
            return False
        try:
            file = os.open(self._path(holder), os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._path(holder).unlink(missing_ok=True)
        except OSError:
            return False
        finally:
            os.close(file)
        return True

    def release(self) -> None:
        """End the sign of life; the leases were given back before."""
        if self._file is not None:
            self._path(self.holder).unlink(missing_ok=True)
            os.close(self._file)
            self._file, self._pid = None, 0

    def _path(self, holder: str) -> Path:
        return self._directory / f"{''.join(c if c.isalnum() or c in '._-' else '_' for c in holder)}.alive"


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else "user"
