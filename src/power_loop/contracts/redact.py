"""Secrets out of what leaves the process: by the name they stand under, and by what they look like.

Pure, and harmless to apply twice. Cutting long fields is the business of whoever writes them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

HIDDEN = "***"

# Names, as runs of whole words: `api_key`, `apiKey` and `x-api-key` are hidden, `max_tokens` and `tokenizer` are not.
_SECRET_NAMES = (
    "api key", "apikey", "authorization", "bearer", "password", "passwd", "secret", "token", "private key", "access key", "cookie", "dsn",
)  # fmt: skip

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

_QUOTED_NAME = r"(?:[\w-]*[_-])?(?:api_?key|authorization|password|passwd|secret|token|(?:private|access)_key|cookie|dsn)"

_PATTERNS = (
    # A credential has a digit or padding, or is long; a basic question is neither.
    (re.compile(r"\b(bearer|basic)\s+(?=\S*[\d=]|\S{20})[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    # Keys of model providers, code hosts and clouds begin with a word of their own.
    (re.compile(r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}|\b(?:gh[pousr]_|github_pat_|xox[abprs]-|AKIA|ASIA|AIza)[A-Za-z0-9_-]{12,}"), HIDDEN),
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s/:@]*):[^\s/@]+@", re.IGNORECASE), rf"\1:{HIDDEN}@"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), HIDDEN),
    # The arguments of a tool call are JSON inside a string.
    (re.compile(rf'("{_QUOTED_NAME}"\s*:\s*)"(?:[^"\\]|\\.)*"', re.IGNORECASE), rf'\1"{HIDDEN}"'),
)


def redact(value: Any, *, keys: bool = True, values: bool = True) -> Any:
    """A copy of ``value`` with `HIDDEN` for secrets; mappings become dicts, sets and tuples lists, numbers stay."""
    match value:
        case str():
            return redact_text(value) if values else value
        case Mapping():
            pairs = cast("Mapping[Any, Any]", value).items()
            return {k: _hide(v) if keys and is_secret_name(str(k)) else redact(v, keys=keys, values=values) for k, v in pairs}
        case list() | tuple() | set() | frozenset():
            return [redact(item, keys=keys, values=values) for item in cast("list[Any]", value)]
        case _:
            return value


def redact_text(text: str) -> str:
    """``text`` without what looks like a secret."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def is_secret_name(name: str) -> bool:
    """Whether what stands under ``name`` is a secret, whatever it looks like."""
    words = f" {' '.join(_WORD.findall(name)).lower()} "
    return any(f" {secret} " in words for secret in _SECRET_NAMES)


def _hide(value: Any) -> Any:
    match value:
        case str() | bytes():
            return HIDDEN if value else value
        case Mapping():
            return {k: _hide(v) for k, v in cast("Mapping[Any, Any]", value).items()}
        case list() | tuple() | set() | frozenset():
            return [_hide(item) for item in cast("list[Any]", value)]
        case _:
            return value
