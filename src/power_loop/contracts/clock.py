"""Time and chance, as ports: nobody below the door asks the machine for either."""

from __future__ import annotations

import asyncio
import os
import random
import time
from typing import Protocol

# A hundred years: what lies further ahead is a slip of the unit.
LONGEST_S = 100 * 366 * 24 * 3600


def is_between(least: float, value: object, most: float) -> bool:
    """``value`` is a number, and not out of these bounds."""
    return isinstance(value, (int, float)) and least <= value <= most


class Clock(Protocol):
    """Wall time for what is stored, monotonic time for what is measured, and waiting."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class Ids(Protocol):
    """Where chance comes from: names that nobody else has, and jitter."""

    def token(self, n_bytes: int) -> str:
        """``2 * n_bytes`` hex digits."""
        ...

    def bits(self, n: int) -> int: ...

    def uniform(self, low: float, high: float) -> float: ...


class SystemClock:
    """The machine's own clocks."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SystemIds:
    """The machine's own source of chance."""

    def token(self, n_bytes: int) -> str:
        return os.urandom(n_bytes).hex()

    def bits(self, n: int) -> int:
        # Tells two writers apart and guards no secret; the generator is seeded anew in a forked child.
        return random.getrandbits(n)

    def uniform(self, low: float, high: float) -> float:
        return random.uniform(low, high)
