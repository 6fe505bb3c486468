"""Keeping leases alive during long model and tool calls, and looking whether somebody outside wants something of them.

On a thread of its own with a small event loop of its own, so that code which blocks the host's event loop does
not cost a lease. What is done about a word from outside is `steer`'s business.
"""

from __future__ import annotations

import asyncio
import threading

from power_loop.contracts.clock import Clock
from power_loop.contracts.log import log
from power_loop.contracts.store import SessionLog
from power_loop.runtime.cancel import Scope
from power_loop.runtime.session import Session
from power_loop.runtime.steer import Watched, look_after

# Leases are looked at three times in their life and renewed from the second look on, so one renewal may fail.
BEATS_PER_LEASE = 3
# What comes through the store (a cancel, a word that steers, a take-over) is seen within this, and a send that is
# over sooner is never looked at.
LOOK_EVERY_S = 1.0


class Heartbeat:
    """Renews the leases of the sends in hand, and watches over those that take long."""

    ttl_ms: int

    def __init__(self, store: SessionLog, clock: Clock, ttl_ms: int) -> None:
        self._store, self._clock, self.ttl_ms = store, clock, ttl_ms
        self.look_every_s = LOOK_EVERY_S
        self._held: dict[str, Watched] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def period_s(self) -> float:
        """How often there is something to look at."""
        return min(self.ttl_ms / 1000 / BEATS_PER_LEASE, self.look_every_s)

    def hold(self, session: Session, scope: Scope | None = None) -> None:
        """From now on, until `drop`. ``scope``: what is stopped or steered from outside.

        Raises `RuntimeError` when the system gives no thread; nothing is held then.
        """
        watched = Watched(session, scope, self._clock.monotonic())
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._run, name="power-loop-heartbeat", daemon=True)
                thread.start()
                self._thread = thread
            self._held[session.head.session_id] = watched

    def drop(self, session_id: str) -> None:
        self._held.pop(session_id, None)

    def epoch_of(self, session_id: str) -> int | None:
        """Under which the session is in hand here; None when it is not."""
        watched = self._held.get(session_id)
        return watched.epoch if watched is not None else None

    async def beat(self) -> None:
        """Renew what would end within two thirds of a lease."""
        if due := self._due():
            until = self._clock.now_ms() + self.ttl_ms
            await self._store.renew([(each.session.head.session_id, each.epoch) for each in due], until)
            for each in due:
                each.renewed_until = until

    async def look(self) -> None:
        """Look after the sends that have been under way for a while: was something said to them, has somebody else taken over?"""
        if long := self._long():
            await look_after(self._store, long)

    def stop(self) -> None:
        """End the thread; no lease is renewed from then on."""
        self._stop.set()
        thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self.period_s) and self._goes_on():
            try:
                if self._due() or self._long():
                    asyncio.run(self._beat_and_look())
            except Exception:  # the database's, the host's clock's, the system's: an event loop wants file descriptors
                log.warning("leases could not be renewed; the next beat tries again", exc_info=True)

    async def _beat_and_look(self) -> None:
        await self.beat()
        await self.look()

    def _due(self) -> list[Watched]:
        soon = self._clock.now_ms() + self.ttl_ms * (BEATS_PER_LEASE - 1) // BEATS_PER_LEASE
        return [each for each in list(self._held.values()) if 0 < each.lease_until < soon]

    def _long(self) -> list[Watched]:
        since = self._clock.monotonic() - self.look_every_s
        return [each for each in list(self._held.values()) if each.scope is not None and each.since <= since]

    def _goes_on(self) -> bool:
        """A loop at rest keeps no thread, so one that is thrown away unclosed leaves none; the next `hold` begins another."""
        with self._lock:
            if not self._held:
                self._thread = None
            return bool(self._held)
