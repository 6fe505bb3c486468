"""Secrets out of what leaves the process: by the name they stand under, and by what they look like.

Pure, and harmless to apply twice. Cutting long fields is the business of whoever writes them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, cast

HIDDEN = "***"

# Names, as runs of whole words: `api_key`, `apiKey` and `x-api-key` are hidden, `max_tokens` and `tokenizer` are not.
SECRET_NAMES = (
    "api key", "apikey", "authorization", "bearer", "password", "passwd", "pwd", "passphrase", "secret", "token", "cookie", "cookies",
    "dsn", "credential", "credentials", "private key", "access key", "account key", "signing key", "encryption key", "subscription key",
    # Written as one word, these have no words in them.
    "clientsecret", "appsecret", "authtoken", "accesstoken", "refreshtoken", "privatekey", "accesskey", "secretkey", "accountkey",
    "dbpassword", "pgpassword",
)  # fmt: skip

_NAMES = re.compile(f" (?:{'|'.join(SECRET_NAMES)}) ")
_HINTS = ("key", "auth", "bearer", "pass", "pwd", "secret", "token", "cookie", "dsn", "credential")
# Where a shell stands, and no secret; the same letters in a connection string are one.
_NO_SECRET_NAMES = frozenset({"PWD", "OLDPWD"})

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

# Keys of model providers, code hosts, clouds and payment services begin with a word of their own; so do signed web tokens.
_KEY_MARKS = (
    "sk-", "pk-", "rk-", "pplx-", "xai-", "glpat-", "xapp-", "GOCSPX-", "sk_", "pk_", "rk_", "tvly-", "nvapi-", "github_pat_", "xox",
    "AKIA", "ASIA", "AIza", "ya29.", "SG.", "hvs.", "pypi-AgE", "dckr_pat_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "gsk_", "hf_", "r8_",
    "npm_", "shp", "whsec_", "dop_v1_", "eyJ",
)  # fmt: skip
_KEYS = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:sk|pk|rk|pplx|xai|glpat|xapp|GOCSPX)-[A-Za-z0-9_-]{16,}|(?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{12,}"
    r"|(?:tvly|nvapi)-[A-Za-z0-9_-]{16,}"
    r"|(?:github_pat_|xox[abeoprs]-|AKIA|ASIA|AIza|ya29\.|SG\.|hvs\.|pypi-AgE|dckr_pat_)[A-Za-z0-9_.-]{12,}"
    # These begin names in programs too; there, words are joined by more lines.
    r"|(?:gh[pousr]|gsk|hf|r8|npm|shp(?:at|ca|pa|ss)|whsec|dop_v1)_[A-Za-z0-9+/]{20,}"
    r"|(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*)"
)
# Behind the words, in small letters, without which it cannot match: looking for those costs next to nothing, and most texts
# have none. Bounded repetitions: a text of megabytes that nearly matches must not cost its square.
_PATTERNS = (
    # A credential has a digit or padding, or is long; a basic question is neither.
    (("bearer", "basic"), re.compile(
        r"\b(bearer|basic)\s{1,8}(?=\S{0,4096}[\d=]|\S{20})[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE
    ), rf"\1 {HIDDEN}"),
    (("://",), re.compile(
        r"(?<![A-Za-z0-9+.-])([a-z][a-z0-9+.-]{0,30}://[^\s/:@]{0,256}):[^\s/]{1,1024}@", re.IGNORECASE
    ), rf"\1:{HIDDEN}@"),
    (("-----begin",), re.compile(
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)", re.DOTALL
    ), HIDDEN),
    # Where a message goes in without any other key.
    (("hooks.slack", "/webhooks/", "api.telegram"), re.compile(
        r"(hooks\.slack\.com/(?:services|workflows)/|discord(?:app)?\.com/api/webhooks/\d{1,32}/|api\.telegram\.org/bot\d{1,32}:)[\w/-]{8,256}",
        re.IGNORECASE,
    ), rf"\1{HIDDEN}"),
    # A link that was signed lets everybody in.
    (("sig=", "-signature="), re.compile(
        r"([?&](?:sig|x-(?:amz|goog)-signature)=)[^\s&\"'<>\\]{8,1024}", re.IGNORECASE
    ), rf"\1{HIDDEN}"),
    (("pwd",), re.compile(r"(;[ ]{0,4}pwd[ ]{0,4}=[ ]{0,4})[^;\s\"']{1,1024}", re.IGNORECASE), rf"\1{HIDDEN}"),
)  # fmt: skip
# The arguments of a tool call are JSON inside a string, and perhaps inside another: quotes come with backslashes before them.
_QUOTED = re.compile(r"""(?P<quote>\\{0,16}["'])(?P<name>[\w .-]{1,64})(?P=quote)\s{0,8}:\s{0,8}(?:(?P=quote)|(?P<opens>[\[{]))""")
# In the query of a URL, a form, a connection string, a file of settings. What follows == is compared, not told.
_ASSIGNED = re.compile(r"(?<![\w.-])(?P<name>[\w.-]{1,64})[ \t]{0,4}=[ \t]{0,4}(?P<value>[^\s&;,\"'<>=\\][^\s&;,\"'<>]*)")
_ASSIGNED_QUOTED = re.compile(r"""(?<![\w.-])(?P<name>[\w.-]{1,64})(?:[ \t]{0,4}=[ \t]{0,4}|:[ \t]{1,4})(?P<quote>\\{0,16}["'])""")
# An option of a command; behind its name prose may go on.
_OPTION_QUOTED = re.compile(r"""(?<![\w-])--(?P<name>[a-z][a-z-]{2,64})[ \t]{1,4}(?P<quote>\\{0,16}["'])""")
_OPTION = re.compile(
    r"(?<![\w-])--(?P<name>[a-z][a-z-]{2,64})[ \t]{1,4}(?=[^\s\d]{0,256}\d|\S{16})"
    r"(?P<value>[^\s,;\"'<>(){}\[\]\\|&-][^\s,;\"'<>(){}\[\]\\|&]{3,1023})"
)
# What a program is given to sign in with, where nothing names it: ``-u me:…``, and ``-p…`` of a database's client.
_SIGN_IN = re.compile(
    r"""(?<![^\s])(?:-[uU][ ]{0,4}|--(?:proxy-)?user[ =]{1,4})(?P<quote>\\{0,16}["'])?[^\s:"'\\]{1,256}:"""
    r"""(?P<value>(?(quote)[^"'\\\r\n]{1,1024}|[^\s"'\\]{1,1024}))"""
)
_SHORT_PASSWORD = re.compile(
    r"""(?<=\s)-p(?P<quote>\\{0,16}["'])?(?P<value>(?(quote)[^"'\\\r\n]{1,1024}|(?!ort\b|[\d:./])[^\s"'\\;|&]{1,1024}))"""
)
# The programs that take them.
_SIGNS_IN, _TAKES_A_PASSWORD = ("curl",), ("mysql", "mariadb")
# How far in front of it the program may stand.
_COMMAND_CHARS = 1000
# One line under one name.
_TAGGED = re.compile(
    r"<(?P<name>(?:[\w.-]{1,64}:)?[\w.-]{1,64})(?:\s[^<>]{0,256})?>(?P<value>(?!\s)(?:<!\[CDATA\[[^<\r\n]{1,1024}\]\]>|[^<\r\n]{1,1024}))(?=<\\?/(?P=name)>)"
)
# Headers with a value of several words; then any other name before one word that ends the line, or what is quoted there.
_HEADER = re.compile(r"(?<![\w.-])(?P<name>(?:proxy-)?authorization|(?:set-)?cookie):[ \t]{1,4}(?P<value>[^\r\n\"'\\]+)", re.IGNORECASE)
_LINE = re.compile(
    r"(?<![\w.-])(?P<name>[\w.-]{1,64}):[ \t]{1,4}(?P<value>[^\s,;\"'<>(){}\[\]\\]{6,1024})(?=[ \t]{0,8}(?:[\r\n,;\"'}\\]|\Z))"
)
# A header written as two strings in a list of such pairs, or as an object with a name and a value.
_PAIR = re.compile(
    r"""(?:[\[(]|[\])][ \t\r\n]{0,8},)\s{0,8}[\[(]\s{0,8}(?P<quote>\\{0,16}["'])(?P<name>[\w .-]{1,64})(?P=quote)"""
    r"""\s{0,8},\s{0,8}(?P=quote)"""
)
_NAMED = re.compile(
    r"""(?P<quote>\\{0,16}["'])(?:name|key|header)(?P=quote)\s{0,8}:\s{0,8}(?P=quote)(?P<name>[\w .-]{1,64})(?P=quote)\s{0,8},\s{0,8}"""
    r"""(?P=quote)value(?P=quote)\s{0,8}:\s{0,8}(?P=quote)""", re.IGNORECASE
)  # fmt: skip
# What is no secret behind the name of one: a number; nothing; a type; a place where one will be put; an expression of a program.
_PLAIN = re.compile(
    r"[-+]?\d+(?:\.\d+)?|(?i:none|null|nil|true|false|undefined|required|optional|unknown|await|new|bearer|basic|string|secretstr|number|boolean)[;,)]{0,3}"
    r"|\$?\{\{?[\w.!:()-]{0,64}\}\}?|\$\(?\w{1,64}\)?|%\(?\w{1,64}\)?s?|(?:self|this|os|process|config|settings|args|options|req|request|env)"
    r"(?:\.[A-Za-z_]{1,64}){1,8}[)\]]{0,3}|[A-Za-z_]{1,64}(?:\.[A-Za-z_]{1,64}){0,8}[(\[](?:[A-Za-z_.]{0,64}[)\]]{1,3})?"
)


def _any_of(words: Iterable[str]) -> re.Pattern[str]:
    """Finds any of ``words``. Those that begin alike are looked for together: most letters of a text begin none of them."""

    def joined(ends: Sequence[str]) -> str:
        if "" in ends:
            return ""
        by_first = groupby(sorted(ends), key=lambda end: end[0])
        return f"(?:{'|'.join(re.escape(first) + joined([end[1:] for end in alike]) for first, alike in by_first)})"

    return re.compile(joined([*words]))


_KEY_MARKED = _any_of(_KEY_MARKS)
_HINTED = _any_of(_HINTS)
# Where nothing of this is, in small letters, nothing but a key can be hidden.
_SUSPECT = _any_of([*_HINTS, *_SIGNS_IN, *_TAKES_A_PASSWORD, *(mark for marks, _, _ in _PATTERNS for mark in marks)])


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
    small = text.casefold()
    if _KEY_MARKED.search(text):
        text = _KEYS.sub(HIDDEN, text)
    if (keys is SECRET_NAMES or not keys) and not _SUSPECT.search(small):
        return text
    for marks, pattern, replacement in _PATTERNS:
        if any(mark in small for mark in marks):
            text = pattern.sub(replacement, text)
    if any(program in small for program in _SIGNS_IN):
        text = _SIGN_IN.sub(lambda found: _given(found, _SIGNS_IN, ";|"), text)
    if any(program in small for program in _TAKES_A_PASSWORD):
        text = _SHORT_PASSWORD.sub(lambda found: _given(found, _TAKES_A_PASSWORD, ";|&\n"), text)
    named = _HINTED.search(small) if keys is SECRET_NAMES else keys
    return _without_named(text, keys) if named else text


def is_secret_name(name: str, names: Collection[str] = SECRET_NAMES) -> bool:
    """Whether what stands under ``name`` is a secret, whatever it looks like. ``names`` are words, however they are joined."""
    if names is SECRET_NAMES:
        small = name.casefold()
        return _HINTED.search(small) is not None and name not in _NO_SECRET_NAMES and _NAMES.search(_words(name)) is not None
    words = _words(name)
    return any(_words(secret) in words for secret in names)


def is_secret_named(held: Mapping[Any, Any], names: Collection[str] = SECRET_NAMES) -> bool:
    """Whether ``held`` is the pair of a secret's name and its value: ``{"name": "authorization", "value": …}``."""
    if "value" not in held:
        return False
    name = held.get("name") or held.get("key") or held.get("header")
    return isinstance(name, str) and is_secret_name(name, names)


def are_pairs(items: Collection[Any]) -> bool:
    """Whether each of ``items`` is a name with a value, as headers are written: ``[["Authorization", …]]``."""
    return bool(items) and all(isinstance(item, (list, tuple)) and len(item) == 2 and isinstance(item[0], str) for item in items)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] - of any kind


