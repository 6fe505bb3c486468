"""Regular expressions out of schemas, which strangers may have written: a search that cannot take for ever.

Python's `re` backtracks: on some patterns its time grows exponentially with the text, and it cannot be interrupted. So it
searches only where few steps are certain beforehand. Elsewhere the pattern is followed here, by the same rules, but no way
on from the same place of the pattern at the same place of the text is tried twice, and steps are counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from importlib import import_module
from typing import Any, NamedTuple

# Python's own reading of a pattern, and of a single sign of it, so that both ways mean the same.
_parser: Any = import_module("re._parser")
_compiler: Any = import_module("re._compiler")

# `re` does some ten to fifty million steps in a second, and what follows a pattern here about half a million.
MAX_STEPS = 2_000_000
MAX_STEPS_PER_CHARACTER = 20
MAX_STEPS_HERE = 300_000
# A pattern like (a{1000}){1000} is a million places long once it is written out.
MAX_PLACES = 5_000

CAP = 1e12

Node = tuple[Any, Any]
Repeat = tuple[int, int, Sequence[Node]]
"""(at least so often, at most, what)"""
Group = tuple[int | None, int, int, Sequence[Node]]
"""(its number, flags that it adds, flags that it takes away, what)"""

LEAVES = frozenset({"LITERAL", "NOT_LITERAL", "ANY", "IN", "AT", "FAILURE"})


class Pattern:
    """A pattern of a schema. Raises `re.error`, `OverflowError` or `RecursionError` for what is none."""

    def __init__(self, text: str) -> None:
        self._search = re.compile(text).search
        self._tree = _parser.parse(text)
        first, flags = str(self._tree[0][1] if self._tree else None), self._tree.state.flags
        self._anchored = first == "AT_BEGINNING_STRING" or (first == "AT_BEGINNING" and not flags & re.MULTILINE)

    def matches(self, text: str) -> bool | None:
        """Whether it is found in ``text``; None where nobody can tell in reasonable time."""
        if self.steps(len(text)) <= max(MAX_STEPS, MAX_STEPS_PER_CHARACTER * len(text)):
            return self._search(text) is not None
        try:
            return Walk(text).finds(self._places, range(1 if self._anchored else len(text) + 1))
        except (TooMuch, RecursionError):
            return None

    @cached_property
    def _places(self) -> Places:
        return Places(self._tree)

    def steps(self, length: int) -> float:
        """At most so many steps take `re` on a text of this length, roughly."""
        ways, work = cost(self._tree, length)
        return min(CAP, (ways + work) * (1 if self._anchored else length + 1))


# --- what backtracking may cost -----------------------------------------------------------------------------


def cost(nodes: Iterable[Node], length: int) -> tuple[float, float]:
    """(in how many ways ``nodes`` may match one after the other, how many steps it takes to try them all)."""
    ways, work = 1.0, 0.0
    for node in nodes:
        more, steps = _cost_of(node, length)
        work = min(CAP, work + ways * steps)
        ways = min(CAP, ways * more)
    return ways, work


def _cost_of(node: Node, length: int) -> tuple[float, float]:
    kind, what = str(node[0]), node[1]
    match kind:
        case "IN":  # a set of signs beyond the first 65,536 is looked through one by one
            return 1.0, 1.0 + len(what) // 32
        case _ if kind in LEAVES:
            return 1.0, 1.0
        case "MAX_REPEAT" | "MIN_REPEAT":
            return _repeated(what, length)
        case "POSSESSIVE_REPEAT":
            return 1.0, sum(_repeated(what, length))
        case "BRANCH":
            each = [cost(branch, length) for branch in what[1]]
            return sum(ways for ways, _ in each), sum(1.0 + work for _, work in each)
        case "SUBPATTERN":
            return cost(what[-1], length)
        case "ASSERT" | "ASSERT_NOT" | "ATOMIC_GROUP":  # once it holds, or not, it is not tried in other ways
            return 1.0, sum(cost(what if kind == "ATOMIC_GROUP" else what[1], length))
        case _:  # what asks for a group again
            return CAP, CAP


def _repeated(what: Repeat, length: int) -> tuple[float, float]:
    least, most, body = what
    ways, work = cost(body, length)
    # What must be repeated is, whether or not it takes anything of the text.
    times = min(most, least + length + 1)
    if times <= 1:
        return 1.0 + ways, 1.0 + work
    if ways == 1.0:
        return float(times - least + 1), times * (work + 1.0)
    tries = min(CAP, ways ** min(times, 25))  # beyond all measure by then, and still a number
    return tries, min(CAP, tries * (work + 1.0))


# --- following a pattern ------------------------------------------------------------------------------------


class TooMuch(Exception):
    """More places or steps than may be, or what only `re` does."""


class Way(NamedTuple):
    """Where one stands."""

    place: int
    at: int
    marks: tuple[int, ...]
    """Where each group began and ended last, or -1; nothing where no group is asked for again."""


Place = Callable[["Walk", int, tuple[int, ...]], Sequence[Way]]
"""``(walk, index, marks)``: the ways on from a place of the pattern, the one that `re` tries first being first."""


class Walk:
    """One search through a text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._left = MAX_STEPS_HERE

    def finds(self, pattern: Places, begins: Iterable[int]) -> bool:
        seen: set[Way] = set()
        return any(self.end_of(pattern.part, Way(pattern.begin, at, pattern.marks), seen) is not None for at in begins)

    def end_of(self, part: Part, way: Way, seen: set[Way]) -> Way | None:
        """The end that `re` comes to first."""
        todo = [way]
        while todo:
            way = todo.pop()
            if way in seen:
                continue
            seen.add(way)
            if way.place == part.end:
                return way
            self._left -= 1
            if self._left < 0:
                raise TooMuch
            todo += reversed(part.places[way.place](self, way.at, way.marks))
        return None


