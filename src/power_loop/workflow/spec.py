"""`WorkflowSpec`: a workflow that was found to be sound, and the way to it from a document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from power_loop.contracts.documents import plain
from power_loop.workflow.nodes import MAX_LEAVES, Node, WorkflowBudget, document_of
from power_loop.workflow.parse import checked, node_of


@dataclass(frozen=True)
class WorkflowSpec:
    """A workflow: its root node, and the caps on a run of it."""

    name: str
    root: Node
    input: str = ""
    budget: WorkflowBudget | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    timeout_s: float | None = None
    max_leaves: int = MAX_LEAVES
    warnings: tuple[str, ...] = field(default=(), compare=False)
    """What is allowed and looks like a mistake: template names that match nothing, and the like."""

    @classmethod
    def from_json(cls, source: str | Mapping[str, Any]) -> WorkflowSpec:
        """The workflow that JSON text or an object describes.

        Raises `WorkflowSpecError`, and nothing else; its ``problems`` lists everything that is wrong, with places and hints.
        """
        document, meaning = checked(source)
        made = dict(document)
        made["root"] = node_of(made["root"])
        if "budget" in made:
            made["budget"] = WorkflowBudget(**made["budget"] | {"max_tokens": int(made["budget"]["max_tokens"])})
        if "max_leaves" in made:
            made["max_leaves"] = int(made["max_leaves"])
        return cls(**made, warnings=tuple(map(str, meaning.warnings)))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON that `from_json` makes this workflow of again; what is as by default is left out."""
        return plain(document_of(replace(self, warnings=())))[0]
