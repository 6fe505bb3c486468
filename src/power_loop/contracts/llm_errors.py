"""Which failures of a model call are worth another attempt: pure, by class, status and code.

Translating an SDK's exception into ours is `providers.errors`' business; acting on the answer is that of whoever retries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

from power_loop.contracts.errors import CancellationRequested, LLMError, LLMPermanentError, LLMRetryExhausted

# Asking again changes nothing: bad request, key, payment, permission, address, method, size, content.
PERMANENT_STATUSES = frozenset({400, 401, 402, 403, 404, 405, 413, 422})

# What providers put into a 429 when the account is empty rather than the rate too high.
BILLING_CODES = frozenset(
    {
        "insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "billing_error",
        "exceeded_current_quota_error", "insufficient_balance", "insufficient_credits",
    }
)  # fmt: skip

# Classes of foreign exceptions that say: this request can never be made.
_HOPELESS_NAMES = frozenset({"ValidationError", "APIResponseValidationError"})


def is_permanent_llm_error(error: BaseException) -> bool:
    """Asking the same model again cannot help: the request, the key or the account must change first."""
    if isinstance(error, LLMRetryExhausted) and error.last_error is not None:
        return is_permanent_llm_error(error.last_error)
    if isinstance(error, (LLMPermanentError, ImportError, NotImplementedError, AssertionError)):
        return True
    if not _HOPELESS_NAMES.isdisjoint(base.__name__ for base in type(error).__mro__):
        return True
    return is_permanent_status(status_of(error), _codes_of(error))


def is_transient_llm_error(error: BaseException) -> bool:
    """Another attempt, or another model, may well succeed. A cancel is no failure and never transient."""
    if isinstance(error, (CancellationRequested, asyncio.CancelledError)) or not isinstance(error, Exception):
        return False
    return not is_permanent_llm_error(error)


def is_permanent_status(status: int | None, codes: Collection[str] = ()) -> bool:
    """Whether an answer with this HTTP ``status`` (None: there was no answer) and these error ``codes`` is final."""
    if status == 429:
        return not BILLING_CODES.isdisjoint(codes)
    return status in PERMANENT_STATUSES


def status_of(error: BaseException) -> int | None:
    """The HTTP status that the service answered with; None where there was no answer."""
    if isinstance(error, LLMError):
        return error.status_code
    # A service of the host's may let its SDK's exception through; both SDKs put the status here.
    status: Any = getattr(error, "status_code", None)
    return status if isinstance(status, int) else None


def _codes_of(error: BaseException) -> Collection[str]:
    if isinstance(error, LLMError):
        return ()
    found: tuple[Any, ...] = (getattr(error, "code", None), getattr(error, "type", None))
    return [code for code in found if isinstance(code, str)]
