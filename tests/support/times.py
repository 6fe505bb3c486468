"""A clock that moves when somebody waits on it, time that passes and leases that end when told to, and chance that is not one."""

from __future__ import annotations

import asyncio

from power_loop.contracts.store import Statement
from power_loop.store.sql_store import SessionStore


class FakeClock:
    """Starts at nought; sleeping takes no time and is written down."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.slept: list[float] = []

    def now_ms(self) -> int:
        return round(self.now_s * 1000)

    def monotonic(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


class FixedIds:
    """Chance that always falls the same way: at ``at`` from -1 to 1."""

    def __init__(self, at: float = 0.0) -> None:
        self.at = at

    def token(self, n_bytes: int) -> str:
        return "0" * 2 * n_bytes

    def bits(self, n: int) -> int:
        return 0

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2 + self.at * (high - low) / 2


async def leases_end(store: SessionStore) -> None:
    """Now, all of them: whoever held one is dead, cannot give it back and cannot be proved dead. So nobody waits for it."""
    await store.database.write([Statement(f"UPDATE {store.table_prefix}sessions SET lease_until = 1 WHERE holder IS NOT NULL")])


def time_passes(seconds: float) -> None:
    """At once, for the running event loop: what it was to do by then is due. For limits that shall strike after something, however late."""
    loop = asyncio.get_running_loop()
    before = loop.time
    loop.time = lambda: before() + seconds
