"""Time and chance for tests: a clock that stands until it is moved, and ids that a seed decides."""

from __future__ import annotations

import asyncio
import heapq
import random

# How often tasks may run between two moments of an advance: enough for what one waking sets in motion.
SETTLE_STEPS = 50

# A wall time that no test mistakes for a small number: a November evening of 2023, UTC.
START_MS = 1_700_000_000_000


class ManualClock:
    """A `Clock` that stands still until `advance` moves it; `jump` moves the wall time alone, as an operator does."""

    def __init__(self, now_ms: int = START_MS, monotonic: float = 0.0) -> None:
        self._wall_ms = float(now_ms)
        self._monotonic = monotonic
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._slept = 0

    def now_ms(self) -> int:
        return int(self._wall_ms)

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was advanced this far."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        awake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._slept += 1
        heapq.heappush(self._sleepers, (self._monotonic + seconds, self._slept, awake))
        await awake

    @property
    def sleepers(self) -> int:
        """How many wait for this clock."""
        return sum(not awake.done() for _, _, awake in self._sleepers)

    async def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass: whoever sleeps wakes in order and at its own moment, and may sleep again meanwhile."""
        until = self._monotonic + seconds
        await _settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            due, _, awake = heapq.heappop(self._sleepers)
            self._move_to(max(due, self._monotonic))
            if not awake.done():
                awake.set_result(None)
                await _settle()
        self._move_to(until)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward, or back with a negative number. Nobody wakes."""
        self._wall_ms += seconds * 1000

    def _move_to(self, monotonic: float) -> None:
        self._wall_ms += (monotonic - self._monotonic) * 1000
        self._monotonic = monotonic


class SeededIds:
    """`Ids` that are the same for the same seed."""

    def __init__(self, seed: int | str = 0) -> None:
        self._random = random.Random(seed)

    def token(self, n_bytes: int) -> str:
        return f"{self._random.getrandbits(8 * n_bytes):0{2 * n_bytes}x}"

    def bits(self, n: int) -> int:
        return self._random.getrandbits(n)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)


async def _settle() -> None:
    for _ in range(SETTLE_STEPS):
        await asyncio.sleep(0)
