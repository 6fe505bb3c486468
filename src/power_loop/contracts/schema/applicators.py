"""Keywords that apply other schemas, to the value or to its parts.

Which of them look at the same value (``place.here``) matters beyond the path: a schema that comes back to itself
that way would never end, and `compile` refuses it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from power_loop.contracts.schema.assertions import LISTED_VALUES, count, dependent, names, pattern, required, untold
from power_loop.contracts.schema.checks import (
    Builder,
    Check,
    Place,
    Violation,
    below,
    fits,
    is_array,
    is_object,
    listed,
    named,
    nothing_wrong,
)

# --- the same value -----------------------------------------------------------------------------------------


def build_all_of(place: Place, schemas: Any) -> Check:
    checks = branches(place, "allOf", schemas)

    def check(value: Any, path: str) -> Iterator[Violation]:
        for each in checks:
            yield from each(value, path)

    return check


def build_any_of(place: Place, schemas: Any) -> Check:
    checks = branches(place, "anyOf", schemas)

    def check(value: Any, path: str) -> Iterator[Violation]:
        for each in checks:
            if fits(each, value):
                return
        yield from closest("anyOf", checks, value, path)

    return check


def build_one_of(place: Place, schemas: Any) -> Check:
    checks = branches(place, "oneOf", schemas)

    def check(value: Any, path: str) -> Iterator[Violation]:
        fitting = list(islice((number for number, each in enumerate(checks, 1) if fits(each, value)), 2))
        if len(fitting) > 1:
            yield Violation(path, "oneOf", f"fits the alternatives {fitting[0]} and {fitting[1]}, but must fit exactly one")
        if not fitting:
            yield from closest("oneOf", checks, value, path)

    return check


def closest(keyword: str, checks: list[Check], value: Any, path: str) -> Iterator[Violation]:
    """Why no alternative fits. When the value has the type of one only, that one was meant, and its violations are told."""
    found = [list(each(value, path)) for each in checks]
    meant = [each for each in found if not any(one.path == path and one.keyword in ("type", "const", "enum") for one in each)]
    if len(meant) == 1:
        yield from meant[0]
        return
    reasons = "; ".join(f"({number}) {each[0]}" for number, each in enumerate(found, 1))
    yield Violation(path, keyword, f"fits none of {len(checks)} alternatives: {reasons}")


def build_not(place: Place, schema: Any) -> Check:
    forbidden = place.here("not")

    def check(value: Any, path: str) -> Iterator[Violation]:
        if fits(forbidden, value):
            yield Violation(path, "not", "fits the schema under 'not', which it must not")

    return check


def build_if(place: Place, schema: Any) -> Check:
    condition = place.here("if")
    then = place.here("then") if "then" in place.schema else nothing_wrong
    otherwise = place.here("else") if "else" in place.schema else nothing_wrong

    def check(value: Any, path: str) -> Iterator[Violation]:
        yield from (then if fits(condition, value) else otherwise)(value, path)

    return check


def build_branch(keyword: str) -> Builder:
    """`then` and `else` must be schemas, but assert nothing without `if`."""

    def build(place: Place, schema: Any) -> None:
        place.here(keyword)

    return build


def build_dependent_schemas(place: Place, schemas: Any) -> Check:
    return dependent({name: place.here("dependentSchemas", name) for name in mapping(place, "dependentSchemas", schemas)})


def build_dependencies(place: Place, schemas: Any) -> Check:
    """Draft 7's one keyword for what are two since."""
    checks: dict[str, Check] = {}
    for name, needs in mapping(place, "dependencies", schemas).items():
        if listed(needs) is not None:
            checks[name] = required("dependencies", names(place, f"dependencies/{name}", needs), f" with {name!r}")
        else:
            checks[name] = place.here("dependencies", name)
    return dependent(checks)


def branches(place: Place, keyword: str, schemas: Any) -> list[Check]:
    return [place.here(keyword, str(index)) for index in range(length(place, keyword, schemas))]


def length(place: Place, keyword: str, schemas: Any) -> int:
    found = listed(schemas)
    if not found:
        raise place.malformed(keyword, f"must be a list of one schema or more; it is {schemas!r}")
    return len(found)


def mapping(place: Place, keyword: str, schemas: Any) -> Mapping[str, Any]:
    found = named(schemas)
    if found is None:
        raise place.malformed(keyword, f"must be an object; it is {schemas!r}")
    return found


# --- the parts of an object -----------------------------------------------------------------------------------


def build_properties(place: Place, schemas: Any) -> Check:
    checks = {name: (place.deeper("properties", name), below("", name)) for name in mapping(place, "properties", schemas)}

    def check(value: Any, path: str) -> Iterator[Violation]:
        if is_object(value):
            for name, (each, token) in checks.items():
                if name in value:
                    yield from each(value[name], path + token)

    return check


