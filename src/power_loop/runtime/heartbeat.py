"""Keeping leases alive during long model and tool calls.

On a thread of its own with a small event loop of its own, so that code which blocks the host's event loop does
not cost a lease.
"""

from __future__ import annotations

import asyncio
import logging
import threading

from power_loop.contracts.clock import Clock
from power_loop.contracts.errors import StoreUnavailable
from power_loop.contracts.store import CommitUnknown, SessionLog
from power_loop.runtime.session import Session

log = logging.getLogger("power_loop")

# Leases are looked at three times in their life and renewed from the second look on, so one renewal may fail.
BEATS_PER_LEASE = 3


class Heartbeat:
    """Renews the leases of the sends in hand."""

    def __init__(self, store: SessionLog, clock: Clock, ttl_ms: int) -> None:
        self._store, self._clock, self.ttl_ms = store, clock, ttl_ms
        self._held: dict[str, Session] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def hold(self, session: Session) -> None:
        """From now on, until `drop`."""
        with self._lock:
            self._held[session.head.session_id] = session
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="power-loop-heartbeat", daemon=True)
                self._thread.start()

    def drop(self, session_id: str) -> None:
        self._held.pop(session_id, None)

    async def beat(self) -> None:
        """Renew what would end within two thirds of a lease."""
        now = self._clock.now_ms()
        soon = now + self.ttl_ms * (BEATS_PER_LEASE - 1) // BEATS_PER_LEASE
        due = [(s.head.session_id, s.head.epoch) for s in list(self._held.values()) if 0 < s.head.lease_until < soon]
        if due:
            await self._store.renew(due, now + self.ttl_ms)

    def stop(self) -> None:
        """End the thread; no lease is renewed from then on."""
        self._stop.set()
        thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self.ttl_ms / 1000 / BEATS_PER_LEASE) and self._goes_on():
            try:
                asyncio.run(self.beat())
            except (StoreUnavailable, CommitUnknown):
                log.warning("leases could not be renewed; the next beat tries again", exc_info=True)

    def _goes_on(self) -> bool:
        """A loop at rest keeps no thread, so one that is thrown away unclosed leaves none; the next `hold` begins another."""
        with self._lock:
            if not self._held:
                self._thread = None
            return bool(self._held)
