"""`parse_structured`: what is tolerated around a document, what is not, and how a wrong one is told."""

from __future__ import annotations

from typing import Any

import pytest

from power_loop import StructuredOutputSpec, parse_structured
from power_loop.errors import StructuredOutputError

CITY = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "people": {"type": "integer", "minimum": 0},
        "mayor": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "people"],
    "additionalProperties": False,
}
ROME = {"name": "Rome", "people": 3}
TEXT = '{"name": "Rome", "people": 3}'


# acceptance: 75
@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"  \n{TEXT}\n",
        f"```json\n{TEXT}\n```",
        f"```\n{TEXT}\n```",
        f"```json {TEXT}```",
        f"Sure! Here you are:\n{TEXT}",
        f"Sure! Here you are:\n\n```json\n{TEXT}\n```\nAnything else?",
        f"{TEXT} I hope this helps {{or not}}.",
        f'The schema has {{name}} and {{"people"}}: {TEXT}',
        f"Set {{notation}} first. {TEXT}",
        f"A smile :{{ and {TEXT}",
        '{"name": "Rome", "people": 3,}',
        '{\n  "name": "Rome",\n  "people": 3,\n}\n',
        'Here: {"name": "Rome", "people": 3 , } and more',
        '{"people": 3.0, "name": "Rome"}',
    ],
)
def test_fences_prose_and_commas_too_many_are_read_over(text: str) -> None:
    assert parse_structured(text, schema=CITY) == ROME


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": ",}"}', {"a": ",}"}),
        ('{"a": "}", "b": "{",}', {"a": "}", "b": "{"}),
        ('{"a": "\\"},", "b": [1, 2,],}', {"a": '"},', "b": [1, 2]}),
        ('{"a": "```json\\n{}\\n```"}', {"a": "```json\n{}\n```"}),
        ('{"a": "one\ntwo\tthree"}', {"a": "one\ntwo\tthree"}),
        ('{"a": {"b": {"c": []}}}', {"a": {"b": {"c": []}}}),
        ('{"ä": "日本 \\u00e9 😀"}', {"ä": "日本 é 😀"}),
        ("{}", {}),
    ],
)
def test_what_stands_in_strings_is_left_as_it_is(text: str, value: Any) -> None:
    assert parse_structured(text) == value
    assert parse_structured(f"Well: {text} That is all.") == value


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no_json"),
        ("Rome has three people.", "no_json"),
        ("Rome {population: three}", "invalid_json"),
        ('{"name": "Rome", "people": 3', "invalid_json"),
        ('{"name": "Rome", "mayor": {"name": "Roberto"}', "invalid_json"),
        ("{'name': 'Rome'}", "invalid_json"),
        ('{"name": "Rome" "people": 3}', "invalid_json"),
        ('{"name": NaN}', "invalid_json"),
        ('{"name": "Rome", "people": 3, "far": [1e999]}', "invalid_json"),
        ('{"a":' * 100_000, "invalid_json"),
        ("[" * 100_000, "invalid_json"),
        ('[{"name": "Rome"}]', "not_object"),
        ('"Rome"', "not_object"),
        ("3", "not_object"),
        ("null", "not_object"),
        ('{"people": 3}', "missing_required:name"),
        ("{}", "missing_required:name"),
        ('{"name": "Rome", "people": "3"}', "schema:/people"),
        ('{"name": "Rome", "people": -1}', "schema:/people"),
        ('{"name": "Rome", "people": 3, "mayor": {}}', "schema:/mayor/name"),
        ('{"name": "Rome", "people": 3, "mayor": {"name": 7}}', "schema:/mayor/name"),
        ('{"name": "Rome", "people": 3, "tags": ["a", "b", 3]}', "schema:/tags/2"),
        ('{"name": "Rome", "people": 3, "a/b~c": 1}', "schema:/a~1b~0c"),
    ],
)
def test_what_is_wrong_has_a_reason_that_programs_read(text: str, reason: str) -> None:
    with pytest.raises(StructuredOutputError) as caught:
        parse_structured(text, schema=CITY)
    assert caught.value.reason == reason
    assert caught.value.raw_text == text[:1000]


def test_every_violation_is_told_with_its_pointer() -> None:
    with pytest.raises(StructuredOutputError) as caught:
        parse_structured('{"people": -1, "tags": [1], "more": 0}', schema=CITY)
    assert caught.value.reason == "missing_required:name"
    told = {line.partition(":")[0] for line in caught.value.detail.splitlines()}
    assert told == {"/name", "/people", "/tags/0", "/more"}


def test_an_object_inside_of_a_document_that_was_cut_off_is_not_the_document() -> None:
    with pytest.raises(StructuredOutputError, match="invalid_json"):
        parse_structured('{"result": {"name": "Rome", "people": 3}, "notes": "and th')


def test_a_spec_brings_its_schema_and_a_parsed_object_is_held_against_it_too() -> None:
    spec = StructuredOutputSpec("city", CITY)
    assert parse_structured(TEXT, schema=spec) == ROME
    assert parse_structured(ROME, schema=spec) == ROME
    with pytest.raises(StructuredOutputError, match="missing_required:people"):
        parse_structured({"name": "Rome"}, schema=spec)


def test_a_malformed_schema_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="malformed"):
        parse_structured(TEXT, schema={"type": "objekt"})


def test_a_spec_is_a_response_format() -> None:
    spec = StructuredOutputSpec("city", {"type": "object"}, description="A city.", examples=[{"name": "Rome"}])
    about = 'A city.\nExample: {"name": "Rome"}'
    assert spec.to_openai_response_format() == {
        "type": "json_schema",
        "json_schema": {"name": "city", "schema": {"type": "object"}, "strict": True, "description": about},
    }
    bare = StructuredOutputSpec("city", {"type": "object"}, strict=False).to_openai_response_format()
    assert bare["json_schema"] == {"name": "city", "schema": {"type": "object"}, "strict": False}


@pytest.mark.parametrize("name", ["", "with blanks", "ä", "x" * 65, None, 3])
def test_a_name_that_providers_refuse_is_refused_here(name: Any) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a schema"):
        StructuredOutputSpec(name, {})


def test_a_spec_without_a_schema_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="JSON Schema as a dict, not list"):
        StructuredOutputSpec("x", [])  # pyright: ignore[reportArgumentType]


def test_long_text_in_which_nothing_is_closed_is_read_in_one_pass() -> None:
    for text in ("{" * 200_000, '{"a": "' + "x\\\\" * 100_000, '{"code": "' + '\\"x' * 100_000, "}" * 200_000, '"' * 100_001 + "{"):
        with pytest.raises(StructuredOutputError):
            parse_structured(text)
