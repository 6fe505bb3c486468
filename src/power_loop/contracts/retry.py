"""How often and how long a failing model call is tried: a decision, not a loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from power_loop.contracts.llm_errors import is_permanent_llm_error


@dataclass(frozen=True)
class LLMRetryPolicy:
    """Attempts, and the seconds between and around them."""

    max_attempts: int = 3
    backoff_initial: float = 0.5
    backoff_max: float = 8.0
    total_timeout: float | None = 60.0
    """Covers calls and waits together; None is no bound."""
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    jitter: float = 0.2
    give_up_on: Callable[[BaseException], bool] = is_permanent_llm_error

    def __post_init__(self) -> None:
        sound = self.max_attempts >= 1 and 0 <= self.backoff_initial <= self.backoff_max and 0 <= self.jitter <= 1
        if not sound or (self.total_timeout is not None and self.total_timeout <= 0):
            raise ValueError(
                f"{self} makes no sense: max_attempts >= 1, 0 <= backoff_initial <= backoff_max, 0 <= jitter <= 1, total_timeout > 0"
            )

    def tries_again(self, error: BaseException, attempt: int) -> bool:
        """After this ``error`` of attempt number ``attempt`` (from 1), is there another?"""
        return attempt < self.max_attempts and isinstance(error, self.retry_on) and not self.give_up_on(error)

    def wait_s(self, attempt: int, *, retry_after_s: float | None, chance: float) -> float:
        """Seconds before the attempt after ``attempt``; ``chance`` from -1 to 1 spreads it by the jitter.

        A provider that says how long to wait is believed, unless our own wait is longer.
        """
        backoff = min(self.backoff_max, self.backoff_initial * 2 ** (attempt - 1))
        return max(backoff * (1 + self.jitter * chance), retry_after_s or 0.0)
