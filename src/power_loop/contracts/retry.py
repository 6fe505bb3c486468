"""How often and how long a failing model call is tried: a decision, not a loop."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast, get_args

from power_loop.contracts.llm_errors import is_permanent_llm_error

# The largest power of two that is a float.
_MAX_EXPONENT = sys.float_info.max_exp - 1


def backoff(seconds: float, times: int, longest: float) -> float:
    """``seconds``, doubled so many times, however many; ``longest`` at most."""
    return min(longest, seconds * 2.0 ** min(times, _MAX_EXPONENT))


def _are_errors(given: Any) -> bool:
    kinds: tuple[Any, ...] = cast("Any", given) if isinstance(given, tuple) else get_args(given) or (given,)
    return all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds)


@dataclass(frozen=True)
class LLMRetryPolicy:
    """Attempts, and the seconds between and around them."""

    max_attempts: int = 3
    backoff_initial: float = 0.5
    backoff_max: float = 8.0
    total_timeout: float | None = 60.0
    """Covers calls and waits together; None is no bound."""
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    """Of the error itself, or of one that it was raised from."""
    jitter: float = 0.2
    give_up_on: Callable[[BaseException], bool] = is_permanent_llm_error

    def __post_init__(self) -> None:
        sound = self.max_attempts >= 1 and 0 <= self.backoff_initial <= self.backoff_max and 0 <= self.jitter <= 1
        whole = self.max_attempts == math.inf or self.max_attempts % 1 == 0
        if not sound or not whole or not (self.total_timeout is None or self.total_timeout > 0):
            raise ValueError(
                f"{self} makes no sense: whole max_attempts >= 1, 0 <= backoff_initial <= backoff_max, 0 <= jitter <= 1, total_timeout > 0"
            )
        if not _are_errors(self.retry_on) or not callable(self.give_up_on):
            raise ValueError(f"{self} makes no sense: retry_on holds classes of exceptions, give_up_on is called with an error")

    def tries_again(self, error: BaseException, attempt: int) -> bool:
        """After this ``error`` of attempt number ``attempt`` (from 1), is there another?"""
        return attempt < self.max_attempts and self._covers(error) and not self.give_up_on(error)

    def _covers(self, error: BaseException) -> bool:
        """Transports raise an `LLMError` from what the network or the SDK raised."""
        cause: BaseException | None = error
        seen: list[BaseException] = []
        while cause is not None and cause not in seen:  # an error may be raised from itself
            if isinstance(cause, self.retry_on):
                return True
            seen.append(cause)
            cause = cause.__cause__
        return False

    def wait_s(self, attempt: int, *, retry_after_s: float | None, chance: float) -> float:
        """Seconds before the attempt after ``attempt``; ``chance`` from -1 to 1 spreads it by the jitter.

        A provider that says how long to wait is believed, unless our own wait is longer.
        """
        own_s = backoff(self.backoff_initial, attempt - 1, self.backoff_max)
        return max(own_s * (1 + self.jitter * chance), retry_after_s or 0.0)
