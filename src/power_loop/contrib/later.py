"""Doing later, in a thread of its own, what events leave to be done: once for all that came within a moment."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from weakref import WeakSet

from power_loop.contracts.forks import mind_forks
from power_loop.contracts.log import log

# What comes within so many seconds is done together: one wake-up for much.
GATHER_S = 0.05
# So much does not wait for more.
GATHERED = 500
# How long a thread waits for more before it ends; the next one is begun when it is needed.
IDLE_S = 5.0
# How long a program that ends without closing waits for what is still to be done, in seconds.
EXIT_WAIT_S = 1.0


class Later:
    """Has ``act`` called soon after `due`, in a daemon thread, as long as something is ``pending``: so much.

    A forked child begins without a thread; what is pending there is for whoever owns this to know.
    """

    def __init__(self, name: str, pending: Callable[[], int], act: Callable[[], object]) -> None:
        self._name, self._pending, self._act = name, pending, act
        self._begin_anew()
        mind_forks(self, in_child=Later._begin_anew)
        _open.add(self)

    def _begin_anew(self) -> None:
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._idle, self._at_once, self._stops = True, False, False

    def due(self, *, at_once: bool = False) -> None:
        """One more is pending; ``at_once`` does not wait for others. Raises `RuntimeError` where no thread can be had."""
        at_once = at_once or self._pending() == GATHERED
        # Before the thread waits it says so and looks at what is pending: it has seen this, or is woken here, once.
        if self._idle or at_once:
            with self._changed:
                if self._thread is None:
                    self._thread = self._begun()
                self._idle = self._idle and not self._pending()
                self._at_once = self._at_once or at_once
                self._changed.notify_all()

    def flush(self, timeout: float | None) -> bool:
        """Have what is pending done now, and wait for it; False when ``timeout`` (seconds) ran out first."""
        try:
            if self._pending():
                self.due(at_once=True)
        except RuntimeError:  # no thread can be had, at the end of a program, say
            self._do_here()
        with self._changed:
            return self._changed.wait_for(lambda: self._idle and not self._pending(), timeout)

    def close(self, timeout: float) -> bool:
        """Do what is pending, and end the thread; False when ``timeout`` (seconds) ran out first."""
        with self._changed:
            self._stops, thread = True, self._thread
            self._changed.notify_all()
        if thread is not None:
            thread.join(timeout)
            if thread.is_alive():
                return False
        self._do_here()
        return True

    def _begun(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        thread.start()
        return thread

    def _run(self) -> None:
        while self._wait():
            self._do()

    def _do(self) -> None:
        try:
            self._act()
        except Exception:  # of a library, say; what comes next is done all the same
            log.exception("%s failed; what it was about to do is lost", self._name)

    def _do_here(self) -> None:
        with self._changed:
            if self._thread is None and self._pending():
                self._do()

    def _wait(self) -> bool:
        """Until something is to be done; False when nothing will be, by this thread."""
        with self._changed:
            self._idle = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._pending() or self._stops, IDLE_S)
            self._idle = not self._pending()
            if self._idle:
                self._thread = None
                self._changed.notify_all()
                return False
            self._changed.wait_for(lambda: self._at_once or self._stops, GATHER_S)
            self._at_once = False
            return True


_open: WeakSet[Later] = WeakSet()


def _end() -> None:
    """Registered before any program could, so it is called after whatever a program does at its end."""
    for later in list(_open):
        later.flush(EXIT_WAIT_S)


atexit.register(_end)
