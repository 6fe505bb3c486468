"""Keywords that look at a value alone: its type, its size, which values are allowed.

Each builder gets the keyword's value, refuses one that the draft does not allow there, and returns the check. A
keyword about one type lets values of other types pass.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from power_loop.contracts.schema.checks import (
    TYPES,
    Builder,
    Check,
    Place,
    Violation,
    below,
    identity,
    is_array,
    is_integer,
    is_number,
    is_object,
    listed,
    named,
    show,
    with_article,
)
from power_loop.contracts.schema.patterns import Pattern

# A choice of more values is no help to a model that missed it.
LISTED_VALUES = 30


# --- any value --------------------------------------------------------------------------------------------


def build_type(place: Place, wanted: Any) -> Check:
    names = [wanted] if isinstance(wanted, str) else listed(wanted) or []
    if not names or not all(isinstance(name, str) and name in TYPES for name in names) or len(set(names)) < len(names):
        raise place.malformed("type", f"must be one of {', '.join(TYPES)}, or a list of them without repeats; it is {wanted!r}")
    holds = [TYPES[name] for name in names]
    phrase = " or ".join(with_article(name) for name in names)

    def check(value: Any, path: str) -> Iterator[Violation]:
        for each in holds:
            if each(value):
                return
        yield Violation(path, "type", f"must be {phrase}, not {show(value)}")

    return check


def build_enum(place: Place, allowed: Any) -> Check:
    values = listed(allowed)
    if values is None:
        raise place.malformed("enum", f"must be a list of values; it is {allowed!r}")
    identities = frozenset(identity(value) for value in values)
    more = ", …" if len(values) > LISTED_VALUES else ""
    phrase = ", ".join(show(value) for value in values[:LISTED_VALUES]) + more

    def check(value: Any, path: str) -> Iterator[Violation]:
        if identity(value) not in identities:
            yield Violation(path, "enum", f"{show(value)} is none of the allowed values: {phrase}")

    return check


def build_const(place: Place, only: Any) -> Check:
    wanted, phrase = identity(only), show(only)

    def check(value: Any, path: str) -> Iterator[Violation]:
        if identity(value) != wanted:
            yield Violation(path, "const", f"{show(value)} is not the only allowed value: {phrase}")

    return check


# --- numbers ----------------------------------------------------------------------------------------------


def bound(keyword: str, breaks: Callable[[Any, Any], bool], phrase: str) -> Builder:
    def build(place: Place, limit: Any) -> Check:
        if not is_number(limit):
            raise place.malformed(keyword, f"must be a number; it is {limit!r}")

        def check(value: Any, path: str) -> Iterator[Violation]:
            if is_number(value) and breaks(value, limit):
                yield Violation(path, keyword, f"{show(value)} is {phrase} {show(limit)}")

        return check

    return build


def build_multiple_of(place: Place, step: Any) -> Check:
    if not is_number(step) or step <= 0:
        raise place.malformed("multipleOf", f"must be a number above 0; it is {step!r}")

    def check(value: Any, path: str) -> Iterator[Violation]:
        if is_number(value) and not is_multiple(value, step):
            yield Violation(path, "multipleOf", f"{show(value)} is not a multiple of {show(step)}")

    return check


def is_multiple(value: float, step: float) -> bool:
    """By the decimal digits that were written: 0.3 is three times 0.1, although their binary fractions differ."""
    if isinstance(value, int) and isinstance(step, int):
        return value % step == 0
    (digits, exponent), (step_digits, step_exponent) = _decimal(value), _decimal(step)
    lowest = min(exponent, step_exponent)
    return digits * 10 ** (exponent - lowest) % (step_digits * 10 ** (step_exponent - lowest)) == 0


def _decimal(number: float) -> tuple[int, int]:
    """12.5 → (125, -1): the shortest decimal that reads back as ``number``."""
    if isinstance(number, int):
        return number, 0
    mantissa, _, exponent = repr(number).partition("e")
    whole, _, fraction = mantissa.partition(".")
    return int(whole + fraction), int(exponent or 0) - len(fraction)


# --- sizes --------------------------------------------------------------------------------------------------


def size(keyword: str, kind: type, breaks: Callable[[int, int], bool], phrase: str) -> Builder:
    def build(place: Place, limit: Any) -> Check:
        whole = count(place, keyword, limit)

        def check(value: Any, path: str) -> Iterator[Violation]:
            if isinstance(value, kind) and breaks(len(value), whole):
                yield Violation(path, keyword, phrase.format(len(value), whole))

        return check

    return build


def count(place: Place, keyword: str, limit: Any) -> int:
    """``limit`` as the number of things it must be."""
    if not is_integer(limit) or limit < 0:
        raise place.malformed(keyword, f"must be a whole number from 0; it is {limit!r}")
    return int(limit)


def build_count(keyword: str) -> Builder:
    """For a number that another keyword's check reads."""

    def build(place: Place, limit: Any) -> None:
        count(place, keyword, limit)

    return build


