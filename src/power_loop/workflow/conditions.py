"""Conditions, and which case of a branch a value means. Pure; what has no value makes no comparison hold."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from typing import Any

from power_loop.contracts.schema.checks import identity
from power_loop.workflow.nodes import UNSET, All, Any_, Compare, Condition, Not
from power_loop.workflow.references import Ref, parse_ref

Look = Callable[[Ref], Any]
"""What a reference reaches; UNSET when that was skipped, failed, or is not there."""
_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {"gt": operator.gt, "ge": operator.ge, "lt": operator.lt, "le": operator.le}


def holds(condition: Condition, look: Look) -> bool:
    """Whether it is so. Of what has no value only ``falsy`` and ``ne`` hold."""
    match condition:
        case All():
            return all(holds(each, look) for each in condition.all)
        case Any_():
            return any(holds(each, look) for each in condition.any)
        case Not():
            return not holds(condition.condition, look)
        case Compare():
            return _compare(look(parse_ref(condition.ref)), condition.op, condition.value)


def _compare(value: Any, op: str, with_: Any) -> bool:
    there = value is not UNSET
    match op:
        case "exists":
            return there
        case "truthy":
            return there and is_true(value)
        case "falsy":
            return not (there and is_true(value))
        case "eq":
            return there and same(value, with_)
        case "ne":
            return not (there and same(value, with_))
        case "in":
            return there and any(same(value, each) for each in with_)
        case _:
            return there and _ordered(value, with_, _ORDERS[op])


def is_true(value: Any) -> bool:
    """As JSON has it, and texts that say no are not true: a model's "false" is no yes."""
    return value.strip().lower() not in ("", "false", "no", "0", "null", "none") if isinstance(value, str) else bool(value)


def same(a: Any, b: Any) -> bool:
    """Equal as JSON; a text also equals the number, true, false or null that it spells."""
    if isinstance(a, str) and isinstance(b, str):
        return a == b
    if isinstance(a, str) or isinstance(b, str):
        text, other = (a, b) if isinstance(a, str) else (b, a)
        return text.strip() in spellings(other)
    return identity(a) == identity(b)


def spellings(value: Any) -> tuple[str, ...]:
    """The texts that mean ``value`` in ``cases``: ``true`` is spelled "true", "True" and "yes", 1 is "1" and "1.0"."""
    match value:
        case str():
            return (value, value.strip())
        case None:
            return (json.dumps(value), str(value))
        case bool():
            return (json.dumps(value), str(value), "yes" if value else "no")
        case int() | float():
            return (json.dumps(value), *([str(int(value)), str(float(value))] if _is_small(value) else []))
        case _:
            return ()


def _is_small(value: float) -> bool:
    # Beyond it a float has no exact spelling as a whole number.
    return abs(value) < 2**53 and float(value).is_integer()


def _ordered(a: Any, b: Any, order: Callable[[Any, Any], bool]) -> bool:
    if isinstance(a, str) and isinstance(b, str):
        return order(a, b)
    left, right = _number(a), _number(b)
    return left is not None and right is not None and order(left, right)


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
