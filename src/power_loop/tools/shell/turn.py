"""One at a time, first come first served, over all event loops and threads."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from types import TracebackType

from power_loop.contracts.soon import soon


class Turn:
    """A lock for coroutines of any event loop: ``async with turn: ...``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def taken(self) -> bool:
        return self._taken

    async def __aenter__(self) -> None:
        with self._lock:
            if not self._taken:
                self._taken = True
                return
            mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            with self._lock:
                still_waits = mine in self._waiting
                if still_waits:
                    self._waiting.remove(mine)
            if not still_waits:
                self._hand_on()
            raise

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._hand_on()

    def _hand_on(self) -> None:
        with self._lock:
            while self._waiting:
                following = self._waiting.popleft()
                if soon(following.get_loop(), _wake, following):
                    return
            self._taken = False


def _wake(waiting: asyncio.Future[None]) -> None:
    # A waiter that was cancelled in this very moment hands its turn on by itself.
    if not waiting.done():
        waiting.set_result(None)
