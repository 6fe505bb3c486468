"""A grammar of JSON documents as data: the same table checks a document, every problem with its path and a hint, and is a JSON Schema.

For documents that models write and repair. What a document means (names, references) is its own reader's business.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple, Protocol, cast

from power_loop.contracts.documents import Problem, below, kind_of, shown

Schema = dict[str, Any]


class Kind(Protocol):
    """What may stand at a place: it finds what is wrong there, and says the same as JSON Schema."""

    def check(self, value: Any, path: str, found: list[Problem]) -> None: ...

    def schema(self) -> Schema: ...


class Text(NamedTuple):
    """Text; where ``pattern`` is given, text that it matches from end to end. ``what`` names it: "text", "a name"."""

    what: str = "text"
    pattern: str | None = None
    hint: str = ""

    def check(self, value: Any, path: str, found: list[Problem]) -> None:
        if not isinstance(value, str):
            found.append(Problem(path, f"must be {self.what}, not {kind_of(value)}", self.hint))
        elif self.pattern is not None and not re.search(self.pattern, value):
            found.append(Problem(path, f"{shown(value)} is not {self.what}", self.hint))

    def schema(self) -> Schema:
        return {"type": "string"} if self.pattern is None else {"type": "string", "pattern": self.pattern}


class Number(NamedTuple):
    """A number from ``low`` to ``high``, or above ``above``; without a fraction where ``whole``."""

    low: float | None = None
    high: float | None = None
    above: float | None = None
    whole: bool = False

    def check(self, value: Any, path: str, found: list[Problem]) -> None:
        what = "a whole number" if self.whole else "a number"
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            found.append(Problem(path, f"must be {what}{self._range()}, not {kind_of(value)}"))
        elif self.whole and isinstance(value, float) and not value.is_integer():
            found.append(Problem(path, f"must be {what}{self._range()}; {value} has a fraction"))
        elif not self._holds(value):
            found.append(Problem(path, f"must be {what}{self._range()}; it is {value}"))

    def _holds(self, value: float) -> bool:
        low, high, above = self.low is None or value >= self.low, self.high is None or value <= self.high, True
        if self.above is not None:
            above = value > self.above
        return low and high and above

    def _range(self) -> str:
        if self.above is not None:
            return f" above {self.above:g}" + ("" if self.high is None else f", at most {self.high:g}")
        if self.low is not None and self.high is not None:
            return f" from {self.low:g} to {self.high:g}"
        return "" if self.low is None else f" of at least {self.low:g}"

    def schema(self) -> Schema:
        bounds = {"minimum": self.low, "maximum": self.high, "exclusiveMinimum": self.above}
        return {"type": "integer" if self.whole else "number"} | {key: bound for key, bound in bounds.items() if bound is not None}


class Flag(NamedTuple):
    """true or false."""

    def check(self, value: Any, path: str, found: list[Problem]) -> None:
        if not isinstance(value, bool):
            found.append(Problem(path, f"must be true or false, not {kind_of(value)}"))

    def schema(self) -> Schema:
        return {"type": "boolean"}


class OneOf(NamedTuple):
    """One of a few texts."""

    values: Sequence[str]

    def check(self, value: Any, path: str, found: list[Problem]) -> None:
        if not isinstance(value, str) or value not in self.values:
            found.append(Problem(path, f"{shown(value)} is none of {', '.join(self.values)}", meant(value, self.values)))

    def schema(self) -> Schema:
        return {"enum": list(self.values)}


class Anything(NamedTuple):
    """Any JSON."""

    def check(self, value: Any, path: str, found: list[Problem]) -> None:
        return None

    def schema(self) -> Schema:
        return {}


class Nullable(NamedTuple):
    """null, or ``kind``."""

    kind: Kind

    def check(self, value: Any, path: str, found: list[Problem]) -> None:
        if value is not None:
            self.kind.check(value, path, found)

    def schema(self) -> Schema:
        return {"anyOf": [{"type": "null"}, self.kind.schema()]}


class ListOf(NamedTuple):
    """A list of ``item``."""

    item: Kind
    least: int = 0
    most: int | None = None
    hint: str = ""

    def check(self, value: Any, path: str, found: list[Problem]) -> None:
        if not isinstance(value, list):
            found.append(Problem(path, f"must be a list, not {kind_of(value)}", self.hint or "put it in [ ]"))
            return
        items = cast("list[Any]", value)
        if len(items) < self.least:
            found.append(Problem(path, f"must hold at least {self.least}; it holds {len(items)}", self.hint))
        if self.most is not None and len(items) > self.most:
            found.append(Problem(path, f"holds {len(items)}, but at most {self.most} are allowed", self.hint))
        for n, item in enumerate(items):
            self.item.check(item, below(path, n), found)

    def schema(self) -> Schema:
        bounds = {"minItems": self.least or None, "maxItems": self.most}
        return {"type": "array", "items": self.item.schema()} | {key: bound for key, bound in bounds.items() if bound is not None}


class MapOf(NamedTuple):
    """An object whose keys the writer chooses."""

    item: Kind
    least: int = 0
    hint: str = ""

    def check(self, value: Any, path: str, found: list[Problem]) -> None:
        if not isinstance(value, dict):
            found.append(Problem(path, f"must be an object, not {kind_of(value)}", self.hint))
            return
        members = cast("dict[str, Any]", value)
        if len(members) < self.least:
            found.append(Problem(path, f"must hold at least {self.least}; it is empty", self.hint))
        for key, member in members.items():
            self.item.check(member, below(path, key), found)

    def schema(self) -> Schema:
        return {"type": "object", "additionalProperties": self.item.schema()} | ({"minProperties": self.least} if self.least else {})


class Field(NamedTuple):
    """A key of an object with a fixed set of keys."""

    kind: Kind
    required: bool = False
    hint: str = ""
    about: str = ""
    """For the JSON Schema."""

    def schema(self) -> Schema:
        return self.kind.schema() | ({"description": self.about} if self.about else {})


class Record(NamedTuple):
    """An object with a fixed set of keys."""

    title: str
    """With its article: "an agent node"."""
    fields: Mapping[str, Field]
    one_of: Sequence[str] = ()
    """Of these keys there must be exactly one."""

    def check(self, value: Any, path: str, found: list[Problem]) -> None:
        if not isinstance(value, dict):
            required = ", ".join(name for name, field in self.fields.items() if field.required)
            found.append(
                Problem(path, f"must be {self.title}, an object, not {kind_of(value)}", f"it needs {required}" if required else "")
            )
            return
        members = cast("dict[str, Any]", value)
        found += [self._unknown(key, path) for key in members if key not in self.fields]
        for name, field in self.fields.items():
            if name in members:
                field.kind.check(members[name], below(path, name), found)
            elif field.required:
                found.append(Problem(below(path, name), "is missing", field.hint or f"{self.title} needs it"))
        self._check_one_of(members, path, found)

    def _unknown(self, key: str, path: str) -> Problem:
        hint = meant(key, list(self.fields)) or f"it may have {', '.join(self.fields)}"
        return Problem(below(path, key), f"{self.title} has no key {shown(key)}", hint)

    def _check_one_of(self, members: Mapping[str, Any], path: str, found: list[Problem]) -> None:
        given = [name for name in self.one_of if name in members]
        if self.one_of and len(given) != 1:
            said = "has both" if given else "has neither"
            found.append(Problem(path, f"{said} {' and '.join(self.one_of) if given else ' nor '.join(self.one_of)}", "give exactly one"))

    def schema(self) -> Schema:
        described = {name: field.schema() for name, field in self.fields.items()}
        made: Schema = {"type": "object", "properties": described, "additionalProperties": False}
        if required := [name for name, field in self.fields.items() if field.required]:
            made["required"] = required
        if self.one_of:
            made["oneOf"] = [{"required": [name]} for name in self.one_of]
        return made


class Named(NamedTuple):
    """A kind that stands under a name of its own, so that others, and it itself, can hold it."""

    name: str
    kind: Callable[[], Kind]

    def check(self, value: Any, path: str, found: list[Problem]) -> None:
        self.kind().check(value, path, found)

    def schema(self) -> Schema:
        return {"$ref": f"#/$defs/{self.name}"}


class Choice(NamedTuple):
    """One of several records; ``pick`` tells which one is meant by an object, or what is wrong with it."""

    title: str
    records: Mapping[str, Record]
    pick: Callable[[Mapping[str, Any], str], str | Problem]

    def check(self, value: Any, path: str, found: list[Problem]) -> None:
        if not isinstance(value, dict):
            found.append(Problem(path, f"must be {self.title}, an object, not {kind_of(value)}"))
            return
        picked = self.pick(cast("dict[str, Any]", value), path)
        if isinstance(picked, Problem):
            found.append(picked)
        else:
            self.records[picked].check(value, path, found)

    def schema(self) -> Schema:
        return {"anyOf": [record.schema() for record in self.records.values()]}


def meant(value: Any, known: Sequence[str]) -> str:
    """The nearest of the known words, as a hint; '' when none is near."""
    near = get_close_matches(value[:SHORT], known, 1) if isinstance(value, str) else []
    return f"did you mean {shown(near[0])}?" if near else ""


# Comparing long texts takes long, and nobody mistypes them.
SHORT = 60
