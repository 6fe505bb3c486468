"""A checked document becomes nodes. Every problem of the document is collected first, and told at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from power_loop.contracts.agents import AgentSpec
from power_loop.contracts.documents import Problem, read
from power_loop.contracts.errors import WorkflowSpecError
from power_loop.workflow.grammar import WORKFLOW
from power_loop.workflow.names import Meaning, meaning_of
from power_loop.workflow.nodes import (
    UNSET,
    AgentNode,
    All,
    Any_,
    BranchNode,
    Compare,
    Condition,
    ForeachNode,
    HumanNode,
    LoopNode,
    Node,
    Not,
    ParallelNode,
    Retry,
    SequenceNode,
)

Members = Mapping[str, Any]


def checked(source: object) -> tuple[dict[str, Any], Meaning]:
    """(the document as plain JSON, what its names mean). Raises `WorkflowSpecError` with everything that is wrong."""
    document, problems = read(source, "a workflow")
    if not isinstance(document, dict):
        raise complaint(problems)
    WORKFLOW.check(document, "", problems)
    meaning = meaning_of(cast("dict[str, Any]", document))
    problems += meaning.problems
    if problems:
        raise complaint(problems)
    return cast("dict[str, Any]", document), meaning


def complaint(problems: list[Problem]) -> WorkflowSpecError:
    """The error that lists them, in a form that a model can repair from."""
    texts = [str(problem) for problem in problems]
    many = "1 problem" if len(texts) == 1 else f"{len(texts)} problems"
    return WorkflowSpecError("\n".join([f"the workflow has {many}:", *texts]), field=problems[0].path or None, problems=texts)


# --- nodes ----------------------------------------------------------------------------


def node_of(members: Members) -> Node:
    """The node that checked ``members`` describe."""
    made: dict[str, Any] = {key: value for key, value in members.items() if key != "type"}
    if "when" in made:
        made["when"] = condition_of(made["when"])
    match members["type"]:
        case "agent":
            return _agent(made)
        case "sequence":
            made["steps"] = tuple(map(node_of, made["steps"]))
            return SequenceNode(**made)
        case "parallel":
            made["branches"] = tuple(map(node_of, made["branches"]))
            return ParallelNode(**_whole(made, "max_concurrency"))
        case "foreach":
            return _foreach(made)
        case "branch":
            return _branch(made)
        case "loop":
            made["body"], made["until"] = node_of(made["body"]), condition_of(made["until"])
            return LoopNode(**_whole(made, "max_iterations"))
        case _:
            return HumanNode(**_tuples(made, "options"))


def _agent(made: dict[str, Any]) -> AgentNode:
    made["spec"] = AgentSpec.from_dict(made["spec"])
    if "retry" in made:
        made["retry"] = Retry(**_tuples(_whole(made["retry"], "max_attempts"), "on"))
    if "fallback" in made:
        made["fallback"] = node_of(made["fallback"])
    return AgentNode(**_tuples(made, "inputs_from"))


def _foreach(made: dict[str, Any]) -> ForeachNode:
    made["as_var"] = made.pop("as")
    made["body"] = node_of(made["body"])
    return ForeachNode(**_tuples(_whole(made, "max_concurrency"), "items"))


def _branch(made: dict[str, Any]) -> BranchNode:
    made["cases"] = {key: node_of(case) for key, case in made["cases"].items()}
    if "default" in made:
        made["default"] = node_of(made["default"])
    return BranchNode(**made)


def condition_of(members: Members) -> Condition:
    """The condition that checked ``members`` describe."""
    match members:
        case {"all": conditions}:
            return All(tuple(map(condition_of, conditions)))
        case {"any": conditions}:
            return Any_(tuple(map(condition_of, conditions)))
        case {"not": condition}:
            return Not(condition_of(condition))
        case _:
            return Compare(members["ref"], members["op"], members.get("value", UNSET))


def _tuples(members: Members, name: str) -> dict[str, Any]:
    return {**members, name: tuple(members[name])} if name in members else dict(members)


def _whole(members: Members, name: str) -> dict[str, Any]:
    """JSON writes 3.0 for 3."""
    return {**members, name: int(members[name])} if name in members else dict(members)
