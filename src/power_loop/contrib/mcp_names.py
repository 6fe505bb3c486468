"""The names under which tools of MCP servers are registered: what every provider takes, each once, made of the server's own.

Pure: the same names give the same names, whatever the order in which a server lists them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Container, Iterable

LONGEST = 64
_OTHER = re.compile(r"[^A-Za-z0-9_-]")
_DIGITS = 8


class McpName(str):
    """A registered name that remembers what it was made of: ``original`` is the server's own name of the tool."""

    __slots__ = ("original",)
    original: str

    def __new__(cls, name: str, original: str) -> McpName:
        made = super().__new__(cls, name)
        made.original = original
        return made


def fitting(name: str) -> str:
    """``name`` with every other character as ``_``; a longer one is cut, with a hash of the whole in its last places."""
    plain = _OTHER.sub("_", name) or "_"
    return plain if len(plain) <= LONGEST else _cut(plain, _digest(name))


def names_for(originals: Iterable[str], prefix: str, taken: Container[str] = ()) -> list[McpName]:
    """One name for each of ``originals``, in alphabetical order, no two alike.

    Names that only became alike are numbered: the one that needed no change keeps its name, and so does a tool that has the
    name already (``taken``). Originals that are alike themselves are the caller's to refuse.
    """
    wanted = sorted(set(originals))
    exact = {prefix + original for original in wanted if fitting(prefix + original) == prefix + original}
    given: set[str] = set()
    named: dict[str, str] = {}
    for original in wanted:
        name = fitting(prefix + original)
        if name != prefix + original:
            name = _free(name, lambda each: each in given or each in exact or each in taken)
        given.add(name)
        named[original] = name
    return [McpName(named[original], original) for original in wanted]


def _free(name: str, is_taken: Callable[[str], bool]) -> str:
    number, candidate = 1, name
    while is_taken(candidate):
        number += 1
        candidate = _cut(name, str(number)) if len(name) + len(str(number)) >= LONGEST else f"{name}_{number}"
    return candidate


def _cut(name: str, ending: str) -> str:
    return f"{name[: LONGEST - len(ending) - 1]}_{ending}"


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
