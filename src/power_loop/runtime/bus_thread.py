"""A bounded queue with one worker thread behind it, for subscribers that must not delay who publishes.

The worker starts with the first item and goes home when nothing comes for a while, so a queue that nobody shuts
down leaves no thread behind.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, Literal, TypeVar

from power_loop.contracts.soon import soon

Overflow = Literal["drop_newest", "drop_oldest", "block"]
Item = TypeVar("Item")

# How long the worker waits for the next item before its thread ends.
IDLE_S = 0.5


class Line(Generic[Item]):
    """Items are handled one by one, in the order they came. Safe from any thread."""

    def __init__(self, handle: Callable[[Item], None], size: int, on_overflow: Overflow) -> None:
        self._handle, self._size, self._on_overflow = handle, size, on_overflow
        self.dropped: int = 0
        self._closed = False
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._items: deque[Item] = deque()
        self._worker: threading.Thread | None = None
        self._accepted = self._done = 0
        self._waiting: list[tuple[int, Callable[[], None]]] = []

    def _leave_the_parent(self) -> None:
        """In a forked child: what was queued is the parent's to handle, and so is its worker."""
        if os.getpid() != self._process:
            self._reset()

    # --- coming in -------------------------------------------------------------------------

    def put(self, item: Item) -> None:
        """Queue ``item``; when the queue is full, drop or wait as the policy says."""
        while not self.offer(item):
            with self._changed:
                self._changed.wait_for(lambda: len(self._items) < self._size or self._closed)

    def offer(self, item: Item) -> bool:
        """The same without waiting: False when the queue is full and the policy is to wait."""
        self._leave_the_parent()
        with self._changed:
            if not self._closed and self._has_room():
                self._items.append(item)
                self._accepted += 1
                self._wake_worker()
                return True
            if not self._closed and self._on_overflow == "block":
                return False
            self.dropped += 1
            return True

    def _has_room(self) -> bool:
        """Is there room for one more, or is room made for it? A handler that publishes never waits for itself."""
        if len(self._items) < self._size:
            return True
        if self._on_overflow == "drop_oldest":
            self._items.popleft()
            self.dropped += 1
            self._count()
            return True
        return self._on_overflow == "block" and threading.current_thread() is self._worker

    def _wake_worker(self) -> None:
        if self._worker is None or not self._worker.is_alive():
            # A daemon, so that a handler that hangs does not keep the interpreter from ending.
            self._worker = threading.Thread(target=self._work, name="power-loop-events", daemon=True)
            self._worker.start()
        self._changed.notify_all()

    # --- going out ---------------------------------------------------------------------------

    def _work(self) -> None:
        while (item := self._next()) is not None:
            try:
                self._handle(item)
            finally:
                with self._changed:
                    self._count()

    def _next(self) -> Item | None:
        """The next item; None when the worker may go home."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed, IDLE_S)
            if not self._items:
                self._worker = None
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def _count(self) -> None:
        """One item more is out of the way; tell those who waited for it. The caller holds the lock."""
        self._done += 1
        due = [tell for number, tell in self._waiting if number <= self._done]
        self._waiting = [(number, tell) for number, tell in self._waiting if number > self._done]
        for tell in due:
            tell()

    # --- waiting for it ------------------------------------------------------------------------

    async def passed(self) -> bool:
        """Wait until all that is queued now was handled; False when nothing was."""
        self._leave_the_parent()
        return await self._until(self._accepted)

    async def room(self) -> None:
        """Wait until there is room for one more; another may still be quicker to take it."""
        await self._until(self._accepted - self._size + 1)

    async def _until(self, number: int) -> bool:
        passed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._changed:
            if self._done >= number:
                return False
            self._waiting.append((number, lambda: wake(passed)))
        await passed
        return True

    def close(self, timeout_s: float) -> None:
        """Take nothing more, handle what is queued for up to ``timeout_s``, then drop and count the rest."""
        self._leave_the_parent()
        with self._changed:
            self._closed = True
            worker = self._worker
            self._changed.notify_all()
        if worker is None or worker is threading.current_thread():
            return
        worker.join(timeout_s)
        with self._changed:
            while self._items:
                self._items.popleft()
                self.dropped += 1
                self._count()


def wake(waiter: asyncio.Future[None]) -> None:
    """Let whoever awaits ``waiter`` go on, from any thread."""
    soon(waiter.get_loop(), lambda: waiter.done() or waiter.set_result(None))
