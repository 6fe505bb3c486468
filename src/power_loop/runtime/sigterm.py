"""Who is to stop when the process is told to end."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from power_loop.contracts.soon import soon


def on_sigterm(stop: Callable[[], None]) -> Callable[[], None]:
    """Have ``stop`` called at SIGTERM in the running event loop, if that is of the main thread. The answer undoes it.

    Whoever listened before is told too, and has the signal back when the last of these is undone.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    heard = signal.getsignal(signal.SIGTERM)
    if not isinstance(heard, Sigterm):
        if heard is None:  # no handler of Python's: it could not be put back
            return lambda: None
        heard = Sigterm(heard)
        signal.signal(signal.SIGTERM, heard)
    return heard.told(asyncio.get_running_loop(), stop)


class Sigterm:
    """The handler of SIGTERM while somebody here listens."""

    def __init__(self, before: Any) -> None:
        self._before = before
        self._stops: list[Callable[[], object]] = []

    def __call__(self, number: int, frame: FrameType | None) -> None:
        for stop in tuple(self._stops):
            stop()
        if callable(self._before):
            self._before(number, frame)

    def told(self, loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> Callable[[], None]:
        """Tell ``stop`` in ``loop``, until the answer is called."""

        def heard() -> object:
            return soon(loop, stop)

        def undo() -> None:
            self._stops.remove(heard)
            if not self._stops and signal.getsignal(signal.SIGTERM) is self:
                signal.signal(signal.SIGTERM, self._before)

        self._stops.append(heard)
        return undo
