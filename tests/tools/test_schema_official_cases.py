"""The official cases of draft 2020-12 for every keyword of the list: each is judged as the suite says, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from power_loop.contracts.schema.compile import compile_schema

SUITE = Path(__file__).parents[1] / "fixtures" / "json_schema_suite" / "draft2020-12.jsonl"
GROUPS: list[tuple[str, str, Any, list[tuple[str, Any, bool]]]] = [
    (file, description, schema, [tuple(case) for case in cases])
    for file, description, schema, cases in map(json.loads, SUITE.read_text("utf-8").splitlines())
]

# Groups whose schema needs more than the list: other documents, identifiers within a schema, unevaluated*, `\p{…}` in a pattern.
REFUSED = {
    "patternProperties: patternProperties with Unicode property escape",
    "pattern: pattern with Unicode property escape requires unicode mode",
    "not: collect annotations inside a 'not', even if collection is disabled",
    "ref: remote ref, containing refs itself",
    "ref: Recursive references between schemas",
    "ref: ref creates new scope when adjacent to keywords",
    "ref: refs with relative uris and defs",
    "ref: relative refs with absolute uris and defs",
    "ref: $id must be resolved against nearest parent, not just immediate parent",
    "ref: order of evaluation: $id and $ref",
    "ref: order of evaluation: $id and $anchor and $ref",
    "ref: order of evaluation: $id and $ref on nested schema",
    "ref: URN base URI with URN and anchor ref",
    "ref: URN ref with nested pointer ref",
    "ref: ref to if",
    "ref: ref to then",
    "ref: ref to else",
    "ref: ref with absolute-path-reference",
    "defs: validate definition against metaschema",
}


def judged(keyword: str) -> list[str]:
    """What this validator says otherwise than the suite, of the groups of one file."""
    wrong: list[str] = []
    for file, description, schema, cases in GROUPS:
        if file != keyword or f"{file}: {description}" in REFUSED:
            continue
        validator = compile_schema(schema)
        wrong += [f"{description}: {case}" for case, data, valid in cases if (not validator.violations(data)) != valid]
    return wrong


@pytest.mark.parametrize("keyword", dict.fromkeys(group[0] for group in GROUPS))
def test_every_case_of_the_suite_is_judged_as_it_says(keyword: str) -> None:
    assert judged(keyword) == []


def test_what_goes_beyond_the_list_is_refused_and_never_judged_wrong() -> None:
    refused = set[str]()
    for file, description, schema, _ in GROUPS:
        try:
            compile_schema(schema)
        except ValueError:
            refused.add(f"{file}: {description}")
    assert refused == REFUSED


def test_no_keyword_of_the_list_is_without_cases() -> None:
    listed = {
        *("type", "enum", "const", "properties", "required", "additionalProperties", "patternProperties", "items", "prefixItems"),
        *("minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties", "minimum", "maximum", "exclusiveMinimum"),
        *("exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern", "contains", "minContains", "maxContains"),
        *("propertyNames", "dependentRequired", "dependentSchemas", "if-then-else", "anyOf", "oneOf", "allOf", "not", "boolean_schema"),
        *("ref", "defs"),
    }
    assert listed <= {group[0] for group in GROUPS}
    assert sum(len(cases) for *_, cases in GROUPS) > 800
