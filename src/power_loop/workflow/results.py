"""What a run comes to: `WorkflowResult`, and an `AgentResult` for each step in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from power_loop.contracts.usage import Usage

SHOWN_ERRORS = 10


@dataclass(frozen=True)
class AgentResult:
    """What one step came to."""

    node_id: str
    """``research``, or in a body ``research[2].r``."""
    status: str
    """completed, skipped, or how it failed: failed, degraded, timeout, invalid_output, hit_round_limit."""
    text: str = ""
    payload: Any = None
    """The answer as JSON: by the output schema, of a foreach or parallel node ``{"items": […]}``; None when it is only text."""
    usage: Usage = field(default_factory=Usage)
    """Of all attempts."""
    session_id: str | None = None
    error: str | None = None
    db_path: str | None = None
    attempts: int = 1

    def to_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "usage": dict(self.usage)}


@dataclass(frozen=True)
class WorkflowResult:
    """What a run came to, or, while it is not over, how far it is."""

    name: str
    status: str
    """completed, failed, cancelled, budget_exceeded, timeout, waiting_for_input; ``running`` while something is left to do."""
    results: Mapping[str, AgentResult] = field(default_factory=dict[str, AgentResult])
    """By node id, in the order of the document and of the items."""
    final: str = ""
    """The text of the root node's result."""
    usage: Usage = field(default_factory=Usage)
    errors: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    """``{"node_id", "status", "error"}`` for each failure that nothing made good, those that the run went on without too."""
    run_id: str = ""
    output: Any = None
    """The root node's result as JSON, where it is more than text."""

    @property
    def ok(self) -> bool:
        """Completed, and nothing failed on the way."""
        return self.status == "completed" and not self.errors

    def summary(self) -> str:
        """A few lines for people."""
        done = sum(result.status == "completed" for result in self.results.values())
        lines = [f"workflow {self.name}: {self.status}, {done} of {len(self.results)} results, {self.usage.total_tokens} tokens"]
        lines += [f"- {each['node_id']}: {each['status']}: {each['error']}" for each in self.errors[:SHOWN_ERRORS]]
        if more := len(self.errors) - SHOWN_ERRORS:
            lines += [f"- and {more} more"] if more > 0 else []
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        results = {name: result.to_dict() for name, result in self.results.items()}
        return {**self.__dict__, "results": results, "usage": dict(self.usage), "errors": list(self.errors), "ok": self.ok}
