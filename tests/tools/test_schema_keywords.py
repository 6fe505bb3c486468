"""Every keyword of the list means what draft 2020-12 says; the same verdict as the reference validator on generated cases."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from power_loop.contracts.schema.compile import compile_schema

CASES: list[tuple[Any, list[Any], list[Any]]] = [
    # schema, what fits, what does not
    ({"type": "integer"}, [3, 3.0, -0.0, 10**400], [3.5, "3", True, None]),
    ({"type": "number"}, [3, 3.5], ["3", False, float("nan"), float("inf")]),
    ({"type": ["string", "null"]}, ["", None], [0, []]),
    ({"type": "boolean"}, [True, False], [0, 1, "true"]),
    ({"enum": [1, "a", None, [1, {"x": True}]]}, [1, 1.0, "a", None, [1.0, {"x": True}]], [True, "b", [1, {"x": 1}], 0]),
    ({"const": False}, [False], [0, None, ""]),
    ({"const": {"a": 1, "b": [0]}}, [{"b": [0.0], "a": 1}], [{"b": [False], "a": 1}]),
    ({"minimum": 5}, [5, 5.5, "4"], [4.9, -1]),
    ({"maximum": 5}, [5, "6"], [5.1]),
    ({"exclusiveMinimum": 5}, [5.1], [5]),
    ({"exclusiveMaximum": 5}, [4.9], [5]),
    ({"multipleOf": 0.1}, [0.3, 1, 4.35e300, 0], [0.35, 1e-7]),
    ({"multipleOf": 3}, [9, 9.0, "x", 3 * 10**400], [10, 9.5]),
    ({"minLength": 2, "maxLength": 3}, ["ab", "🙂🙂", 5], ["a", "abcd"]),
    ({"pattern": "^a"}, ["ab", 5], ["ba"]),
    ({"minItems": 1, "maxItems": 2}, [[1], "abc"], [[], [1, 2, 3]]),
    ({"uniqueItems": True}, [[1, True, "1"], [[1], [True]], "aa"], [[1, 1.0], [{"a": 1, "b": 2}, {"b": 2, "a": 1}]]),
    ({"minProperties": 1, "maxProperties": 1}, [{"a": 1}, []], [{}, {"a": 1, "b": 2}]),
    ({"required": ["a"]}, [{"a": None}, []], [{"b": 1}]),
    ({"properties": {"a": {"type": "string"}}}, [{"a": "x"}, {"b": 1}, {}], [{"a": 1}]),
    ({"properties": {"a": True}, "patternProperties": {"^x": True}, "additionalProperties": False}, [{"a": 1, "xy": 2}], [{"b": 1}]),
    ({"patternProperties": {"^x": {"minimum": 1}}, "additionalProperties": {"minimum": 2}}, [{"x1": 1, "y": 2}], [{"x1": 0}, {"y": 1}]),
    ({"propertyNames": {"maxLength": 2}}, [{"ab": 1}], [{"abc": 1}]),
    ({"dependentRequired": {"a": ["b"]}}, [{"a": 1, "b": 2}, {"c": 3}], [{"a": 1}]),
    ({"dependentSchemas": {"a": {"required": ["b"]}}}, [{"b": 1}, {"a": 1, "b": 2}], [{"a": 1}]),
    ({"items": {"type": "integer"}}, [[], [1, 2], "x"], [[1, "2"]]),
    ({"prefixItems": [{"type": "integer"}], "items": False}, [[], [1]], [["a"], [1, 2]]),
    ({"contains": {"type": "integer"}}, [["a", 1], "x"], [[], ["a"]]),
    ({"contains": {"type": "integer"}, "minContains": 2, "maxContains": 3}, [[1, 2], [1, "a", 2, 3]], [[1], [1, 2, 3, 4]]),
    ({"contains": False, "minContains": 0}, [[], [1]], []),
    ({"if": {"type": "integer"}, "then": {"minimum": 5}, "else": {"type": "string"}}, [5, "a"], [4, None]),
    ({"then": False, "else": False}, [1], []),
    ({"anyOf": [{"type": "integer"}, {"minLength": 2}]}, [1, "ab", None], ["a"]),
    ({"oneOf": [{"type": "integer"}, {"minimum": 5}]}, [4, 5.5], [5]),
    ({"allOf": [{"minimum": 1}, {"maximum": 3}]}, [2], [0, 4]),
    ({"not": {"type": "integer"}}, ["a"], [1]),
    (True, [1, None], []),
    (False, [], [1, None]),
    ({}, [1], []),
    ({"$ref": "#/$defs/a~1b%20c", "$defs": {"a/b c": {"type": "integer"}}}, [1], ["a"]),
    ({"$ref": "#/$defs/a", "minimum": 2, "$defs": {"a": {"type": "integer"}}}, [2], [1, 2.5]),
    ({"$id": "https://example.org/s", "$ref": "https://example.org/s#/$defs/a", "$defs": {"a": {"const": 1}}}, [1], [2]),
    ({"properties": {"next": {"$ref": "#"}}, "required": ["n"]}, [{"n": 1, "next": {"n": 2}}], [{"n": 1, "next": {}}]),
    # the spellings of draft 7
    ({"definitions": {"a": {"type": "integer"}}, "items": {"$ref": "#/definitions/a"}}, [[1]], [["a"]]),
    ({"dependencies": {"a": ["b"], "c": {"minProperties": 2}}}, [{"a": 1, "b": 1}, {"c": 1, "d": 1}], [{"a": 1}, {"c": 1}]),
    ({"items": [{"type": "integer"}], "additionalItems": {"type": "string"}}, [[1], [1, "a"]], [["a"], [1, 2]]),
    ({"items": [{"type": "integer"}], "additionalItems": False}, [[1]], [[1, 2]]),
    ({"items": [{"type": "integer"}]}, [[1, "a"]], [["a"]]),
    ({"additionalItems": False, "items": {"type": "integer"}}, [[1, 2]], [["a"]]),
    # annotations and names that the draft does not know
    ({"title": 1, "description": "d", "default": 3, "format": "date", "x-own": False, "deprecated": True}, ["any", 3], []),
    ({"properties": {"$id": {"type": "string"}, "unevaluatedItems": True}}, [{"$id": "a"}], [{"$id": 1}]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("schema", "fitting", "breaking"), CASES, ids=lambda part: json.dumps(part)[:60] if part and not isinstance(part, list) else ""
)
def test_a_keyword_means_what_the_draft_says(schema: Any, fitting: list[Any], breaking: list[Any]) -> None:
    validator = compile_schema(schema)
    assert {repr(value): validator.violations(value) for value in fitting} == {repr(value): [] for value in fitting}
    assert [value for value in breaking if validator.is_valid(value)] == []
    assert all(validator.violations(value) for value in breaking)


# --- against the reference validator ---------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "ab", "x/y"])
SMALL = st.integers(0, 3)
SCALARS = st.none() | st.booleans() | st.integers(-4, 4) | st.sampled_from([0.0, 1.0, -1.5, 2.5]) | st.sampled_from(["", "a", "ab", "b"])
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6)
TYPE_NAMES = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])
BOUNDS = st.integers(-3, 3) | st.sampled_from([0.5, 1.5])
# Not the empty pattern: the reference validator takes a property that it matches for an additional one.
PATTERNS = st.sampled_from(["^a", "b$", "a", "."])


def keywords(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Schemas of a few keywords each; ``#/$defs/…`` is bound at the root."""
    one_or_more = st.lists(inner, min_size=1, max_size=3)
    several = st.dictionaries(NAMES, inner, max_size=2)
    table: dict[str, st.SearchStrategy[Any]] = {
        "type": TYPE_NAMES | st.lists(TYPE_NAMES, min_size=1, max_size=2, unique=True),
        "enum": st.lists(VALUES, min_size=1, max_size=3),
        "const": VALUES,
        **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), BOUNDS),
        "multipleOf": st.sampled_from([1, 2, 0.5, 2.0]),
        **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), SMALL),
        **dict.fromkeys(("minProperties", "maxProperties", "minContains", "maxContains"), SMALL),
        "pattern": PATTERNS,
        "uniqueItems": st.booleans(),
        "required": st.lists(NAMES, unique=True, max_size=2),
        "dependentRequired": st.dictionaries(NAMES, st.lists(NAMES, unique=True, max_size=2), max_size=2),
        **dict.fromkeys(("properties", "dependentSchemas"), several),
        "patternProperties": st.dictionaries(PATTERNS, inner, max_size=2),
        **dict.fromkeys(("additionalProperties", "propertyNames", "items", "contains", "not", "if", "then", "else"), inner),
        **dict.fromkeys(("prefixItems", "anyOf", "oneOf", "allOf"), one_or_more),
    }  # fmt: skip
    return st.lists(st.sampled_from(sorted(table)), min_size=1, max_size=4, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({name: table[name] for name in chosen})
    )


PLAIN = st.recursive(st.booleans(), keywords, max_leaves=5)
REFERRING = st.recursive(st.booleans() | st.sampled_from([{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}]), keywords, max_leaves=5)
SCHEMAS = st.builds(lambda a, b, rest: {**rest, "$defs": {"a": a, "b": b}}, PLAIN, PLAIN, keywords(REFERRING))


@settings(max_examples=400, deadline=None)
@given(schema=SCHEMAS, values=st.lists(VALUES, min_size=1, max_size=6))
def test_the_verdict_is_that_of_the_reference_validator(schema: dict[str, Any], values: list[Any]) -> None:
    ours, reference = compile_schema(schema), Draft202012Validator(schema)
    for value in values:
        assert ours.is_valid(value) == reference.is_valid(value), value
        assert bool(ours.violations(value)) != ours.is_valid(value)


@settings(max_examples=100, deadline=None)
@given(value=VALUES, other=VALUES)
def test_a_value_equals_itself_written_otherwise_and_nothing_else(value: Any, other: Any) -> None:
    only = compile_schema({"const": value})
    assert only.is_valid(json.loads(json.dumps(value, sort_keys=True)))
    assert only.is_valid(other) == Draft202012Validator({"const": value}).is_valid(other)
