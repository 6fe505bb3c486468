"""Walking the folders below a place: which names are passed over, and which a pattern means.

Links are never entered, and each folder is opened relative to the one above it, so the walk stays where it began.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from power_loop.tools.builtin.saving import TEMPORARY
from power_loop.tools.env import Place
from power_loop.tools.folders import Folder, opened

# What tools leave behind or fetch; entered only when a path or a pattern names it.
SKIPPED_FOLDERS = frozenset(
    {
        *(".git", ".hg", ".svn", ".tox", ".venv", "build", "dist", "node_modules", "target", "vendor"),
        *("__pycache__", ".cache", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis"),
    }
)
# Each open folder on the way down holds a descriptor of the process.
MAX_DEPTH = 100
# How many patterns the braces of one may stand for.
MAX_EXPANDED = 100

_BRACES = re.compile(r"\{([^{}]*,[^{}]*)\}")


class _Part(NamedTuple):
    """One component of a pattern; ``matches`` is None for ``**``, which stands for any folders."""

    text: str
    matches: re.Pattern[str] | None


States = frozenset[int]


class Pattern:
    """What a pattern like ``src/**/*.{py,pyi}`` means, matched name by name. A bare name is meant in any folder."""

    def __init__(self, text: str) -> None:
        """Raises `ValueError` for a pattern that leads elsewhere or stands for too many."""
        self._parts: list[_Part | None] = []
        starts: set[int] = set()
        for each in expanded(text):
            starts.add(len(self._parts))
            self._parts += [*_parts(each), None]
        self.start: States = self._closed(starts)

    @property
    def names_hidden(self) -> bool:
        """Some component names what is hidden."""
        return any(part is not None and part.text.startswith(".") for part in self._parts)

    @property
    def named(self) -> frozenset[str]:
        """Its components, as they are written."""
        return frozenset(part.text for part in self._parts if part is not None)

    def step(self, states: States, name: str) -> tuple[States, list[str]]:
        """Where ``name`` leads from ``states``, and the components that name it."""
        after: set[int] = set()
        by: list[str] = []
        for state in states:
            part = self._parts[state]
            if part is None:
                continue
            if part.matches is None:
                after.add(state)
            elif part.matches.match(name):
                after.add(state + 1)
                by.append(part.text)
        return self._closed(after), by

    def is_file(self, states: States) -> bool:
        """May the path end here?"""
        return any(self._parts[state] is None for state in states)

    def may_go_on(self, states: States) -> bool:
        return any(self._parts[state] is not None for state in states)

    def _closed(self, states: set[int]) -> States:
        """``**`` may stand for nothing at all."""
        todo = list(states)
        while todo:
            state = todo.pop()
            part = self._parts[state]
            if part is not None and part.matches is None and state + 1 not in states:
                states.add(state + 1)
                todo.append(state + 1)
        return frozenset(states)


def expanded(text: str) -> list[str]:
    """``text`` with its braces written out. Raises `ValueError` when they stand for too many patterns."""
    todo, done = [text], list[str]()
    while todo:
        each = todo.pop()
        if (found := _BRACES.search(each)) is None:
            done.append(each)
        else:
            todo += [each[: found.start()] + choice + each[found.end() :] for choice in found[1].split(",")]
        if len(todo) + len(done) > MAX_EXPANDED:
            raise ValueError(f"the braces of the pattern stand for more than {MAX_EXPANDED} patterns")
    return done


def _parts(text: str) -> Iterator[_Part]:
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if not parts:
        raise ValueError("the pattern is empty: give one like '*.py' or 'src/**/*.md'")
    if ".." in parts:
        raise ValueError("a pattern cannot hold '..': give the folder as path")
    if "/" not in text:
        parts = ["**", *parts]
    if parts[-1] == "**":
        parts.append("*")
    for part in parts:
        # Compiled by fnmatch, whose patterns cannot take for ever.
        yield _Part(part, None if part == "**" else re.compile(fnmatch.translate(part)))


class Found(NamedTuple):
    """A file, or a link, that a walk met; its folder is open until the next one is asked for."""

    parts: tuple[str, ...]
    """Below the place where the walk began."""
    folder: Folder
    kind: str

    @property
    def name(self) -> str:
        return self.parts[-1]


def walk(place: Place, pattern: Pattern, *, hidden: bool, stopped: Callable[[], bool]) -> Iterator[Found]:
    """The files and links below ``place`` that ``pattern`` means, by name. Raises `OSError` where the place cannot be opened."""
    with opened(place.root, place.parts) as folder:
        yield from _below(folder, (), pattern, pattern.start, hidden, stopped)


def _below(
    folder: Folder, parts: tuple[str, ...], pattern: Pattern, states: States, hidden: bool, stopped: Callable[[], bool]
) -> Iterator[Found]:
    for entry in sorted(folder.entries()):
        if stopped():
            return
        after, by = pattern.step(states, entry.name)
        if not after or not _is_wanted(entry.name, entry.kind, by, hidden):
            continue
        below = (*parts, entry.name)
        if entry.kind in ("file", "link"):
            if pattern.is_file(after):
                yield Found(below, folder, entry.kind)
        elif entry.kind == "folder" and pattern.may_go_on(after) and len(below) <= MAX_DEPTH:
            try:
                inner = folder.enter(entry.name)
            except OSError:
                continue  # not readable, gone, or a link by now
            try:
                yield from _below(inner, below, pattern, after, hidden, stopped)
            finally:
                inner.close()


def _is_wanted(name: str, kind: str, by: list[str], hidden: bool) -> bool:
    """Is it looked at? ``by``: the components of the pattern that name it."""
    if kind == "folder" and name in SKIPPED_FOLDERS:
        return name in by
    if name.startswith("."):
        return not name.startswith(TEMPORARY) and (hidden or any(each.startswith(".") for each in by))
    return True
