"""From what an SDK raises, or a stream says, to our errors.

The SDKs' classes are known by their attributes (``status_code``, ``body``, ``response.headers``), so nothing is imported
here and any release will do. Whether an error is worth another attempt is `contracts.llm_errors`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

from power_loop.contracts.errors import ContextOverflow, LLMError, LLMPermanentError
from power_loop.contracts.llm_errors import is_permanent_llm_error, is_permanent_status
from power_loop.contracts.redact import redact_text
from power_loop.providers.values import mapping

# What the words are for "this request is longer than my context".
_OVERFLOW_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error", "model_context_window_exceeded"})
_OVERFLOW_TEXT = re.compile(
    r"context[ _](?:length|window|size|limit)|maximum context|max(?:imum)? prompt length"
    r"|(?:prompt|input) (?:is )?too long|too many (?:input )?tokens"
    r"|exceeds? the (?:model's )?max\w* (?:input|number of) tokens",
    re.IGNORECASE,
)

# An error inside a stream has a name instead of a status (both providers' error reference).
_STATUS_OF_TYPE = {
    "invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403, "not_found_error": 404,
    "request_too_large": 413, "rate_limit_error": 429, "rate_limit_exceeded": 429, "insufficient_quota": 429,
    "api_error": 500, "server_error": 500, "timeout_error": 504, "overloaded_error": 529,
}  # fmt: skip


class Refusal(NamedTuple):
    """What a provider said, taken apart."""

    status: int | None
    text: str
    codes: tuple[str, ...] = ()
    """``code`` and ``type`` of the error body, as far as they are there."""
    param: str | None = None
    retry_after_s: float | None = None

    def names(self, *words: str) -> bool:
        """Whether the refusal is about one of these parameters: by its ``param`` where it has one, else by its text."""
        subject = self.text if self.param is None else self.param
        return any(re.search(rf"(?<![A-Za-z]){re.escape(word)}(?![A-Za-z])", subject) for word in words)


def refusal_in_body(body: object, status: int | None = None, retry_after_s: float | None = None, text: str = "") -> Refusal:
    """The refusal that an error body (``{"error": {…}}``, or the inner part) holds."""
    inner: Any = mapping(body).get("error", body)
    error = mapping(inner) or {"message": inner}
    codes = tuple(str(value) for key in ("code", "type") if (value := error.get(key)) is not None)
    number: Any = error.get("code")
    if status is None:
        status = number if isinstance(number, int) else next((_STATUS_OF_TYPE[c] for c in codes if c in _STATUS_OF_TYPE), None)
    param: Any = error.get("param")
    return Refusal(status, str(error.get("message") or text), codes, param if isinstance(param, str) and param else None, retry_after_s)


def refusal_of(error: Exception) -> Refusal:
    """The same of an exception that an SDK raised."""
    known: Any = error
    status: Any = getattr(known, "status_code", None)
    headers: Any = getattr(getattr(known, "response", None), "headers", None) or {}
    wait_s = retry_after_s(cast("Mapping[str, str]", headers), now=time.time())
    return refusal_in_body(getattr(known, "body", None), status if isinstance(status, int) else None, wait_s, str(error))


def error_from(refusal: Refusal, provider: str) -> LLMError:
    """Our error for ``refusal``; its class says whether asking again can help."""
    where = f"{provider} answered {refusal.status}" if refusal.status else f"{provider} failed"
    kind: type[LLMError] = LLMError
    if is_overflow(refusal):
        kind = ContextOverflow
    elif is_permanent_status(refusal.status, refusal.codes):
        kind = LLMPermanentError
    return kind(f"{where}: {redact_text(refusal.text)}", status_code=refusal.status, provider=provider, retry_after_s=refusal.retry_after_s)


def as_llm_error(error: Exception, provider: str) -> LLMError:
    """``error`` as one of ours. The caller raises it ``from error``."""
    if isinstance(error, LLMError):
        return error
    refusal = refusal_of(error)
    if refusal.status is not None:
        return error_from(refusal, provider)
    # ValueError and TypeError come from an SDK that will not even build the request.
    hopeless = is_permanent_llm_error(error) or isinstance(error, (ValueError, TypeError))
    kind = LLMPermanentError if hopeless else LLMError
    text = f"{provider} failed: {type(error).__name__}: {redact_text(str(error))}{_whom(error)}"
    return kind(text, provider=provider, retry_after_s=refusal.retry_after_s)


def _whom(error: Exception) -> str:
    """The address that did not answer and the reason in the system's words, as far as an SDK tells: a wrong address is known by them."""
    address = urlsplit(str(getattr(vars(error).get("request"), "url", "")))
    if address.hostname is None:
        return ""
    port = f":{address.port}" if address.port else ""
    reason = f": {redact_text(str(error.__cause__))}" if error.__cause__ else ""
    return f" ({address.scheme}://{address.hostname}{port}{address.path}{reason})"


def is_overflow(refusal: Refusal) -> bool:
    """Whether the request was longer than the model's context."""
    if not _OVERFLOW_CODES.isdisjoint(refusal.codes):
        return True
    return refusal.status in (400, 413, 422) and _OVERFLOW_TEXT.search(refusal.text) is not None


def retry_after_s(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds to wait by ``retry-after-ms`` or ``Retry-After`` (seconds or an HTTP date); ``now`` in seconds, UTC."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            return max(0.0, float(value) * unit_s)
        except ValueError:
            pass
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - now)
        except ValueError:
            continue
    return None
