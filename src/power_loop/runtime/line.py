"""Who drives a session next, within one process: first come, first served.

A FIFO lock per session that works over threads and event loops; nobody waits for another session.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from power_loop.contracts.soon import soon

Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class SessionLines:
    """One line per session. Entries exist only while somebody drives or waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: dict[str, deque[Waiter]] = {}

    def enter(self, session_id: str) -> bool:
        """Take the session if nobody in this process has it."""
        line: deque[Waiter] = deque()
        return self._lines.setdefault(session_id, line) is line  # one step for all threads

    async def wait(self, session_id: str) -> None:
        """Wait for our turn; returns holding the session."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if self.enter(session_id):
                return
            self._lines[session_id].append((loop, turn))
        try:
            await turn
        except BaseException:
            self._give_up(session_id, (loop, turn))
            raise

    def leave(self, session_id: str) -> None:
        """Hand the session to the next in line, if there is one."""
        with self._lock:
            line = self._lines[session_id]
            while line:
                loop, turn = line.popleft()
                if soon(loop, _grant, turn, self, session_id):
                    return
            del self._lines[session_id]

    @asynccontextmanager
    async def held(self, session_id: str) -> AsyncGenerator[None]:
        """Hold the session for the body, in turn."""
        if not self.enter(session_id):
            await self.wait(session_id)
        try:
            yield
        finally:
            self.leave(session_id)

    def names(self) -> list[str]:
        """The sessions that somebody drives or waits for."""
        return list(self._lines)

    def _give_up(self, session_id: str, waiter: Waiter) -> None:
        turn = waiter[1]
        with self._lock:
            line = self._lines.get(session_id)
            if line is not None and waiter in line:
                line.remove(waiter)
                return
        if turn.done() and not turn.cancelled():
            self.leave(session_id)


def _grant(turn: asyncio.Future[None], lines: SessionLines, session_id: str) -> None:
    """In the waiter's own event loop: it may have given up meanwhile, then the turn goes on to the next."""
    if turn.cancelled():
        lines.leave(session_id)
    else:
        turn.set_result(None)
