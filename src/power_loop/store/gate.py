"""The writer gate of a SQLite file: one process at a time, in the order of arrival.

SQLite's own lock is polled with growing sleeps, so under load a writer may starve; the kernel's queue for a file
lock is fair, and a killed process gives its place back. The gate stands around every transaction and every checkpoint.
It is a side file that stays: to remove it while another process waits for it would make two gates of one.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time

if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: int) -> bool:
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _lock(file: int) -> None:
        while not _try_lock(file):
            time.sleep(0.005)

    def _unlock(file: int) -> None:
        msvcrt.locking(file, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(file: int) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX)

    def _unlock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)


class WriterGate:
    """One process's way through the gate at ``path``. For one thread at a time."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file: int | None = None
        self._line: _Line | None = None

    def try_enter(self) -> bool:
        """Be the only writer until `leave`, if nobody is inside or in line. Raises OSError when the file cannot be made or locked."""
        if self._file is None:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        return _try_lock(self._file) if self._line is None else self._line.try_enter()

    def enter(self, timeout_s: float) -> None:
        """Be the only writer until `leave`. Raises TimeoutError, or OSError when the file cannot be made or locked, or waited for."""
        if self.try_enter():
            return
        assert self._file is not None, "opened by the first try"
        self._line = self._line or _line(self._file)
        if not self._line.enter(timeout_s):
            raise TimeoutError

    def leave(self) -> None:
        assert self._file is not None, "nobody is inside"
        _unlock(self._file)

    def close(self) -> None:
        if self._line is not None:
            self._line.close()
        elif self._file is not None:
            os.close(self._file)
        self._file = self._line = None


def _line(file: int) -> _Line:
    try:
        return _Line(file)
    except RuntimeError as error:  # Python's word for a system that gives no thread
        raise OSError("another process is writing, and no thread could be started to wait for it") from error


class _Line:
    """Stands in the kernel's queue on a thread of its own, because a file lock cannot be waited for with a limit.

    A writer that gave up leaves its place standing: it serves the next one, or is given back when its turn comes.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._changed = threading.Condition()
        self._wanted = self._standing = self._granted = self._closed = False
        threading.Thread(target=self._stand, name="power-loop-gate", daemon=True).start()

    def try_enter(self) -> bool:
        with self._changed:
            return not self._standing and _try_lock(self._file)

    def enter(self, timeout_s: float) -> bool:
        with self._changed:
            self._wanted = self._standing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._granted, timeout_s)
            entered, self._wanted, self._granted = self._granted, False, False
            return entered

    def close(self) -> None:
        """The thread ends, and the file is closed, as soon as it does not wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _stand(self) -> None:
        while self._asked():
            with contextlib.suppress(OSError):  # the first try told of a file that cannot be locked at all
                _lock(self._file)
            self._turn()
        os.close(self._file)

    def _asked(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._standing or self._closed)
            return self._standing

    def _turn(self) -> None:
        with self._changed:
            self._standing, self._granted = False, self._wanted
            if not self._wanted:
                _unlock(self._file)
            self._changed.notify_all()
