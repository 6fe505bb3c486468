"""`AgentSpec`: checked however it is made, the field named that is wrong."""

from __future__ import annotations

import dataclasses
import json
import pickle
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from power_loop import AgentSpec, AgentSpecError, SubagentLifecycle, UsageLimits
from power_loop.contracts.agents import SPEC
from power_loop.contracts.grammar import Problem
from power_loop.contracts.schema.compile import compile_schema

LEAST = {"name": "clerk", "system_prompt": "You file things."}
FULL = LEAST | {
    "tools": ["read_file"],
    "max_rounds": 3,
    "max_tokens": None,
    "temperature": 0.5,
    "model": "echo:",
    "output_schema": {"name": "filed", "schema": {"type": "object"}},
    "lifecycle": "linked",
    "metadata": {"team": ["a", 1]},
    "limits": {"total_tokens": 1000, "cost": 0.5},
    "memory": "inherit",
    "inherit_context": False,
}


def test_what_is_not_said_is_as_by_default() -> None:
    spec = AgentSpec.from_dict(LEAST)
    assert spec == AgentSpec("clerk", "You file things.")
    assert (spec.tools, spec.max_rounds, spec.max_tokens, spec.temperature, spec.lifecycle) == (None, 8, 4000, 0.0, "ephemeral")
    assert spec.to_dict() == LEAST


@pytest.mark.parametrize("document", [LEAST, FULL, LEAST | {"tools": []}, LEAST | {"max_rounds": 50}, LEAST | {"temperature": None}])
def test_a_spec_survives_the_way_to_json_and_back(document: dict[str, Any]) -> None:
    spec = AgentSpec.from_json(json.dumps(document))
    assert spec.to_dict() == document
    assert AgentSpec.from_dict(MappingProxyType(spec.to_dict())) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_a_spec_is_frozen_and_its_limits_are_typed() -> None:
    spec = AgentSpec.from_dict(FULL)
    assert spec.limits == UsageLimits(total_tokens=1000, cost=0.5)
    assert AgentSpec("a", "b", lifecycle=SubagentLifecycle.DETACHED).to_dict()["lifecycle"] == "detached"
    assert isinstance(AgentSpec.from_dict(LEAST | {"max_rounds": 3.0}).max_rounds, int)
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.name = "else"  # type: ignore[misc]  # wrong on purpose


@pytest.mark.parametrize(
    ("wrong", "field", "text"),
    [
        ({"name": ""}, "name", '"" is not a name'),
        ({"name": None}, "name", "must be a name, not null"),
        ({"system_prompt": " \n"}, "system_prompt", "is not a prompt"),
        ({"tools": "bash"}, "tools", "must be a list, not text; give a list of names"),
        ({"tools": ["bash", 3]}, "tools[1]", "must be a tool's name, not the number 3"),
        ({"max_rounds": 0}, "max_rounds", "must be a whole number from 1 to 50; it is 0"),
        ({"max_rounds": 51}, "max_rounds", "must be a whole number from 1 to 50; it is 51"),
        ({"max_rounds": True}, "max_rounds", "must be a whole number from 1 to 50, not true"),
        ({"max_tokens": 0.5}, "max_tokens", "must be a whole number of at least 1; 0.5 has a fraction"),
        ({"temperature": -1}, "temperature", "must be a number of at least 0; it is -1"),
        ({"model": ""}, "model", "is not a model's name"),
        ({"output_schema": {"type": "object"}}, "output_schema.type", 'an output schema has no key "type"'),
        ({"output_schema": {"schema": {"type": 3}}}, "output_schema.schema", "the schema is malformed at /type"),
        ({"output_schema": {"schema": []}}, "output_schema.schema", "must be an object, not a list; a JSON Schema is an object"),
        ({"lifecycle": "forever"}, "lifecycle", '"forever" is none of ephemeral, linked, detached'),
        ({"metadata": []}, "metadata", "must be an object, not a list"),
        ({"metadata": {"when": object()}}, "metadata.when", "a Python object is nothing that JSON can hold"),
        ({"limits": {"cost": 0}}, "limits.cost", "must be a number above 0; it is 0"),
        ({"limits": {"money": 1}}, "limits.money", 'usage limits has no key "money"'),
        ({"memory": "all"}, "memory", '"all" is none of none, inherit'),
        ({"inherit_context": 1}, "inherit_context", "must be true or false, not the number 1"),
        ({"max_round": 3}, "max_round", 'an agent spec has no key "max_round"; did you mean "max_rounds"?'),
    ],
)
def test_an_error_names_the_field(wrong: dict[str, Any], field: str, text: str) -> None:
    with pytest.raises(AgentSpecError) as caught:
        AgentSpec.from_dict(LEAST | wrong)
    assert caught.value.field == field
    assert text in str(caught.value)
    if field != "max_round":
        with pytest.raises(AgentSpecError) as made:
            AgentSpec(**LEAST | wrong)
        assert made.value.problems == caught.value.problems


@pytest.mark.parametrize(("source", "text"), [("{", "no JSON"), ("[]", "not a list"), (7, "not the number 7"), ("{}", "name: is missing")])
def test_what_is_no_document_is_an_error_too(source: Any, text: str) -> None:
    with pytest.raises(AgentSpecError, match=text):
        AgentSpec.from_json(source)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(AgentSpecError) as caught:
        AgentSpec.from_dict({"name": "", "max_rounds": 99})
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["name", "system_prompt", "max_rounds"]


SCHEMA = compile_schema(SPEC.schema())
VALUES = st.sampled_from(
    [None, True, 0, 1, 50, 51, 2.5, "", "a", " ", [], ["a"], [""], {}, {"cost": 1}, {"schema": {}}, {"name": "x"}, "none"]
)


@given(document=st.dictionaries(st.sampled_from([*SPEC.fields, "x"]), VALUES, max_size=8).map(lambda each: LEAST | each))
@settings(max_examples=200, deadline=None)
def test_the_json_schema_of_a_spec_takes_what_the_check_takes(document: dict[str, Any]) -> None:
    found: list[Problem] = []
    SPEC.check(document, "", found)
    assert SCHEMA.is_valid(document) == (not found), found
