"""Trying again: the one loop that the retry policy decides about."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from power_loop.contracts.cancel import CancellationToken
from power_loop.contracts.clock import Clock, Ids, SystemClock, SystemIds
from power_loop.contracts.errors import CancellationRequested, LLMError, LLMPermanentError, LLMRetryExhausted, LLMTimeout
from power_loop.contracts.llm_errors import is_permanent_llm_error, status_of
from power_loop.contracts.retry import LLMRetryPolicy
from power_loop.runtime.cancel import cut_short

T = TypeVar("T")
OnRetry = Callable[[int, BaseException, float], None]


async def with_retry(
    call: Callable[[], Awaitable[T]],
    *,
    policy: LLMRetryPolicy,
    token: CancellationToken | None = None,
    on_retry: OnRetry | None = None,
    clock: Clock | None = None,
    ids: Ids | None = None,
) -> T:
    """``call()``, again as ``policy`` allows; ``on_retry(attempt, error, wait_s)`` hears of each failure that is not the last.

    Raises `LLMPermanentError`, `LLMRetryExhausted` or `LLMTimeout` (the last failure is the cause), and
    `CancellationRequested` when ``token`` stops it, which cuts off the attempt, or the wait. `CancelledError` passes through at once.
    """
    clock = clock or SystemClock()
    tries = Tries(policy, clock, ids or SystemIds())
    while True:
        try:
            async with tries.one_more():
                return await (call() if token is None else _unless(token, call))
        except CancellationRequested:
            raise
        except Exception as error:  # the model's own code may raise anything
            wait_s = tries.wait_after(error)
            if on_retry is not None:
                on_retry(tries.count, error, wait_s)
        await (clock.sleep(wait_s) if token is None else _unless(token, partial(clock.sleep, wait_s)))


async def _unless(token: CancellationToken, work: Callable[[], Awaitable[T]]) -> T:
    """What ``work`` gives. Raises `CancellationRequested` instead once ``token`` is cancelled; the work is cut off then."""
    token.raise_if_cancelled()
    task = await cut_short(_awaited(work), token)
    if task.cancelled() or task.exception() is not None:
        token.raise_if_cancelled()
    return task.result()


async def _awaited(work: Callable[[], Awaitable[T]]) -> T:
    return await work()


class Tries:
    """The attempts of one call, and the time that is left for them."""

    def __init__(self, policy: LLMRetryPolicy, clock: Clock, ids: Ids) -> None:
        self._policy, self._clock, self._ids = policy, clock, ids
        self._started = clock.monotonic()
        self._limit = asyncio.timeout(None)
        self._failed: Exception | None = None
        self.count: int = 0

    def one_more(self) -> asyncio.Timeout:
        """The next attempt, cut off when the policy's time is up."""
        self.count += 1
        total = self._policy.total_timeout
        self._limit = asyncio.timeout(None if total is None else max(0.0, total - self._elapsed()))
        return self._limit

    def wait_after(self, error: Exception) -> float:
        """Seconds until the attempt after the one that failed with ``error``. Raises what the caller gets if there is none."""
        policy = self._policy
        if isinstance(error, TimeoutError) and self._limit.expired():
            raise self._out_of_time() from self._failed
        if policy.give_up_on(error):
            raise as_permanent(error)
        if not policy.tries_again(error, self.count):
            text = f"{self.count} attempts failed, the last with {type(error).__name__}: {text_of(error)}"
            raise LLMRetryExhausted(text, attempts=self.count, last_error=error)
        wait_s = policy.wait_s(self.count, retry_after_s=retry_after(error), chance=self._ids.uniform(-1.0, 1.0))
        if policy.total_timeout is not None and self._elapsed() + wait_s >= policy.total_timeout:
            raise self._out_of_time() from error
        self._failed = error
        return wait_s

    def _out_of_time(self) -> LLMTimeout:
        return LLMTimeout(elapsed=self._elapsed(), attempts=self.count, total_timeout=self._policy.total_timeout)

    def _elapsed(self) -> float:
        return self._clock.monotonic() - self._started


def retry_after(error: BaseException) -> float | None:
    """Seconds that the provider asked for."""
    return error.retry_after_s if isinstance(error, LLMError) else None


def text_of(error: BaseException) -> str:
    """What ``error`` says, without secrets: services repeat the key that they refuse."""
    from power_loop.contracts.redact import redact_text  # its patterns cost milliseconds, and only an error needs them

    return redact_text(str(error))


def as_llm_error(error: BaseException) -> LLMError:
    """``error`` itself, or an `LLMError` to be raised from it."""
    if isinstance(error, LLMError):
        return error
    kind = LLMPermanentError if is_permanent_llm_error(error) else LLMError
    wrapped = kind(f"the model call failed with {type(error).__name__}: {text_of(error)}", status_code=status_of(error))
    wrapped.__cause__ = error
    return wrapped


def as_permanent(error: BaseException) -> LLMPermanentError:
    """``error`` itself, or an `LLMPermanentError` to be raised, with it as the cause."""
    if isinstance(error, LLMPermanentError):
        return error
    wrapped = LLMPermanentError(f"{type(error).__name__}: {text_of(error)}", status_code=status_of(error))
    wrapped.__cause__ = error
    return wrapped
