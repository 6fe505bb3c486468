"""JSON that is still being written: what it amounts to so far.

Text in the middle of a string counts as far as it came, a name without its value does not, and neither does a number that
may go on. Nothing here judges whether the document will be sound.
"""

from __future__ import annotations

import json
import re
from typing import Any, cast

from power_loop.contracts.structured import loads

_TOKEN = re.compile(r'\s*(?:(?P<string>"[^"\\]*(?:\\.[^"\\]*)*")|(?P<mark>[\[\]{},:])|(?P<word>[^\s"\[\]{},:]+)|(?P<cut>".*))', re.DOTALL)
_CUT_ESCAPE = re.compile(r"(?<!\\)(?:\\\\)*(\\(?:u[0-9a-fA-F]{0,3})?)$")
# Whoever compares, copies or encodes a value goes down it by recursion, which Python ends at 1000 frames.
MAX_DEPTH = 100
_WHOLE_WORDS = {"true": True, "false": False, "null": None}


def partial_json(text: str) -> Any:
    """The first object or list in ``text``, as far as it is written; None while none has begun.

    Tolerates what surrounds it and stops at what is no JSON. ``partial_json('{"a": [1, 2, {"b": "x')`` is
    ``{"a": [1, 2, {"b": "x"}]}``.
    """
    begins = re.search(r"[\[{]", text)
    return _Tree().grown(text, begins.start()) if begins is not None else None


class _Tree:
    """A document that grows by tokens."""

    __slots__ = ("_keys", "_open", "_root")

    def __init__(self) -> None:
        self._root: Any = None
        self._open: list[Any] = []
        self._keys: list[str | None] = []
        """Of each open container, the name that waits for its value."""

    def grown(self, text: str, at: int) -> Any:
        while (found := _TOKEN.match(text, at)) is not None:
            at = found.end()
            if not self._take(found, ends=at == len(text)) or not self._open:
                break
        return self._root

    def _take(self, found: re.Match[str], *, ends: bool) -> bool:
        """Grow by one token; False where it is none that can follow."""
        token = found.group(found.lastgroup or 0)
        match found.lastgroup:
            case "mark":
                return self._mark(token)
            case "string":
                return self._text(_unquoted(token[1:-1]))
            case "cut":
                return self._names_next() or self._text(_unquoted(_without_cut_escape(token[1:])))
            case _:
                return self._word(token, ends=ends)

    def _mark(self, mark: str) -> bool:
        if mark in "{[":
            if len(self._open) == MAX_DEPTH:
                return False
            container: Any = {} if mark == "{" else []
            self._put(container)
            self._open.append(container)
            self._keys.append(None)
        elif mark in "}]":
            self._open.pop()
            self._keys.pop()
        return True

    def _word(self, word: str, *, ends: bool) -> bool:
        if word in _WHOLE_WORDS:
            self._put(_WHOLE_WORDS[word])
            return True
        if ends:
            return True
        try:
            self._put(loads(word))
        except ValueError:
            return False
        return True

    def _names_next(self) -> bool:
        """What comes next is a name, not a value."""
        return bool(self._open) and isinstance(self._open[-1], dict) and self._keys[-1] is None

    def _text(self, text: str | None) -> bool:
        if text is None:
            return False
        if self._names_next():
            self._keys[-1] = text
        else:
            self._put(text)
        return True

    def _put(self, value: Any) -> None:
        if not self._open:
            self._root = value
            return
        parent = self._open[-1]
        if isinstance(parent, list):
            cast("list[Any]", parent).append(value)
        elif (key := self._keys[-1]) is not None:
            parent[key], self._keys[-1] = value, None


def _unquoted(inner: str) -> str | None:
    try:
        text: str = json.loads(f'"{inner}"', strict=False)
    except ValueError:
        return None
    # Half of a pair of surrogates; the other half is on its way.
    return text[:-1] if "\ud800" <= text[-1:] <= "\udbff" else text


def _without_cut_escape(inner: str) -> str:
    found = _CUT_ESCAPE.search(inner)
    return inner if found is None else inner[: found.start(1)]
