"""What a workflow document may look like: the table that checks it, and the JSON Schema that says the same.

The schema is published as ``schema.json`` beside this file. What the names in a document mean is `names`' business.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from power_loop.contracts.agents import OUTPUT, SPEC
from power_loop.contracts.documents import Problem, below, kind_of, shown
from power_loop.contracts.grammar import Anything, Choice, Field, Flag, ListOf, MapOf, Named, Number, OneOf, Record, Schema, Text, meant
from power_loop.workflow.nodes import FAILURES, MAX_ITEMS, MAX_LEAVES
from power_loop.workflow.references import REFERENCE, WORD

SEVEN_DAYS_S = 604_800
# The end of the text, in every dialect of expressions; some take $ for the end of a line.
END = r"(?![\s\S])"

IDENT = Text(
    "an identifier: letters, digits, _ and -, not beginning with a digit, at most 64", f"^{WORD}{END}", 'such as "research" or "step_2"'
)
REF = Text('a reference such as "plan" or "plan.topics[0].name"', f"^{REFERENCE}{END}", "it names an earlier node, and what of its result")
NODE = Named("node", lambda: _NODE)
CONDITION = Named("condition", lambda: _CONDITION)
AGENT_SPEC = Named("agent_spec", lambda: SPEC)
TIMEOUT = Field(Number(1, SEVEN_DAYS_S), about="seconds")
ON_ERROR = Field(OneOf(["halt", "continue"]), about="halt (default): the run fails; continue: it goes on without")
CONCURRENCY = Field(Number(1, 64, whole=True), about="how many at once (5)")
ONE_NODE = 'give a node, such as {"type": "agent", "id": "write", "spec": {"name": …, "system_prompt": …}}'

_NODES = ListOf(NODE, 1, hint=f"in [ ]: {ONE_NODE}")

# --- conditions -----------------------------------------------------------------------

_ALONE, _COMPARING = ("truthy", "falsy", "exists"), ("eq", "ne", "gt", "ge", "lt", "le")
_OPS = ("eq", "ne", "in", "gt", "ge", "lt", "le", *_ALONE)
_REF = Field(REF, required=True, hint='name an earlier node, such as "check.ok"')
_CONDITIONS = Field(ListOf(CONDITION, 1, hint="give a list of conditions"), required=True)


def _which_condition(members: Mapping[str, Any], path: str) -> str | Problem:
    if several := [word for word in ("all", "any", "not") if word in members]:
        return several[0]
    op = members.get("op")
    if "op" not in members:
        return Problem(below(path, "op"), "is missing", f"give one of {', '.join(_OPS)}, or a condition with all, any or not")
    if not isinstance(op, str) or op not in _OPS:
        return Problem(below(path, "op"), f"{shown(op)} is none of {', '.join(_OPS)}", meant(op, _OPS))
    return "alone" if op in _ALONE else "in" if op == "in" else "compare"


_CONDITION = Choice(
    "a condition",
    {
        "compare": Record(
            "a comparison",
            {"ref": _REF, "op": Field(OneOf(_COMPARING), True), "value": Field(Anything(), True, "say what with")},
        ),
        "in": Record(
            "a comparison",
            {"ref": _REF, "op": Field(OneOf(["in"]), True), "value": Field(ListOf(Anything()), True, 'give a list, such as ["a", "b"]')},
        ),
        "alone": Record("a condition", {"ref": _REF, "op": Field(OneOf(_ALONE), True), "value": Field(Anything())}),
        "all": Record("a condition", {"all": _CONDITIONS}),
        "any": Record("a condition", {"any": _CONDITIONS}),
        "not": Record("a condition", {"not": Field(CONDITION, required=True)}),
    },
    _which_condition,
)

# --- nodes ----------------------------------------------------------------------------

RETRY = Record(
    "a retry",
    {
        "max_attempts": Field(Number(2, 5, whole=True), required=True, hint="attempts in all, 2 to 5"),
        "on": Field(ListOf(OneOf(FAILURES), hint=f"of {', '.join(FAILURES)}")),
        "backoff_s": Field(Number(0, SEVEN_DAYS_S), about="seconds before the second attempt, doubled before each further one"),
    },
)


def _node(title: str, type_: str, fields: dict[str, Field], **more: Any) -> Record:
    common = {"when": Field(CONDITION, about="skipped unless this holds"), "timeout_s": TIMEOUT}
    ident = {"id": Field(IDENT)}
    return Record(title, {"type": Field(OneOf([type_]), True)} | ident | fields | common, **more)


_ID = Field(IDENT, required=True, hint="give it a name of its own, by which others refer to it")
NODES: Mapping[str, Record] = {
    "agent": _node(
        "an agent node",
        "agent",
        {
            "id": _ID,
            "spec": Field(AGENT_SPEC, True, 'give {"name": …, "system_prompt": …}'),
            "input": Field(Text(), about="what it is told; {{id}} and {{id.key}} are filled in ({{input}})"),
            "inputs_from": Field(ListOf(IDENT, hint="give a list of node ids"), about="ids of earlier nodes whose texts are added"),
            "output_schema": Field(OUTPUT, about="the answer must be JSON of this shape"),
            "retry": Field(RETRY),
            "on_error": ON_ERROR,
            "fallback": Field(NODE, about="runs when this failed, and stands in for it"),
        },
    ),
    "sequence": _node("a sequence", "sequence", {"steps": Field(_NODES, True, "give a list of nodes")}),
    "parallel": _node(
        "a parallel node",
        "parallel",
        {
            "branches": Field(_NODES, True, "give a list of nodes"),
            "max_concurrency": CONCURRENCY,
            "on_error": ON_ERROR,
        },
    ),
    "foreach": _node(
        "a foreach node",
        "foreach",
        {
            "as": Field(IDENT, True, "name the item, as {{name}} in the body"),
            "items_from": Field(REF, about="a list in the result of an earlier node, such as plan.topics"),
            "items": Field(ListOf(Anything(), most=MAX_ITEMS)),
            "body": Field(NODE, True, ONE_NODE),
            "parallel": Field(Flag(), about="false: one after the other (true)"),
            "max_concurrency": CONCURRENCY,
            "on_error": ON_ERROR,
        },
        one_of=("items_from", "items"),
    ),
    "branch": _node(
        "a branch",
        "branch",
        {
            "on": Field(REF, True, "name the value that decides"),
            "cases": Field(MapOf(NODE, 1, 'give an object: {"yes": node, "no": node}'), True, "give an object: value → node"),
            "default": Field(NODE, about="when no case fits; without it the node fails then"),
        },
    ),
    "loop": _node(
        "a loop",
        "loop",
        {
            "id": _ID,
            "body": Field(NODE, True, ONE_NODE),
            "until": Field(CONDITION, True, 'say when it ends: {"ref": "review.ok", "op": "truthy"}'),
            "max_iterations": Field(Number(1, 100, whole=True), about="(10)"),
            "on_exhausted": ON_ERROR,
        },
    ),
    "human": _node(
        "a human node",
        "human",
        {
            "id": _ID,
            "prompt": Field(Text("a question", r"\S"), True, "say what the person is asked"),
            "kind": Field(OneOf(["text", "confirm", "choice"])),
            "options": Field(ListOf(Anything(), hint="give a list of options"), about="what a choice is made of"),
            "on_timeout": ON_ERROR,
            "default": Field(Anything(), about="the answer when nobody gave one in time and on_timeout is continue"),
        },
    ),
}


def _which_node(members: Mapping[str, Any], path: str) -> str | Problem:
    known, given = ", ".join(NODES), members.get("type")
    if given == "workflow" or ("root" in members and (not isinstance(given, str) or given not in NODES)):
        return Problem(path, "a workflow cannot stand inside of a workflow", "put its root node here")
    if "type" not in members:
        return Problem(below(path, "type"), "is missing", f"give one of {known}")
    if not isinstance(given, str) or given not in NODES:
        what = shown(given) if isinstance(given, str) else kind_of(given)
        return Problem(below(path, "type"), f"{what} is none of {known}", meant(given, list(NODES)))
    return given


_NODE = Choice("a node", NODES, _which_node)
BUDGET = Record(
    "a budget",
    {
        "max_tokens": Field(Number(1, whole=True), required=True, hint="tokens of all leaves together"),
        "stop_at_remaining_pct": Field(Number(0, 100)),
        "cost": Field(Number(above=0)),
    },
)
WORKFLOW = Record(
    "a workflow",
    {
        "name": Field(Text("a name", r"\S"), required=True, about="what the workflow is called"),
        "root": Field(NODE, required=True, hint=ONE_NODE),
        "input": Field(Text(), about="what {{input}} stands for"),
        "budget": Field(BUDGET),
        "metadata": Field(MapOf(Anything())),
        "timeout_s": TIMEOUT,
        "max_leaves": Field(Number(1, MAX_LEAVES, whole=True)),
    },
)

# --- as JSON Schema ---------------------------------------------------------------------


def made_schema() -> Schema:
    """The grammar above as JSON Schema (draft 2020-12)."""
    defs = {each.name: each.kind().schema() for each in (NODE, CONDITION, AGENT_SPEC)}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "power-loop workflow"}
    return {**head, **WORKFLOW.schema(), "$defs": defs}


def workflow_schema() -> Schema:
    """The published JSON Schema of workflow documents, anew for each caller."""
    return json.loads((Path(__file__).parent / "schema.json").read_text(encoding="utf-8"))
