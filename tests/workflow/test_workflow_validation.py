"""A malformed workflow is told of whole: every problem, with its place and a way out, and never another exception."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workflows import SPEC, TOPICS, Maker, agent, each, par, seq

from power_loop.contracts.documents import MAX_DEPTH
from power_loop.contracts.errors import WorkflowSpecError
from power_loop.contracts.grammar import Problem
from power_loop.contracts.schema.compile import compile_schema
from power_loop.workflow import WorkflowSpec, workflow_schema
from power_loop.workflow.grammar import NODES, WORKFLOW, made_schema

SCHEMA = compile_schema(workflow_schema())
CONFIRM: dict[str, Any] = {"type": "human", "id": "h", "prompt": "x", "kind": "confirm"}


def problems(document: Any) -> list[str]:
    with pytest.raises(WorkflowSpecError) as caught:
        WorkflowSpec.from_json(document)
    return caught.value.problems


def problems_of_root(root: Any, **more: Any) -> list[str]:
    return problems({"name": "w", "root": root, **more})


def spec_of(root: Any, **more: Any) -> WorkflowSpec:
    return WorkflowSpec.from_json({"name": "w", "root": root, **more})


# acceptance: 102, 107 (problems as text that a model can repair from; no workflow in a workflow)
def test_one_error_lists_every_problem_with_its_place_and_a_way_out() -> None:
    document = {
        "nme": "w",
        "root": seq(
            5,
            {"type": "agent", "id": "a", "spec": SPEC | {"max_rounds": 99}, "inputs_from": ["b", "a", "zz"], "input": 7},
            {"type": "agent", "id": "a", "spec": {}},
            {"type": "branch", "on": "a.x", "cases": []},
            {"type": "foreach", "as": "input", "items_from": "a", "items": [], "body": agent("b")},
            agent("c", inputs_from=["b"], on_error="halted"),
            {"type": "sequenc"},
            {"type": "sequence", "steps": 3},
            {"root": agent("d"), "name": "x"},
            {"type": "loop", "id": "l", "until": {"op": "eqq"}, "max_iterations": 1000},
        ),
    }
    assert problems(document) == [
        'nme: a workflow has no key "nme"; did you mean "name"?',
        "name: is missing; a workflow needs it",
        "root.steps[0]: must be a node, an object, not the number 5",
        "root.steps[1].spec.max_rounds: must be a whole number from 1 to 50; it is 99",
        "root.steps[1].input: must be text, not the number 7",
        "root.steps[2].spec.name: is missing; an agent spec needs it",
        "root.steps[2].spec.system_prompt: is missing; an agent spec needs it",
        'root.steps[3].cases: must be an object, not a list; give an object: {"yes": node, "no": node}',
        "root.steps[4]: has both items_from and items; give exactly one",
        'root.steps[5].on_error: "halted" is none of halt, continue; did you mean "halt"?',
        'root.steps[6].type: "sequenc" is none of agent, sequence, parallel, foreach, branch, loop, human; did you mean "sequence"?',
        "root.steps[7].steps: must be a list, not the number 3; in [ ]: give a node, such as "
        '{"type": "agent", "id": "write", "spec": {"name": …, "system_prompt": …}}',
        "root.steps[8]: a workflow cannot stand inside of a workflow; put its root node here",
        'root.steps[9].body: is missing; give a node, such as {"type": "agent", "id": "write", "spec": {"name": …, "system_prompt": …}}',
        'root.steps[9].until.op: "eqq" is none of eq, ne, in, gt, ge, lt, le, truthy, falsy, exists; did you mean "eq"?',
        "root.steps[9].max_iterations: must be a whole number from 1 to 100; it is 1000",
        'root.steps[2].id: the id "a" is also that of root.steps[1]; give each node an id of its own',
        'root.steps[1].inputs_from[0]: "b" does not run before this; known here: input',
        'root.steps[1].inputs_from[1]: "a" is the node that this stands in; refer to an earlier one',
        'root.steps[1].inputs_from[2]: no node has the id "zz"; known here: input',
        'root.steps[3].on: "a.x" cannot be: a has no such part; '
        "a answers with text, which has neither keys nor items; give it an output_schema",
        'root.steps[4].items_from: "a" answers with text, no list; give it an output_schema with a list in it; '
        'name a list, such as "plan.topics"',
        'root.steps[4].as: "input" stands for the input of the workflow; choose another name for the item',
        'root.steps[5].inputs_from[0]: "b" stands in the body of the foreach root.steps[4] and has one result for each item; '
        "refer to root.steps[4]",
    ]


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ("{", "(document): this is no JSON: "),
        ('```json\n{"name": "w"}\n```', "(document): this is no JSON: "),
        ("[]", "(document): a workflow is an object, not a list"),
        ("", "(document): this is no JSON"),
        (None, "(document): a workflow is JSON text or an object, not null"),
        (3.5, "(document): a workflow is JSON text or an object, not the number 3.5"),
        (b"{}", "(document): a workflow is JSON text or an object, not a Python bytes"),
        ('{"name": "w", "name": "v"}', '(document): an object holds the same key twice: "name"'),
        ('{"name": ' + "9" * 5000 + "}", "(document): this is no JSON: "),
        ('{"name": NaN}', "name: nan is no number of JSON"),
        ('{"name": "\\ud800"}', "name: holds a NUL character or a lone surrogate"),
        ("[" * 100_000, "(document): "),
        ('{"a":' * 1000 + "1" + "}" * 1000, f"is nested deeper than {MAX_DEPTH} levels"),
        ({"name": {1: 2}}, "name: a key is the number 1, but JSON has only text keys"),
        ({"name": {1, 2}}, "name: a Python set is nothing that JSON can hold"),
        ({"name": 10**5000}, "name: the number has hundreds of digits"),
        ({"name": "w", "root": {}}, "root.type: is missing; give one of agent, sequence"),
        ({"name": "w", "root": {"type": {}}}, "root.type: an object is none of agent, sequence"),
        ({"name": "w", "root": None}, "root: must be a node, an object, not null"),
        ({"name": "w"}, "root: is missing; give a node"),
        ({"name": " ", "root": None}, 'name: " " is not a name'),
        ({"name": "w", "root": None, "budget": {"max_tokens": 0}}, "budget.max_tokens: must be a whole number of at least 1; it is 0"),
        ({"name": "w", "root": None, "max_leaves": 10_001}, "max_leaves: must be a whole number from 1 to 10000; it is 10001"),
        ({"name": "w", "root": None, "timeout_s": True}, "timeout_s: must be a number from 1 to 604800, not true"),
    ],
)
def test_a_document_that_is_none_is_a_problem_too(document: Any, problem: str) -> None:
    found = problems(document)
    assert any(problem in each for each in found), found


def test_what_contains_itself_is_too_deep_and_no_endless_loop() -> None:
    node: dict[str, Any] = {"type": "sequence"}
    node["steps"] = [node]
    assert any("nested deeper" in each for each in problems({"name": "w", "root": node}))


def test_nodes_are_nested_forty_deep_and_no_deeper() -> None:
    def nested(depth: int) -> dict[str, Any]:
        return agent("a") if not depth else seq(nested(depth - 1))

    assert spec_of(nested(40))
    assert "nodes are nested deeper than 40 levels" in problems_of_root(nested(41))[0]


# acceptance: 157 (validation)
@pytest.mark.parametrize(
    ("root", "problem"),
    [
        (seq(agent("a", inputs_from=["b"]), agent("b")), '"b" does not run before this'),
        (par(agent("a"), agent("b", inputs_from=["a"])), '"a" does not run before this'),
        (agent("a", when={"ref": "a", "op": "exists"}), '"a" is the node that this stands in'),
        (seq(each("e", [1], agent("a")), agent("b", inputs_from=["a"])), '"a" stands in the body of the foreach e'),
        (seq(agent("plan", output_schema=TOPICS), each("e", "plan.ok", agent("a"))), '"plan.ok" yields no list'),
        (seq(agent("plan", output_schema=TOPICS), each("e", "plan.topics.x", agent("a"))), '"plan.topics.x" cannot be: plan.topics has no'),
        (seq(agent("plan"), each("e", "plan", agent("a"))), '"plan" answers with text, no list'),
        (seq(each("e", [1], agent("a")), {"type": "branch", "on": "e.a", "cases": {"x": agent("b")}}), 'there is no key "a"'),
        (seq(CONFIRM, each("e", "h", agent("a"))), '"h" yields no list'),
        (agent("a", output_schema={"schema": {"type": "objekt"}}), "the schema is malformed at /type"),
        (agent("a", spec=SPEC | {"output_schema": {"schema": {"$ref": "#/nowhere"}}}), "points to nothing"),
        (agent("input"), 'an id cannot be "input"'),
        (agent("1a"), '"1a" is not an identifier'),
        (agent("a\n"), '"a\\n" is not an identifier'),
        (agent("a" * 65), "is not an identifier"),
        ({"type": "human", "id": "h", "prompt": "x", "kind": "choice"}, "a choice without options"),
        (agent("a", retry={"max_attempts": 6}), "must be a whole number from 2 to 5"),
        (agent("a", retry={"max_attempts": 2, "on": ["slow"]}), '"slow" is none of failed, degraded'),
        (agent("a", when={"ref": "input", "op": "eq"}), "root.when.value: is missing"),
        (agent("a", when={"all": []}), "root.when.all: must hold at least 1"),
        (agent("a", when={"ref": "in put", "op": "exists"}), "is not a reference"),
        (each("e", list(range(10_001)), agent("a")), "holds 10001, but at most 10000 are allowed"),
        (par(agent("a"), max_concurrency=65), "must be a whole number from 1 to 64"),
        ({"type": "workflow", "id": "w"}, "a workflow cannot stand inside of a workflow"),
    ],
)  # fmt: skip
def test_what_has_no_sense_is_a_problem(root: Any, problem: str) -> None:
    found = problems_of_root(root)
    assert any(problem in each for each in found), found


# acceptance: 157 (validation)
@pytest.mark.parametrize(
    "root",
    [
        seq(agent("a"), agent("b", inputs_from=["a"])),
        seq(par(agent("a"), agent("b")), agent("c", inputs_from=["a", "b"])),
        seq(agent("plan", output_schema=TOPICS), each("e", "plan.topics", agent("a", input="{{item}}")), each("f", "e", agent("b"))),
        each("outer", [{"of": [1]}], {"type": "foreach", "as": "inner", "items_from": "item.of", "body": agent("a")}),
        {"type": "loop", "id": "l", "body": seq(agent("w", input="{{l}}"), agent("r")), "until": {"ref": "r", "op": "truthy"}},
        seq({"type": "loop", "id": "l", "body": agent("w"), "until": {"ref": "w", "op": "truthy"}}, agent("x", inputs_from=["w"])),
        seq({"type": "branch", "on": "input", "cases": {"x": agent("a")}}, agent("b", inputs_from=["a"])),
        agent("a", fallback=agent("b", inputs_from=["a"])),
        {"type": "human", "id": "h", "prompt": "x", "kind": "choice", "options": ["a"]},
        seq(CONFIRM | {"options": [{"id": "b", "of": [1]}]}, each("e", "h.of", agent("a"))),
        seq(CONFIRM | {"timeout_s": 60, "on_timeout": "continue", "default": [1]}, each("e", "h", agent("a"))),
    ],
)
def test_what_has_sense_is_none(root: Any) -> None:
    spec = spec_of(root)
    assert spec.warnings == ()
    assert WorkflowSpec.from_json(json.dumps(spec.to_dict())) == spec


@pytest.mark.parametrize(
    ("root", "warning"),
    [
        (agent("a", input="{{nobody}} {{input}}"), "root.input: {{nobody}} stays as text: no node has the id"),
        (agent("a", input="{{input.x}}"), 'root.input: "{{input.x}}" cannot be'),
        (seq(agent("a", input="{{b}}"), agent("b")), "{{b}} stays as text: "),
        (agent("a", spec=SPEC | {"system_prompt": "{{x}}"}), "root.spec.system_prompt: {{x}} stays as text"),
        (seq(agent("p", output_schema=TOPICS), agent("a", input="{{p.topic}}")), '"{{p.topic}}" may not be there; p: "topic" is no key'),
        (agent("a", spec=SPEC | {"tools": ["create_workflow"]}), "root.spec.tools[0]: create_workflow is refused in a leaf"),
        ({"type": "human", "id": "h", "prompt": "x", "on_timeout": "continue"}, "without timeout_s the question waits for ever"),
        (seq(agent("item"), each("e", [1], agent("a"))), 'root.steps[1].as: "item" hides what else has this name'),
    ],
)
def test_what_looks_like_a_mistake_is_a_warning(root: Any, warning: str) -> None:
    assert any(warning in each for each in spec_of(root).warnings), spec_of(root).warnings


# --- documents by chance ----------------------------------------------------------------

WORDS = sorted({"type", "name", "root", "spec", "system_prompt", *NODES, *(name for node in NODES.values() for name in node.fields)})
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([*WORDS, "input", "{{a.b[0]}}", "a"]) | st.text(max_size=5)
)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=3), inner, max_size=6)
)


def hurt(document: Any, chance: random.Random) -> Any:
    """A copy of ``document`` with one thing in it changed."""
    document = copy.deepcopy(document)
    places: list[tuple[Any, Any]] = []
    todo = [document]
    while todo:
        part = todo.pop()
        members = list(part.items()) if isinstance(part, dict) else list(enumerate(part)) if isinstance(part, list) else []
        places += [(part, key) for key, _ in members]
        todo += [member for _, member in members]
    part, key = chance.choice(places)
    junk = [None, True, -1, 0.5, 1e300, 10**400, "", "x", "a b", "{{", [], {}, [[]], {"type": "agent"}, float("nan"), "\0", {"$ref": "#"}]
    what = chance.randrange(5)
    if what == 0:
        del part[key]
    elif what == 1 and isinstance(part, dict):
        part[chance.choice([*WORDS, "x"])] = part.pop(key)
    elif what == 2 and isinstance(part, list):
        part.append(part[key])
    else:
        part[key] = chance.choice([*junk, part[key], [part[key]], {"x": part[key]}])
    return document


def sound_or_told(document: Any) -> None:
    told: list[str] | None = None
    try:
        spec = WorkflowSpec.from_json(document)
        assert WorkflowSpec.from_json(spec.to_dict()) == spec
    except WorkflowSpecError as error:
        told = error.problems
    if told is not None:
        assert told
        assert all(": " in json.dumps(problem) for problem in told)


# acceptance: 102 (malformed in any way)
@given(document=JSON)
@settings(max_examples=300, deadline=None)
def test_any_json_is_a_workflow_or_a_list_of_problems(document: Any) -> None:
    sound_or_told(document)
    sound_or_told({"name": "w", "root": document})
    sound_or_told(json.dumps(document))


@given(text=st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_any_text_is_a_workflow_or_a_list_of_problems(text: str) -> None:
    sound_or_told(text)


@given(seed=st.integers(0, 2**32), hurts=st.integers(1, 4))
@settings(max_examples=300, deadline=None)
def test_a_sound_workflow_that_was_hurt_is_sound_or_told_of(seed: int, hurts: int) -> None:
    chance = random.Random(seed)
    document = Maker(seed).workflow().to_dict()
    for _ in range(hurts):
        document = hurt(document, chance)
    sound_or_told(document)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_a_sound_workflow_survives_the_way_to_a_document_and_back(seed: int) -> None:
    spec = Maker(seed).workflow()
    assert WorkflowSpec.from_json(json.dumps(spec.to_dict())) == spec


# --- the published schema ---------------------------------------------------------------


def test_the_published_schema_is_that_of_the_grammar() -> None:
    assert workflow_schema() == made_schema(), "write src/power_loop/workflow/schema.json anew from made_schema()"


@given(seed=st.integers(0, 2**32), hurts=st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_the_schema_takes_what_the_grammar_takes_and_nothing_else(seed: int, hurts: int) -> None:
    chance = random.Random(seed)
    document = Maker(seed).workflow().to_dict()
    for _ in range(hurts):
        document = hurt(document, chance)
    found: list[Problem] = []
    WORKFLOW.check(document, "", found)
    assert SCHEMA.is_valid(document) == (not found), found
