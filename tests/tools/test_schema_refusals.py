"""What is not understood is refused where it is registered, with its name or place; what is wrong is told with its path."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from power_loop.contracts.schema.compile import compile_schema
from power_loop.tools import validate

# --- what the model is told ---------------------------------------------------------------------------------

ORDER = {
    "type": "object",
    "properties": {
        "items": {"type": "array", "items": {"properties": {"price": {"minimum": 5}}, "required": ["sku"]}},
        "a/b~c": {"type": "string"},
        "how": {"enum": ["cash", None]},
    },
    "required": ["items", "how"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        ({"items": [{"price": 3, "sku": 1}], "how": "cash"}, ["/items/0/price: 3 is less than the minimum 5"]),
        (
            {"items": [{}, {}], "a/b~c": 1, "extra": 2},
            [
                "/items/0/sku: is required, and missing",
                "/items/1/sku: is required, and missing",
                "/a~1b~0c: must be a string, not 1",
                "/how: is required, and missing",
                "/extra: is not allowed here; known are: items, a/b~c, how",
            ],
        ),
        ({"items": {}, "how": 1}, ["/items: must be an array, not an object", '/how: 1 is none of the allowed values: "cash", null']),
        ([], ["(root): must be an object, not an array"]),
    ],
)  # fmt: skip
def test_every_violation_is_told_with_its_path(value: Any, lines: list[str]) -> None:
    assert compile_schema(ORDER).violations(value) == lines


def test_of_a_union_the_part_that_was_meant_is_explained() -> None:
    schema = {"anyOf": [{"type": "object", "properties": {"n": {"type": "integer"}}}, {"type": "null"}]}
    assert compile_schema(schema).violations({"n": "3"}) == ['/n: must be an integer, not "3"']
    assert compile_schema(schema).violations(3) == [
        "(root): fits none of 2 alternatives: (1) (root): must be an object, not 3; (2) (root): must be null, not 3"
    ]


def test_a_long_value_is_not_read_back_in_full() -> None:
    (line,) = compile_schema({"type": "integer"}).violations("x" * 10_000)
    assert len(line) < 120


# --- malformed schemas ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"type": "strin"}, "/type"),
        ({"type": []}, "/type"),
        ({"type": ["string", "string"]}, "/type"),
        ({"type": {}}, "/type"),
        ({"enum": "a"}, "/enum"),
        ({"minimum": "3"}, "/minimum"),
        ({"exclusiveMinimum": True}, "/exclusiveMinimum"),
        ({"multipleOf": 0}, "/multipleOf"),
        ({"minLength": -1}, "/minLength"),
        ({"maxItems": 1.5}, "/maxItems"),
        ({"minContains": "1"}, "/minContains"),
        ({"pattern": "("}, "/pattern"),
        ({"pattern": r"\p{L}"}, "/pattern"),
        ({"patternProperties": {"[": True}}, "/patternProperties"),
        ({"uniqueItems": "yes"}, "/uniqueItems"),
        ({"required": True}, "/required"),
        ({"required": ["a", "a"]}, "/required"),
        ({"dependentRequired": {"a": "b"}}, "/dependentRequired/a"),
        ({"dependencies": {"a": 3}}, "/dependencies/a"),
        ({"properties": []}, "/properties"),
        ({"properties": {"a": {"items": {"type": 3}}}}, "/properties/a/items/type"),
        ({"properties": {"a": "string"}}, "/properties/a"),
        ({"anyOf": []}, "/anyOf"),
        ({"prefixItems": {}}, "/prefixItems"),
        ({"prefixItems": [True], "items": [True]}, "/items"),
        ({"$defs": {"a": 3}}, "/$defs/a"),
        ({"then": 3}, "/then"),
        ({"$ref": 3}, "/$ref"),
        ({"$ref": "#/$defs/none"}, "/$ref"),
        ({"anyOf": [True], "$ref": "#/anyOf/-1"}, "/$ref"),
        ("string", "(root)"),
        (None, "(root)"),
    ],
)
def test_a_malformed_schema_is_refused_with_the_place(schema: Any, place: str) -> None:
    with pytest.raises(ValueError, match="malformed") as refused:
        compile_schema(schema)
    assert f"{place}:" in str(refused.value)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        {"properties": {"x": {"$ref": "#"}}, "allOf": [{"not": {"$ref": "#/properties/x"}}]},
        {"properties": {"x": {"anyOf": [{"$ref": "#/properties/x"}]}}},
    ],
)
def test_a_schema_that_would_be_checked_for_ever_is_refused(schema: Any) -> None:
    with pytest.raises(ValueError, match="refers to itself without going deeper"):
        compile_schema(schema)


def test_a_schema_that_contains_itself_is_refused() -> None:
    schema: dict[str, Any] = {}
    schema["items"] = schema
    with pytest.raises(ValueError, match="nested too deeply"):
        compile_schema(schema)


def test_a_value_too_deep_to_check_is_a_violation_and_no_error() -> None:
    value: list[Any] = []
    for _ in range(5000):
        value = [value]
    validator = compile_schema({"items": {"$ref": "#"}})
    assert validator.violations(value) == ["(root): is nested too deeply to be checked"]
    assert not validator.is_valid(value)


# --- beyond the list -----------------------------------------------------------------------------------------

UNEVALUATED = {
    "type": "object",
    "properties": {"kind": {"const": "a"}},
    "allOf": [{"properties": {"n": {"type": "integer"}}}],
    "unevaluatedProperties": False,
}


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        (UNEVALUATED, "'unevaluatedProperties' at (root)"),
        ({"properties": {"a": {"unevaluatedItems": False}}}, "'unevaluatedItems' at /properties/a"),
        ({"not": {"$dynamicRef": "#node"}}, "'$dynamicRef' at /not"),
        ({"$recursiveRef": "#"}, "'$recursiveRef'"),
        ({"$ref": "https://example.org/other.json"}, "'$ref' to 'https://example.org/other.json'"),
        ({"$ref": "#name"}, "'$ref' to '#name'"),
        ({"$defs": {"a": {"$id": "https://example.org/a"}}}, "'$id' at /$defs/a"),
    ],
)
def test_an_assertion_beyond_the_list_is_refused_by_name(schema: Any, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    for compiler in (compile_schema, validate.compile_schema):
        with pytest.raises(ValueError, match="asserts what") as refused:
            compiler(schema)
        assert named in str(refused.value)
    assert "power-loop[jsonschema]" in str(refused.value)


def test_the_extra_validates_what_is_beyond_the_list() -> None:
    validator = validate.compile_schema(UNEVALUATED)
    assert validator.violations({"kind": "a", "n": 1}) == []
    assert [line.partition(":")[0] for line in validator.violations({"kind": "b", "n": 1})] == ["/kind"]
    (line,) = validator.violations({"more": 1})
    assert "'more' was unexpected" in line
    assert validate.compile_schema({"$ref": "#name", "$defs": {"a": {"$anchor": "name", "type": "null"}}}).is_valid(None)


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"$ref": "https://example.org/other.json"}, "nothing remote is fetched"),
        ({"properties": {"a": {"$ref": "#nowhere"}}}, "'#nowhere'"),
        ({"unevaluatedProperties": False, "dependencies": {"a": ["b"]}}, "'dependencies'"),
        ({"$recursiveRef": "#"}, "'$recursiveRef'"),
        ({"unevaluatedProperties": 3}, "malformed"),
    ],
)
def test_what_the_extra_would_pass_over_is_still_refused(schema: Any, named: str) -> None:
    with pytest.raises(ValueError, match="the schema") as refused:
        validate.compile_schema(schema)
    assert named in str(refused.value)
