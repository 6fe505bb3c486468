"""The nodes of a workflow as frozen dataclasses, one for each word of the grammar, and back to the document that says the same.

How a document becomes these is `parse`'s business; what a run does with them is `plan`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar, TypeAlias, cast

from power_loop.contracts.agents import AgentSpec

MAX_LEAVES = 10_000
MAX_ITEMS = 10_000
FAILURES = ("failed", "degraded", "timeout", "invalid_output", "hit_round_limit")
"""How a leaf may end, other than well."""


class _Unset:
    """No value was given, which is not the same as null."""

    def __repr__(self) -> str:
        return "UNSET"

    def __reduce__(self) -> str:
        return "UNSET"


UNSET = _Unset()


# --- conditions -----------------------------------------------------------------------


@dataclass(frozen=True)
class Compare:
    """``ref op value``."""

    ref: str
    op: str
    """eq, ne, in, gt, ge, lt, le with a value; truthy, falsy, exists without."""
    value: Any = UNSET


@dataclass(frozen=True)
class All:
    """Every one of them holds."""

    all: tuple[Condition, ...]


@dataclass(frozen=True)
class Any_:
    """At least one of them holds."""

    any: tuple[Condition, ...]


@dataclass(frozen=True)
class Not:
    """It does not hold."""

    condition: Condition


Condition: TypeAlias = Compare | All | Any_ | Not


# --- nodes ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Retry:
    """A failed leaf is tried again, ``max_attempts`` times in all, when it ended as one of ``on``."""

    max_attempts: int
    on: tuple[str, ...] = FAILURES
    backoff_s: float = 0.0
    """Before the second attempt; doubled before each further one."""


@dataclass(frozen=True)
class AgentNode:
    """A leaf: one agent with one input. What else runs agents only arranges such leaves."""

    type: ClassVar[str] = "agent"
    id: str
    spec: AgentSpec
    input: str = "{{input}}"
    inputs_from: tuple[str, ...] = ()
    output_schema: Mapping[str, Any] | None = None
    """``{"name", "schema"}``; goes before that of the spec."""
    retry: Retry | None = None
    on_error: str = "halt"
    fallback: Node | None = None
    when: Condition | None = None
    timeout_s: float | None = None

    @property
    def schema(self) -> Mapping[str, Any] | None:
        """JSON Schema of the answer; None when it is text."""
        output = self.output_schema or self.spec.output_schema
        return None if output is None else output["schema"]


@dataclass(frozen=True)
class SequenceNode:
    """One step after the other."""

    type: ClassVar[str] = "sequence"
    steps: tuple[Node, ...]
    id: str | None = None
    when: Condition | None = None
    timeout_s: float | None = None


@dataclass(frozen=True)
class ParallelNode:
    """Branches side by side."""

    type: ClassVar[str] = "parallel"
    branches: tuple[Node, ...]
    id: str | None = None
    max_concurrency: int = 5
    on_error: str = "halt"
    when: Condition | None = None
    timeout_s: float | None = None


@dataclass(frozen=True)
class ForeachNode:
    """The body once for each item, with the item under the name ``as_var``."""

    type: ClassVar[str] = "foreach"
    as_var: str
    body: Node
    items_from: str | None = None
    items: tuple[Any, ...] | None = None
    id: str | None = None
    parallel: bool = True
    max_concurrency: int = 5
    on_error: str = "halt"
    when: Condition | None = None
    timeout_s: float | None = None


@dataclass(frozen=True)
class BranchNode:
    """The case that a value names."""

    type: ClassVar[str] = "branch"
    on: str
    cases: Mapping[str, Node]
    default: Node | None = None
    id: str | None = None
    when: Condition | None = None
    timeout_s: float | None = None


@dataclass(frozen=True)
class LoopNode:
    """The body again and again, until a condition holds."""

    type: ClassVar[str] = "loop"
    id: str
    body: Node
    until: Condition
    max_iterations: int = 10
    on_exhausted: str = "halt"
    when: Condition | None = None
    timeout_s: float | None = None


@dataclass(frozen=True)
class HumanNode:
    """A question to a person. The run waits, and holds no process."""

    type: ClassVar[str] = "human"
    id: str
    prompt: str
    kind: str = "text"
    options: tuple[Any, ...] = ()
    on_timeout: str = "halt"
    default: Any = UNSET
    """The answer when nobody gave one in time and ``on_timeout`` is "continue"."""
    when: Condition | None = None
    timeout_s: float | None = None


Node: TypeAlias = AgentNode | SequenceNode | ParallelNode | ForeachNode | BranchNode | LoopNode | HumanNode
WorkflowNode = AgentNode


@dataclass(frozen=True)
class WorkflowBudget:
    """What the leaves of one run may use up together."""

    max_tokens: int
    stop_at_remaining_pct: float = 0.0
    """No leaf begins when less than this part of the tokens, in percent, is left."""
    cost: float | None = None


# --- back to a document -----------------------------------------------------------------

_AS_WRITTEN = {"as_var": "as", "condition": "not"}


def document_of(part: Any) -> Any:
    """``part`` of a workflow as JSON."""
    if isinstance(part, AgentSpec):
        return part.to_dict()
    if isinstance(part, (list, tuple)):
        return [document_of(item) for item in cast("Sequence[Any]", part)]
    if isinstance(part, Mapping):
        return {key: document_of(member) for key, member in cast("Mapping[str, Any]", part).items()}
    if not is_dataclass(part):
        return part
    head = {"type": part.type} if isinstance(part, NODES) else {}
    return head | {
        _AS_WRITTEN.get(each.name, each.name): document_of(getattr(part, each.name))
        for each in fields(part)
        if not _as_by_default(part, each.name, each.default)
    }


def _as_by_default(part: Any, name: str, default: Any) -> bool:
    value = getattr(part, name)
    return value is UNSET or value == default or (name == "metadata" and not value)


NODES = (AgentNode, SequenceNode, ParallelNode, ForeachNode, BranchNode, LoopNode, HumanNode)