# --- strings, arrays, objects --------------------------------------------------------------------------------


def pattern(place: Place, keyword: str, text: Any) -> Pattern:
    """As Python's `re` reads it, which differs from ECMA 262 in corners (`$` before a last newline, Unicode `\\d`)."""
    if not isinstance(text, str):
        raise place.malformed(keyword, f"must be a regular expression; it is {text!r}")
    try:
        return Pattern(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise place.malformed(keyword, f"is no regular expression that Python understands ({error}): {text!r}") from error


def build_pattern(place: Place, text: Any) -> Check:
    wanted = pattern(place, "pattern", text)

    def check(value: Any, path: str) -> Iterator[Violation]:
        if isinstance(value, str) and not (found := wanted.matches(value)):
            yield Violation(path, "pattern", f"{show(value)} does not match the pattern {text}" if found is False else untold(value, text))

    return check


def untold(value: str, text: str) -> str:
    """Said of a text that could take `re` for ever."""
    return f"has {len(value)} characters, too many to be checked against the pattern {text} in reasonable time; shorten it"


def build_unique_items(place: Place, wanted: Any) -> Check | None:
    if not isinstance(wanted, bool):
        raise place.malformed("uniqueItems", f"must be true or false; it is {wanted!r}")
    return _unique if wanted else None


def _unique(value: Any, path: str) -> Iterator[Violation]:
    if not is_array(value):
        return
    seen: dict[Any, int] = {}
    for index, item in enumerate(value):
        first = seen.setdefault(identity(item), index)
        if first != index:
            yield Violation(below(path, index), "uniqueItems", f"repeats item {first}; all items must differ")


def build_required(place: Place, wanted: Any) -> Check:
    return required("required", names(place, "required", wanted))


def required(keyword: str, wanted: list[str], reason: str = "") -> Check:
    def check(value: Any, path: str) -> Iterator[Violation]:
        if not is_object(value):
            return
        for name in wanted:
            if name not in value:
                yield Violation(below(path, name), keyword, f"is required{reason}, and missing")

    return check


def names(place: Place, keyword: str, wanted: Any) -> list[str]:
    """``wanted`` as the list of different names it must be."""
    found = listed(wanted)
    if found is None or not all(isinstance(name, str) for name in found) or len(set(found)) < len(found):
        raise place.malformed(keyword, f"must be a list of names without repeats; it is {wanted!r}")
    return found


def build_dependent_required(place: Place, wanted: Any) -> Check:
    lists = named(wanted)
    if lists is None:
        raise place.malformed("dependentRequired", f"must be an object of lists of names; it is {wanted!r}")
    needs = {name: names(place, f"dependentRequired/{name}", needed) for name, needed in lists.items()}
    return dependent({name: required("dependentRequired", needed, f" with {name!r}") for name, needed in needs.items()})


def dependent(checks: Mapping[str, Check]) -> Check:
    """Each check for an object that has the property of its name."""

    def check(value: Any, path: str) -> Iterator[Violation]:
        if is_object(value):
            for name, each in checks.items():
                if name in value:
                    yield from each(value, path)

    return check


ASSERTIONS: dict[str, Builder] = {
    "type": build_type,
    "enum": build_enum,
    "const": build_const,
    "minimum": bound("minimum", operator.lt, "less than the minimum"),
    "maximum": bound("maximum", operator.gt, "greater than the maximum"),
    "exclusiveMinimum": bound("exclusiveMinimum", operator.le, "not greater than"),
    "exclusiveMaximum": bound("exclusiveMaximum", operator.ge, "not less than"),
    "multipleOf": build_multiple_of,
    "minLength": size("minLength", str, operator.lt, "has {} characters, fewer than {}"),
    "maxLength": size("maxLength", str, operator.gt, "has {} characters, more than {}"),
    "pattern": build_pattern,
    "minItems": size("minItems", list, operator.lt, "has {} items, fewer than {}"),
    "maxItems": size("maxItems", list, operator.gt, "has {} items, more than {}"),
    "uniqueItems": build_unique_items,
    "minProperties": size("minProperties", dict, operator.lt, "has {} properties, fewer than {}"),
    "maxProperties": size("maxProperties", dict, operator.gt, "has {} properties, more than {}"),
    "required": build_required,
    "dependentRequired": build_dependent_required,
    "minContains": build_count("minContains"),
    "maxContains": build_count("maxContains"),
}
