"""What a process has of its machine: time, chance, threads, a pulse and a proof of life. A simulation brings its own."""

from __future__ import annotations

from power_loop.contracts.clock import Clock, Ids, SystemClock, SystemIds
from power_loop.contracts.store import SessionLog
from power_loop.runtime.heartbeat import Heartbeat
from power_loop.runtime.lifeline import Lifeline
from power_loop.runtime.threads import HandlerThreads


class Machine:
    """The machine that this process runs on."""

    def __init__(self, clock: Clock | None = None, ids: Ids | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self.ids: Ids = ids or SystemIds()

    def threads(self, size: int) -> HandlerThreads:
        """Where synchronous handlers run."""
        return HandlerThreads(size)

    def heartbeat(self, log: SessionLog, ttl_ms: int) -> Heartbeat:
        """What keeps leases alive while a model or a tool takes its time."""
        return Heartbeat(log, self.clock, ttl_ms)

    def lifeline(self, holder: str) -> Lifeline:
        """What proves to others that ``holder`` lives, or that it died."""
        return Lifeline(holder)