class Part(NamedTuple):
    """A pattern, or the inside of a group that is looked at for itself."""

    places: list[Place]
    end: int


class Places:
    """A pattern laid out: every node is a place, a repeated one as often as it may be there. Raises `TooMuch`."""

    def __init__(self, tree: Any) -> None:
        self._all: list[Place] = []
        self._leaves: dict[tuple[str, int], Callable[..., Any]] = {}
        # A group that is asked for again is part of where one stands.
        self.marks: tuple[int, ...] = (-1,) * (2 * tree.state.groups) if "GROUPREF" in repr(tree) else ()
        self.part: Part = Part(self._all, self._add(nowhere))
        self.begin: int = self._lay(tree, tree.state.flags, self.part.end)

    def _add(self, place: Place) -> int:
        if len(self._all) >= MAX_PLACES:
            raise TooMuch
        self._all.append(place)
        return len(self._all) - 1

    def _lay(self, nodes: Sequence[Node], flags: int, then: int) -> int:
        """Lay ``nodes`` out so that they lead to ``then``; where they begin."""
        for node in reversed(nodes):
            then = self._lay_one(node, flags, then)
        return then

    def _lay_one(self, node: Node, flags: int, then: int) -> int:
        kind, what = str(node[0]), node[1]
        match kind:
            case _ if kind in LEAVES:
                return self._add(leaf(self._leaf(node, flags), then))
            case "BRANCH":
                return self._add(fork([self._lay(branch, flags, then) for branch in what[1]]))
            case "SUBPATTERN":
                return self._lay_group(what, flags, then)
            case "MAX_REPEAT" | "MIN_REPEAT":
                return self._lay_repeat(what, flags, then, greedy=kind == "MAX_REPEAT")
            case "ASSERT" | "ASSERT_NOT":
                inside, back = self._add(nowhere), what[1].getwidth()[0] if what[0] < 0 else 0
                begin = self._lay(what[1], flags, inside)
                return self._add(looked_around(Part(self._all, inside), begin, back, then, wanted=kind == "ASSERT"))
            case "GROUPREF":
                return self._add(the_same_again(what, then, folded=bool(flags & re.IGNORECASE)))
            case "GROUPREF_EXISTS":
                yes, no = self._lay(what[1], flags, then), self._lay(what[2] or (), flags, then)
                return self._add(lambda walk, index, marks: [Way(yes if marks[2 * what[0] + 1] >= 0 else no, index, marks)])
            case _:  # Python's own: atomic groups, possessive repeats
                raise TooMuch

    def _lay_group(self, what: Group, flags: int, then: int) -> int:
        group, added, removed, body = what
        kinds = re.ASCII | re.LOCALE | re.UNICODE
        flags = ((flags & ~kinds if added & kinds else flags) | added) & ~removed
        if group is None or not self.marks:
            return self._lay(body, flags, then)
        return self._add(mark(2 * group, self._lay(body, flags, self._add(mark(2 * group + 1, then)))))

    def _lay_repeat(self, what: Repeat, flags: int, then: int, *, greedy: bool) -> int:
        least, most, body = what
        if most == _parser.MAXREPEAT:
            here = self._add(nowhere)
            self._all[here] = fork([self._lay(body, flags, here), then][:: 1 if greedy else -1])
            then = here
        else:
            end = then
            for _ in range(most - least):
                then = self._add(fork([self._lay(body, flags, then), end][:: 1 if greedy else -1]))
        for _ in range(least):
            after, then = then, self._lay(body, flags, then)
            if then == after:  # a group of nothing
                break
        return then

    def _leaf(self, node: Node, flags: int) -> Callable[..., Any]:
        """What `re` itself makes of one sign."""
        key = (repr(node), flags)
        if key not in self._leaves:
            alone = _parser.State()
            alone.flags = flags
            self._leaves[key] = _compiler.compile(_parser.SubPattern(alone, [node]), flags).match
        return self._leaves[key]


def nowhere(walk: Walk, index: int, marks: tuple[int, ...]) -> Sequence[Way]:
    return ()


def leaf(match: Callable[..., Any], then: int) -> Place:
    def place(walk: Walk, index: int, marks: tuple[int, ...]) -> Sequence[Way]:
        found = match(walk.text, index)
        return [Way(then, found.end(), marks)] if found is not None else ()

    return place


def fork(ways: Sequence[int]) -> Place:
    return lambda walk, index, marks: [Way(then, index, marks) for then in ways]


def mark(which: int, then: int) -> Place:
    return lambda walk, index, marks: [Way(then, index, (*marks[:which], index, *marks[which + 1 :]))]


def looked_around(inside: Part, begin: int, back: int, then: int, *, wanted: bool) -> Place:
    def place(walk: Walk, index: int, marks: tuple[int, ...]) -> Sequence[Way]:
        end = walk.end_of(inside, Way(begin, index - back, marks), set()) if index >= back else None
        return [Way(then, index, end.marks if end is not None else marks)] if (end is not None) is wanted else ()

    return place


def the_same_again(group: int, then: int, *, folded: bool) -> Place:
    def place(walk: Walk, index: int, marks: tuple[int, ...]) -> Sequence[Way]:
        begin, end = marks[2 * group], marks[2 * group + 1]
        after = index + end - begin
        here, there = walk.text[index:after], walk.text[begin:end]
        same = here.lower() == there.lower() if folded else here == there
        return [Way(then, after, marks)] if end >= 0 and same else ()

    return place