def build_pattern_properties(place: Place, schemas: Any) -> Check:
    patterns = mapping(place, "patternProperties", schemas)
    checks = [(text, pattern(place, "patternProperties", text), place.deeper("patternProperties", text)) for text in patterns]

    def check(value: Any, path: str) -> Iterator[Violation]:
        if is_object(value):
            for name, item in value.items():
                for text, wanted, each in checks:
                    if found := wanted.matches(name):
                        yield from each(item, below(path, name))
                    elif found is None:
                        yield Violation(below(path, name), "patternProperties", f"its name {untold(name, text)}")

    return check


def build_additional_properties(place: Place, schema: Any) -> Check:
    known = mapping(place, "properties", place.schema.get("properties", {}))
    patterns = mapping(place, "patternProperties", place.schema.get("patternProperties", {}))
    wanted = [pattern(place, "patternProperties", text) for text in patterns]
    others = place.deeper("additionalProperties")
    closed = schema is False
    listed_names = ", ".join([*islice(known, LISTED_VALUES), *(["…"] if len(known) > LISTED_VALUES else [])])
    phrase = f"is not allowed here; known are: {listed_names or 'none'}"

    def check(value: Any, path: str) -> Iterator[Violation]:
        if not is_object(value):
            return
        for name, item in value.items():
            if name in known or any(each.matches(name) for each in wanted):
                continue
            if closed:
                yield Violation(below(path, name), "additionalProperties", phrase)
            else:
                yield from others(item, below(path, name))

    return check


def build_property_names(place: Place, schema: Any) -> Check:
    allowed = place.deeper("propertyNames")

    def check(value: Any, path: str) -> Iterator[Violation]:
        for name in value if is_object(value) else ():
            for wrong in allowed(name, ""):
                yield Violation(below(path, name), "propertyNames", f"has a name that is not allowed: {wrong.text}")

    return check


# --- the parts of an array --------------------------------------------------------------------------------------


def build_prefix_items(place: Place, schemas: Any) -> Check:
    return first_items([place.deeper("prefixItems", str(index)) for index in range(length(place, "prefixItems", schemas))])


def first_items(checks: list[Check]) -> Check:
    def check(value: Any, path: str) -> Iterator[Violation]:
        if is_array(value):
            for index, (each, item) in enumerate(zip(checks, value, strict=False)):
                yield from each(item, f"{path}/{index}")

    return check


def build_items(place: Place, schema: Any) -> Check:
    draft_7 = listed(schema)
    if draft_7 is not None:
        return _draft_7_items(place, len(draft_7))
    return later_items(place, "items", len(listed(place.schema.get("prefixItems")) or ()))


def _draft_7_items(place: Place, start: int) -> Check:
    """An array of `items` is today's `prefixItems`, and `additionalItems` beside it today's `items`."""
    if "prefixItems" in place.schema:
        raise place.malformed("items", "must be one schema where 'prefixItems' stands beside it")
    first = first_items([place.deeper("items", str(index)) for index in range(start)])
    if "additionalItems" not in place.schema:
        return first
    later = later_items(place, "additionalItems", start)

    def check(value: Any, path: str) -> Iterator[Violation]:
        yield from first(value, path)
        yield from later(value, path)

    return check


def later_items(place: Place, keyword: str, start: int) -> Check:
    each = place.deeper(keyword)
    closed = place.schema[keyword] is False

    def check(value: Any, path: str) -> Iterator[Violation]:
        if not is_array(value) or len(value) <= start:
            return
        if closed:
            yield Violation(path, keyword, f"has {len(value)} items, more than {start}")
            return
        for index, item in enumerate(islice(value, start, None), start):
            yield from each(item, f"{path}/{index}")

    return check


def build_contains(place: Place, schema: Any) -> Check:
    wanted = place.deeper("contains")
    least = count(place, "minContains", place.schema.get("minContains", 1))
    most = count(place, "maxContains", place.schema["maxContains"]) if "maxContains" in place.schema else None

    def check(value: Any, path: str) -> Iterator[Violation]:
        if not is_array(value):
            return
        found = sum(fits(wanted, item) for item in value)
        if found < least:
            yield Violation(path, "contains", f"has {found} items that fit 'contains', fewer than {least}")
        if most is not None and found > most:
            yield Violation(path, "contains", f"has {found} items that fit 'contains', more than {most}")

    return check


def build_definitions(keyword: str) -> Builder:
    """Definitions assert nothing until they are referred to, but each must be a schema."""

    def build(place: Place, schemas: Any) -> None:
        for name in mapping(place, keyword, schemas):
            place.deeper(keyword, name)

    return build


APPLICATORS: dict[str, Builder] = {
    "allOf": build_all_of,
    "anyOf": build_any_of,
    "oneOf": build_one_of,
    "not": build_not,
    "if": build_if,
    "then": build_branch("then"),
    "else": build_branch("else"),
    "dependentSchemas": build_dependent_schemas,
    "dependencies": build_dependencies,
    "properties": build_properties,
    "patternProperties": build_pattern_properties,
    "additionalProperties": build_additional_properties,
    "propertyNames": build_property_names,
    "prefixItems": build_prefix_items,
    "items": build_items,
    "contains": build_contains,
    "$defs": build_definitions("$defs"),
    "definitions": build_definitions("definitions"),
}
