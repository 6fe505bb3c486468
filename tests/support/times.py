"""A clock that moves when somebody waits on it, and chance that is not one."""

from __future__ import annotations


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
