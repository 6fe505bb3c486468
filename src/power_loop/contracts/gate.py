"""At most so many calls in flight, first come first served, over all event loops and threads that share it."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from types import TracebackType

from power_loop.contracts.soon import soon

_Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class Gate:
    """An async context manager that lets ``limit`` callers in at once; None lets everyone in."""

    def __init__(self, limit: int | None) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"max_concurrency is {limit}; give a number of calls from 1, or None for no limit")
        self._free = limit
        self._lock = threading.Lock()
        self._waiting: deque[_Waiter] = deque()

    async def __aenter__(self) -> None:
        if self._free is None:
            return
        with self._lock:
            if self._free > 0 and not self._waiting:
                self._free -= 1
                return
            loop = asyncio.get_running_loop()
            turn = loop.create_future()
            self._waiting.append((loop, turn))
        try:
            await turn
        except asyncio.CancelledError:
            self._leave_line((loop, turn))
            raise

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._next()

    def _leave_line(self, waiter: _Waiter) -> None:
        with self._lock:
            still_waiting = waiter in self._waiting
            if still_waiting:
                self._waiting.remove(waiter)
        if not still_waiting:  # our turn came together with the cancel: hand it on
            self._next()

    def _next(self) -> None:
        """Give the place to the first in line whose event loop still lives, else leave it free."""
        if self._free is None:
            return
        with self._lock:
            while self._waiting:
                loop, turn = self._waiting.popleft()
                if soon(loop, _call, turn):
                    return
            self._free += 1


def _call(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)
