"""What a compiled schema is made of: checks, the violations they find, and JSON's own idea of types and equality.

How a schema becomes checks is the business of `compile`; what each keyword asserts stands in `assertions` and
`applicators`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeGuard, cast

# Enough to recognise a value by; the whole of it is in the call that it came with.
SHOWN_CHARS = 60


class Violation(NamedTuple):
    """One way in which a value breaks the schema."""

    path: str
    """JSON Pointer into the value; for what is missing, where it should stand. Empty for the value itself."""
    keyword: str
    text: str

    def __str__(self) -> str:
        return f"{self.path or '(root)'}: {self.text}"


Check = Callable[[Any, str], Iterator[Violation]]
"""``(value, path) → violations``, found one by one: who wants a verdict only stops at the first."""


class Place(Protocol):
    """One schema in its document while it is compiled; what a keyword's builder sees."""

    @property
    def schema(self) -> Mapping[str, Any]: ...

    def here(self, *tokens: str) -> Check:
        """The check of the schema below ``tokens``, which looks at the same value."""
        ...

    def deeper(self, *tokens: str) -> Check:
        """The check of the schema below ``tokens``, which looks at a part of the value."""
        ...

    def malformed(self, keyword: str, problem: str) -> ValueError: ...


Builder = Callable[[Place, Any], Check | None]
"""A keyword's value → its check. None when it asserts nothing by itself, or another keyword's builder reads it."""


def nothing_wrong(value: Any, path: str) -> Iterator[Violation]:
    """The check of ``true`` and ``{}``."""
    return iter(())


def nothing_allowed(value: Any, path: str) -> Iterator[Violation]:
    """The check of ``false``."""
    yield Violation(path, "false", "is not allowed here")


def listed(value: Any) -> list[Any] | None:
    """A list in a schema, which whoever wrote it in Python may have written as a tuple; None for anything else."""
    return list(cast("Sequence[Any]", value)) if isinstance(value, (list, tuple)) else None


def named(value: Any) -> Mapping[str, Any] | None:
    """An object in a schema; None for anything else."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else None


def fits(check: Check, value: Any) -> bool:
    return next(check(value, ""), None) is None


def below(path: str, token: str | int) -> str:
    """The pointer to a part: `~` and `/` in names are escaped (RFC 6901)."""
    return f"{path}/{str(token).replace('~', '~0').replace('/', '~1')}"


# --- JSON values ----------------------------------------------------------------------------------------


def is_number(value: Any) -> bool:
    """A JSON number: no bool, and neither NaN nor an infinity, which Python's parser lets through."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def is_integer(value: Any) -> bool:
    """3.0 is one: JSON knows numbers, not how they are written."""
    return is_number(value) and (isinstance(value, int) or value.is_integer())


def is_array(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


TYPES: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": is_integer,
    "number": is_number,
    "string": lambda value: isinstance(value, str),
    "array": is_array,
    "object": is_object,
}


def identity(value: Any) -> Hashable:
    """Equal for values that JSON holds equal: 1 and 1.0, objects in any order; not 1 and true, which Python confuses."""
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, (list, tuple)):
        return ("array", tuple(identity(item) for item in cast("list[Any]", value)))
    if isinstance(value, Mapping):
        return ("object", frozenset((name, identity(item)) for name, item in cast("Mapping[str, Any]", value).items()))
    return value


# --- for the model to read --------------------------------------------------------------------------------


def with_article(type_name: str) -> str:
    if type_name == "null":
        return type_name
    return f"{'an' if type_name[0] in 'aio' else 'a'} {type_name}"


def show(value: Any) -> str:
    """``value`` as JSON, cut; objects and arrays by their type only, since they may be large."""
    match value:
        case dict():
            return "an object"
        case list():
            return "an array"
        case str():
            return json.dumps(value if len(value) <= SHOWN_CHARS else value[:SHOWN_CHARS] + "…", ensure_ascii=False)
        case _:
            text = json.dumps(value, default=repr)
            return text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "…"
