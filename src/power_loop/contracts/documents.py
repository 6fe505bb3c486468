"""A document that somebody else wrote, read into plain JSON: text is parsed, an object copied, what is no JSON is named with its place.

Nothing here raises for what the document holds: a model repairs its document from a list of problems, not from a
traceback. What the document must look like is `grammar`'s business.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from power_loop.contracts.text import encodes

# Documents are written by hand or by models: what is deeper or larger than this is a mistake, or an attack.
MAX_DEPTH = 120
MAX_VALUES = 1_000_000
MAX_CHARS = 50_000_000
# More digits than any JSON reader keeps; longer numbers cannot even be shown.
MAX_BITS = 1024
SHOWN_CHARS = 60


class Problem(NamedTuple):
    """What is wrong at one place of a document, and what would put it right."""

    path: str
    """``root.steps[1].spec.name``; empty for the whole document."""
    text: str
    hint: str = ""

    def __str__(self) -> str:
        what = f"{self.path or '(document)'}: {self.text}"
        return f"{what}; {self.hint}" if self.hint else what


def below(path: str, key: str | int) -> str:
    """The path of a member or item: ``a`` and ``b`` make ``a.b``; 2 makes ``a[2]``; a key that is no word makes ``a["b c"]``."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    if not key.replace("-", "_").isidentifier():
        return f"{path}[{json.dumps(key[:SHOWN_CHARS], ensure_ascii=False)}]"
    return f"{path}.{key}" if path else key


def kind_of(value: Any) -> str:
    """``value`` in words, short: ``text``, ``a list``, ``the number 3``."""
    match value:
        case None | bool():
            return json.dumps(value)
        case str():
            return "text"
        case int() | float():
            return f"the number {value}"
        case dict():
            return "an object"
        case list() | tuple():
            return "a list"
        case _:
            return f"a Python {type(cast('object', value)).__name__}"


def shown(value: Any) -> str:
    """``value`` as JSON, cut to what is enough to recognise it by."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"


def read(source: object, what: str) -> tuple[Any, list[Problem]]:
    """(the document as plain JSON, why it is none). With problems, the document is of no use.

    ``source`` is JSON text or an object; ``what`` names it in the problems: "a workflow", "an agent spec".
    """
    if isinstance(source, str):
        return _parsed(source, what)
    if isinstance(source, Mapping):
        return plain(cast("Mapping[Any, Any]", source))
    return None, [Problem("", f"{what} is JSON text or an object, not {kind_of(source)}")]


def _parsed(text: str, what: str) -> tuple[Any, list[Problem]]:
    problems: list[Problem] = []

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = sorted({key for key in keys if keys.count(key) > 1}) if len(keys) < 1000 else []
            problems.append(Problem("", f"an object holds the same key twice: {', '.join(map(shown, twice))}", "keep one of them"))
        return found

    if len(text) > MAX_CHARS:
        return None, [Problem("", f"{what} of {len(text)} characters is longer than {MAX_CHARS}")]
    try:
        value: Any = json.loads(text, object_pairs_hook=members)
    except json.JSONDecodeError as error:
        hint = "give the JSON object alone, without fences or prose around it"
        return None, [Problem("", f"this is no JSON: {error.msg} (line {error.lineno}, column {error.colno})", hint)]
    except RecursionError:
        return None, [Problem("", f"the JSON is nested deeper than {MAX_DEPTH} levels")]
    except ValueError as error:  # a number of thousands of digits
        return None, [Problem("", f"this is no JSON: {error}")]
    if not isinstance(value, dict):
        return None, [Problem("", f"{what} is an object, not {kind_of(value)}")]
    copied, more = plain(cast("dict[str, Any]", value))
    return copied, problems + more


def plain(value: Any) -> tuple[Any, list[Problem]]:
    """(a deep copy of ``value`` in dicts, lists, texts and numbers; why it is no JSON)."""
    copier = _Copier()
    try:
        return copier.copy(value, "", 0), copier.problems
    except RecursionError:
        return None, [Problem("", f"the document is nested deeper than {MAX_DEPTH} levels")]


class _Copier:
    """Copies one document, and collects what no JSON can hold."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._values = 0

    def copy(self, value: Any, path: str, depth: int) -> Any:
        self._values += 1
        if self._values > MAX_VALUES or depth > MAX_DEPTH:
            self._too_much(path, depth)
            return None
        match value:
            case None | bool():
                return value
            case str():
                return self._text(str(value), path)
            case int() | float():
                return self._number(value, path)
            case Mapping():
                return self._members(cast("Mapping[Any, Any]", value), path, depth)
            case list() | tuple():
                items = cast("list[Any]", value)
                return [self.copy(item, below(path, n), depth + 1) for n, item in enumerate(items) if not self._full]
            case _:
                self.problems.append(Problem(path, f"{kind_of(value)} is nothing that JSON can hold"))
                return None

    @property
    def _full(self) -> bool:
        return self._values > MAX_VALUES

    def _too_much(self, path: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            self.problems.append(Problem(path[:200], f"the document is nested deeper than {MAX_DEPTH} levels", "make it flatter"))
        elif self._values == MAX_VALUES + 1:
            self.problems.append(Problem("", f"the document holds more than {MAX_VALUES} values"))

    def _members(self, members: Mapping[Any, Any], path: str, depth: int) -> dict[str, Any]:
        copied: dict[str, Any] = {}
        for key, member in members.items():
            if self._full:
                break
            if not isinstance(key, str):
                self.problems.append(Problem(path, f"a key is {kind_of(key)}, but JSON has only text keys", "put it in quotes"))
                continue
            copied[self._text(str(key), path)] = self.copy(member, below(path, key), depth + 1)
        return copied

    def _text(self, text: str, path: str) -> str:
        if "\0" in text or not (text.isascii() or encodes(text)):
            self.problems.append(Problem(path, "holds a NUL character or a lone surrogate, which no database keeps", "take it out"))
            return text.replace("\0", "").encode("utf-8", "replace").decode()
        return text

    def _number(self, number: float, path: str) -> float | None:
        if isinstance(number, int):
            if number.bit_length() <= MAX_BITS:
                return int(number)
            self.problems.append(Problem(path, "the number has hundreds of digits", "give it as text"))
            return None
        if math.isfinite(number):
            return float(number)
        self.problems.append(Problem(path, f"{number} is no number of JSON", "give null or text"))
        return None
