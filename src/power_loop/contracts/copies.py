"""Copies of what models and hosts say, for those who may do with them as they like."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

Value = TypeVar("Value")

PLAIN = frozenset({str, int, float, bool, type(None)})


def copied(value: Value) -> Value:
    """As `copy.deepcopy`, of dicts and lists however deep they are: models nest deeper than Python calls itself."""
    top = [value]
    known: dict[int, Any] = {}
    holders: list[Any] = [top]
    for holder in holders:  # which grows
        for key, inner in _places(holder):
            if type(inner) in PLAIN:
                continue
            if id(inner) not in known:
                known[id(inner)] = _shallow(inner, holders)
            holder[key] = known[id(inner)]
    return top[0]


def _places(holder: dict[Any, Any] | list[Any]) -> list[tuple[Any, Any]]:
    return list(holder.items()) if isinstance(holder, dict) else list(enumerate(holder))


def _shallow(inner: Any, holders: list[Any]) -> Any:
    """A copy; of what holds other things one that holds the same, until it is looked at in its turn."""
    if type(inner) not in (dict, list):
        return copy.deepcopy(inner)
    mine = inner.copy()
    holders.append(mine)
    return mine