def _words(name: str) -> str:
    """`` x api key `` for ``X-Api-Key``: words with a space on either side."""
    return f" {' '.join(_WORD.findall(name)).lower()} "


def _clean(value: Any, names: Collection[str], values: bool) -> Any:
    match value:
        case str():
            return redact_text(value, names) if values else value
        case Mapping():
            held = cast("Mapping[Any, Any]", value)
            named = bool(names) and is_secret_named(held, names)
            return {
                _key(k, values): _hide(v)
                if names and (is_secret_name(str(k), names) or (named and k == "value"))
                else _clean(v, names, values)
                for k, v in held.items()
            }
        case list() | tuple() | set() | frozenset():
            items = cast("list[Any]", value)
            if names and are_pairs(items):
                return [[_clean(k, names, values), _hide(v) if is_secret_name(k, names) else _clean(v, names, values)] for k, v in items]
            return [_clean(item, names, values) for item in items]
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


def _without_named(text: str, keys: Collection[str]) -> str:
    """``text`` without what stands under secret names in it."""
    if "[" in text or "(" in text:
        text = _without_quoted(text, keys, _PAIR)
    if "=" in text or ":" in text:
        for pattern in (_QUOTED, _ASSIGNED_QUOTED, _NAMED):
            text = _without_quoted(text, keys, pattern)
        for pattern in (_HEADER, _ASSIGNED, _LINE):
            text = pattern.sub(lambda found: _told(found, keys), text)
    if "</" in text or "<\\/" in text:
        text = _TAGGED.sub(lambda found: _told(found, keys), text)
    if "--" in text:
        text = _without_quoted(text, keys, _OPTION_QUOTED)
        text = _OPTION.sub(lambda found: _told(found, keys), text)
    return text


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


def _given(found: re.Match[str], programs: tuple[str, ...], ends: str) -> str:
    """``found`` without its value, where one of the ``programs`` stands before it with nothing of ``ends`` in between."""
    text, until, value = found.string, found.start(), found["value"]
    first = max(0, until - _COMMAND_CHARS)
    command = text[max(first, *(text.rfind(end, first, until) + 1 for end in ends)) : until].casefold()
    if _PLAIN.fullmatch(value) or not any(program in command for program in programs):
        return found[0]
    return f"{found[0][: -len(value)]}{HIDDEN}"


def _told(found: re.Match[str], names: Collection[str]) -> str:
    name, value = found["name"], found["value"]
    if not is_secret_name(name, names) or _PLAIN.fullmatch(value) or value.rstrip(")],;") == name:
        return found[0]
    return f"{found[0][: -len(value)]}{HIDDEN}"
