"""Reading JSON of other people: what is not of the expected kind counts as absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

Json = Mapping[str, Any]

_NOTHING: Json = {}


def mapping(value: object) -> Json:
    """``value`` if it is an object, else an empty one."""
    return cast("Json", value) if isinstance(value, Mapping) else _NOTHING


def objects(value: object) -> Sequence[Json]:
    """The objects in the list ``value``; empty where it is none."""
    if not isinstance(value, (list, tuple)):
        return ()
    return [cast("Json", item) for item in cast("Sequence[object]", value) if isinstance(item, Mapping)]


def number(source: object, *path: str) -> int | None:
    """The integer at ``path``, None where there is none."""
    value: Any = source
    for key in path:
        value = mapping(value).get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def text(value: object) -> str:
    """``value`` if it is a string, else an empty one."""
    return value if isinstance(value, str) else ""
