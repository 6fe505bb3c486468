"""A workflow made ready to run: every node with its place, its templates taken apart, and what its spec was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from power_loop.contracts.documents import below
from power_loop.workflow.names import Meaning
from power_loop.workflow.nodes import AgentNode, BranchNode, ForeachNode, HumanNode, LoopNode, Node, ParallelNode, SequenceNode
from power_loop.workflow.parse import checked
from power_loop.workflow.references import Part
from power_loop.workflow.rows import digest
from power_loop.workflow.spec import WorkflowSpec


class Place:
    """One node of a workflow, where it stands."""

    __slots__ = ("_spec_hash", "children", "fallback", "label", "node", "path", "templates")

    def __init__(self, node: Node, path: str, children: tuple[Place, ...], templates: Mapping[str, Sequence[Part]]) -> None:
        self.node: Node = node
        self.path: str = path
        self.children: tuple[Place, ...] = children
        """Steps, branches or cases in their order, with the default of a branch at the end; or the body."""
        self.fallback: Place | None = None
        self.templates: Mapping[str, Sequence[Part]] = templates
        """Of an agent ``input`` and ``prompt``, of a question ``prompt``."""
        self.label: str = _label(node, children)
        self._spec_hash = ""

    @property
    def ident(self) -> str | None:
        return self.node.id

    @property
    def spec_hash(self) -> str:
        """Of all that decides what a leaf answers, but its input."""
        if not self._spec_hash:
            self._spec_hash = digest(_what_decides(self.node))
        return self._spec_hash


def _what_decides(node: Node) -> Any:
    if isinstance(node, AgentNode):
        return [node.spec.to_dict(), node.output_schema]
    return [node.kind, list(node.options)] if isinstance(node, HumanNode) else None


def _label(node: Node, children: tuple[Place, ...]) -> str:
    """What a node is called in keys: its id; else the first id inside of it, and how far below it stands."""
    if node.id is not None:
        return node.id
    inner, _, up = children[0].label.partition("^")
    return f"{inner}^{int(up or 0) + 1}"


class Map:
    """All places of one workflow."""

    def __init__(self, spec: WorkflowSpec) -> None:
        """Checks the workflow again, because it may have been put together by hand. Raises `WorkflowSpecError`."""
        self._meaning: Meaning = checked(spec.to_dict())[1]
        self.spec = spec
        self.leaves: dict[str, Place] = {}
        """Agents and questions by their ids."""
        self.root: Place = self._place(spec.root, "root")

    def _place(self, node: Node, path: str) -> Place:
        children = tuple(self._place(child, where) for child, where in inside(node, path))
        place = Place(node, path, children, self._templates(node, path))
        if isinstance(node, (AgentNode, HumanNode)):
            self.leaves[node.id] = place
        if isinstance(node, AgentNode) and node.fallback is not None:
            place.fallback = self._place(node.fallback, below(path, "fallback"))
        return place

    def _templates(self, node: Node, path: str) -> dict[str, Sequence[Part]]:
        if isinstance(node, AgentNode):
            texts = {"input": (node.input, "input"), "prompt": (node.spec.system_prompt, "spec.system_prompt")}
        elif isinstance(node, HumanNode):
            texts = {"prompt": (node.prompt, "prompt")}
        else:
            return {}
        return {name: self._meaning.templates.get(f"{path}.{key}", [text]) for name, (text, key) in texts.items()}


def inside(node: Node, path: str) -> list[tuple[Node, str]]:
    """The nodes in a container with their paths; a fallback is not among them."""
    match node:
        case SequenceNode():
            return [(each, f"{path}.steps[{n}]") for n, each in enumerate(node.steps)]
        case ParallelNode():
            return [(each, f"{path}.branches[{n}]") for n, each in enumerate(node.branches)]
        case ForeachNode() | LoopNode():
            return [(node.body, f"{path}.body")]
        case BranchNode():
            cases = [(case, below(f"{path}.cases", key)) for key, case in node.cases.items()]
            return cases if node.default is None else [*cases, (node.default, f"{path}.default")]
        case AgentNode() | HumanNode():
            return []


def replayable_node_ids(spec: WorkflowSpec) -> list[str]:
    """The ids of the steps whose results a resumed run reads instead of running them again: all agents and questions."""
    return list(Map(spec).leaves)
