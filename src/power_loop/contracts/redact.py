"""Secrets out of what leaves the process: by the name they stand under, and by what they look like.

Pure, and harmless to apply twice. Cutting long fields is the business of whoever writes them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, cast

HIDDEN = "***"

# Names, as runs of whole words: `api_key`, `apiKey` and `x-api-key` are hidden, `max_tokens` and `tokenizer` are not.
SECRET_NAMES = (
    "api key", "apikey", "authorization", "bearer", "password", "passwd", "secret", "token", "private key", "access key", "cookie", "dsn",
)  # fmt: skip

_NAMES = re.compile(f" (?:{'|'.join(SECRET_NAMES)}) ")
_HINT = re.compile("key|auth|bearer|pass|secret|token|cookie|dsn", re.IGNORECASE)

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

# Bounded repetitions: a text of megabytes that nearly matches must not cost its square.
_PATTERNS = (
    # A credential has a digit or padding, or is long; a basic question is neither.
    (re.compile(r"\b(bearer|basic)\s{1,8}(?=\S{0,4096}[\d=]|\S{20})[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    # Keys of model providers, code hosts, clouds and payment services begin with a word of their own; so do signed web tokens.
    (re.compile(
        r"(?<![A-Za-z0-9])(?:(?:sk|pk|rk|pplx|xai|glpat)-[A-Za-z0-9_-]{16,}|(?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{12,}"
        r"|(?:gh[pousr]_|github_pat_|xox[abprs]-|AKIA|ASIA|AIza|gsk_|hf_|r8_|npm_)[A-Za-z0-9_-]{12,}"
        r"|(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*)"
    ), HIDDEN),
    (re.compile(r"(?<![A-Za-z0-9+.-])([a-z][a-z0-9+.-]{0,30}://[^\s/:@]{0,256}):[^\s/]{1,1024}@", re.IGNORECASE), rf"\1:{HIDDEN}@"),
    (re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----|\Z)", re.DOTALL), HIDDEN),
)  # fmt: skip
# Where nothing of this occurs no pattern can match: most texts are passed over with one look.
_SUSPICIOUS = re.compile(r"[=\"'@]|[A-Za-z0-9_-]{13}|-----B|[Bb][Ee][Aa][Rr][Ee][Rr]|[Bb][Aa][Ss][Ii][Cc]\s")
# The arguments of a tool call are JSON inside a string, and perhaps inside another: quotes come with backslashes before them.
_QUOTED = re.compile(r"""(?P<quote>\\{0,16}["'])(?P<name>[\w .-]{1,64})(?P=quote)\s{0,8}:\s{0,8}(?:(?P=quote)|(?P<opens>[\[{]))""")
# In the query of a URL, a form, a connection string, a file of settings. What follows == is compared, not told.
_ASSIGNED = re.compile(r"(?<![\w.-])(?P<name>[\w.-]{1,64})(?P<is>[ \t]{0,4}=[ \t]{0,4})(?P<value>[^\s&;,\"'<>=\\][^\s&;,\"'<>]*)")
_ASSIGNED_QUOTED = re.compile(r"""(?<![\w.-])(?P<name>[\w.-]{1,64})[ \t]{0,4}=[ \t]{0,4}(?P<quote>\\{0,16}["'])""")
# Headers with a value of several words; then any other name before one word that ends the line, or what is quoted there.
_HEADER = re.compile(
    r"(?<![\w.-])(?P<name>(?:proxy-)?authorization|(?:set-)?cookie)(?P<is>:[ \t]{1,4})(?P<value>[^\r\n\"'\\]+)", re.IGNORECASE
)
_LINE = re.compile(
    r"(?<![\w.-])(?P<name>[\w.-]{1,64})(?P<is>:[ \t]{1,4})(?P<value>[^\s,;\"'<>(){}\[\]\\]{6,1024})(?=[ \t]{0,8}(?:[\r\n,;\"'}\\]|\Z))"
)
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")


def redact(value: Any, *, keys: bool | Collection[str] = True, values: bool = True) -> Any:
    """A copy of ``value`` with `HIDDEN` for secrets; mappings become dicts, sets and tuples lists, numbers stay.

    ``keys`` are the names under which secrets stand: True for `SECRET_NAMES`, False or none for no name at all. What
    cannot be read, because it holds itself or is nested too deep, is hidden whole.
    """
    names = SECRET_NAMES if keys is True else tuple(keys or ())
    try:
        return _clean(value, names, values)
    except RecursionError:
        return HIDDEN


def redact_text(text: str, keys: Collection[str] = SECRET_NAMES) -> str:
    """``text`` without what looks like a secret; ``keys`` name what is one in JSON and ``name=value`` inside it."""
    if not _SUSPICIOUS.search(text) and not (": " in text and _HINT.search(text)):
        return text
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    if keys and ("=" in text or ":" in text):
        for pattern in (_QUOTED, _ASSIGNED_QUOTED):
            text = _without_quoted(text, keys, pattern)
        for pattern in (_HEADER, _ASSIGNED, _LINE):
            text = pattern.sub(lambda found: _told(found, keys), text)
    return text


def is_secret_name(name: str, names: Collection[str] = SECRET_NAMES) -> bool:
    """Whether what stands under ``name`` is a secret, whatever it looks like. ``names`` are words, however they are joined."""
    if names is SECRET_NAMES:
        return _HINT.search(name) is not None and _NAMES.search(_words(name)) is not None
    words = _words(name)
    return any(_words(secret) in words for secret in names)


def _words(name: str) -> str:
    """`` x api key `` for ``X-Api-Key``: words with a space on either side."""
    return f" {' '.join(_WORD.findall(name)).lower()} "


def _clean(value: Any, names: Collection[str], values: bool) -> Any:
    match value:
        case str():
            return redact_text(value, names) if values else value
        case Mapping():
            pairs = cast("Mapping[Any, Any]", value).items()
            return {_key(k, values): _hide(v) if names and is_secret_name(str(k), names) else _clean(v, names, values) for k, v in pairs}
        case list() | tuple() | set() | frozenset():
            return [_clean(item, names, values) for item in cast("list[Any]", value)]
        case _:
            return value


def _key(key: Any, values: bool) -> Any:
    return redact_text(key) if values and isinstance(key, str) else key


def _hide(value: Any) -> Any:
    """What stands under a secret name: numbers stay, whatever else says something is hidden."""
    match value:
        case None | bool() | int() | float() | "" | b"":
            return value
        case Mapping():
            return {k: _hide(v) for k, v in cast("Mapping[Any, Any]", value).items()}
        case list() | tuple() | set() | frozenset():
            return [_hide(item) for item in cast("list[Any]", value)]
        case _:
            return HIDDEN


def _without_quoted(text: str, names: Collection[str], pattern: re.Pattern[str]) -> str:
    """``text`` with `HIDDEN` for the strings that stand under secret names where ``pattern`` finds a name."""
    pieces: list[str] = []
    at = 0
    for found in pattern.finditer(text):
        if found.start() < at or not is_secret_name(found["name"], names):
            continue
        if found.groupdict().get("opens"):
            end = _end_of_block(text, found["quote"], found.end() - 1)
            if '"' in text[found.end() : end] or "'" in text[found.end() : end]:  # else it holds numbers
                pieces += (text[at : found.end() - 1], found["quote"], HIDDEN, found["quote"])
                at = end
        else:
            pieces += (text[at : found.end()], HIDDEN)
            at = _closing(text, found["quote"], found.end())
    return "".join((*pieces, text[at:]))


def _end_of_block(text: str, quote: str, at: int) -> int:
    """Where the list or object that begins at ``at`` ends; what stands between its ``quote`` marks does not count."""
    depth = end = 0
    for found in re.compile(rf"[\[\]{{}}]|{re.escape(quote)}").finditer(text, at):
        if found.start() < end:
            continue
        if found[0] == quote:
            end = _closing(text, quote, found.end()) + len(quote)
            continue
        depth += 1 if found[0] in "[{" else -1
        if depth == 0:
            return found.end()
    return len(text)


def _closing(text: str, quote: str, at: int) -> int:
    """Where the string that begins at ``at`` is closed by ``quote``; an escaped one has more backslashes."""
    while (end := text.find(quote, at)) >= 0:
        if text[end - 1] != "\\":
            return end
        at = end + len(quote)
    return len(text)


def _told(found: re.Match[str], names: Collection[str]) -> str:
    if _NUMBER.fullmatch(found["value"]) or not is_secret_name(found["name"], names):
        return found[0]
    return f"{found['name']}{found['is']}{HIDDEN}"
