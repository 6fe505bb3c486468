"""A run as a session: its id, what it was told at its start, and its journal's rows as records. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from power_loop.contracts.records import Record, SendEnded, SendResumed, StepChanged, UserSaid
from power_loop.contracts.rows import RUN_PREFIX
from power_loop.workflow.budget import SharedBudget
from power_loop.workflow.nodes import WorkflowBudget
from power_loop.workflow.rows import Row, StepRow, row_of
from power_loop.workflow.spec import WorkflowSpec

IN_PROCESS = "in_process"


def driver_id(run_id: str) -> str:
    """The session that a run is."""
    return RUN_PREFIX + run_id


def run_id_of(session_id: str) -> str:
    return session_id.removeprefix(RUN_PREFIX)


class Order(NamedTuple):
    """What a run was told at its start, and at the latest resume."""

    spec: WorkflowSpec
    budget: Mapping[str, Any] | None = None
    """Instead of that of the document."""
    executor: str = IN_PROCESS
    """The kind of executor. Leaves that were to run elsewhere are not run in this process because nobody said so."""
    detached: bool = False
    """Its end is told to its parent."""

    def to_dict(self) -> dict[str, Any]:
        return {"workflow": self.spec.to_dict(), "budget": self.budget, "executor": self.executor, "detached": self.detached}

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Order:
        """From what a run was told: kept as the configuration of its session, and what resumes said since."""
        spec = WorkflowSpec.from_json(told["workflow"])
        return cls(spec, told.get("budget"), told.get("executor", IN_PROCESS), bool(told.get("detached")))


def opening_words(spec: WorkflowSpec) -> UserSaid:
    """The first record of a run."""
    return UserSaid(spec.input or spec.name)


def record_of(row: Row) -> StepChanged:
    """The row as it is kept."""
    members = row.to_dict()
    return StepChanged(row.step if isinstance(row, StepRow) else "", {name: members[name] for name in members if name != "step"})


def rows_of(records: Iterable[Record]) -> list[Row]:
    """The journal among the records of a run."""
    return [_row(record) for record in records if isinstance(record, StepChanged)]


def _row(record: StepChanged) -> Row:
    return row_of({"step": record.step, **record.change} if record.step else record.change)


def told_by(records: Iterable[Record]) -> dict[str, Any]:
    """What resumes said anew."""
    told: dict[str, Any] = {}
    for record in records:
        if isinstance(record, SendResumed) and record.overrides is not None:
            told |= record.overrides
    return told


def ends(records: Iterable[Record]) -> int:
    """How often the run came to an end."""
    return sum(isinstance(record, SendEnded) for record in records)


def numbers_of(budget: SharedBudget | WorkflowBudget | None) -> dict[str, Any] | None:
    """A budget as the journal keeps it."""
    if budget is None:
        return None
    cost = budget.max_cost if isinstance(budget, SharedBudget) else budget.cost
    return {"max_tokens": budget.max_tokens, "stop_at_remaining_pct": budget.stop_at_remaining_pct, "cost": cost}


def budget_of(order: Order) -> SharedBudget | None:
    """A budget of the run's own; None when nothing bounds it."""
    if order.budget is not None:
        return SharedBudget.of(WorkflowBudget(**order.budget))
    return SharedBudget.of(order.spec.budget) if order.spec.budget is not None else None
