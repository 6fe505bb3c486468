"""Trying again: the one loop that the retry policy decides about."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from power_loop.contracts.cancel import CancellationToken
from power_loop.contracts.clock import Clock, Ids, SystemClock, SystemIds
from power_loop.contracts.errors import CancellationRequested, LLMError, LLMPermanentError, LLMRetryExhausted, LLMTimeout
from power_loop.contracts.retry import LLMRetryPolicy

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
    `CancellationRequested` when ``token`` stops it between attempts. `CancelledError` passes through at once.
    """
    clock, ids = clock or SystemClock(), ids or SystemIds()
    started, attempt = clock.monotonic(), 0
    while True:
        attempt += 1
        if token is not None:
            token.raise_if_cancelled()
        error = await _failure(call, policy, clock.monotonic() - started)
        if isinstance(error, _Done):
            return error.value  # type: ignore[no-any-return]  # what `call` gave, carried through untyped
        elapsed = clock.monotonic() - started
        if isinstance(error, _OutOfTime):
            raise LLMTimeout(elapsed=elapsed, attempts=attempt, total_timeout=policy.total_timeout) from error.__cause__
        if policy.give_up_on(error):
            raise as_permanent(error) from error
        wait = policy.wait_s(attempt, retry_after_s=retry_after(error), chance=ids.uniform(-1.0, 1.0))
        if not policy.tries_again(error, attempt):
            raise LLMRetryExhausted(attempts=attempt, last_error=error)
        if policy.total_timeout is not None and elapsed + wait >= policy.total_timeout:
            raise LLMTimeout(elapsed=elapsed, attempts=attempt, total_timeout=policy.total_timeout) from error
        if on_retry is not None:
            on_retry(attempt, error, wait)
        await clock.sleep(wait)


class _Done(Exception):
    """Carries a value; never raised."""

    def __init__(self, value: object) -> None:
        self.value = value


class _OutOfTime(Exception):
    """The policy's time ran out during an attempt."""


async def _failure(call: Callable[[], Awaitable[T]], policy: LLMRetryPolicy, elapsed: float) -> Exception:
    """What one attempt failed with, or `_Done` with what it gave."""
    left = None if policy.total_timeout is None else max(0.0, policy.total_timeout - elapsed)
    limit = asyncio.timeout(left)
    try:
        async with limit:
            return _Done(await call())
    except CancellationRequested:
        raise
    except TimeoutError as error:
        return _OutOfTime() if limit.expired() else error
    except policy.retry_on as error:
        if isinstance(error, Exception):
            return error
        raise


def retry_after(error: BaseException) -> float | None:
    """Seconds that the provider asked for."""
    return error.retry_after_s if isinstance(error, LLMError) else None


def as_llm_error(error: BaseException) -> LLMError:
    """``error`` itself, or an `LLMError` to be raised from it."""
    if isinstance(error, LLMError):
        return error
    wrapped = LLMError(f"the model call failed with {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


def as_permanent(error: BaseException) -> LLMError:
    if isinstance(error, LLMPermanentError):
        return error
    wrapped = LLMPermanentError(f"{type(error).__name__}: {error}", status_code=getattr(error, "status_code", None))
    wrapped.__cause__ = error
    return wrapped
