"""How a pass of driving a run begins, and whether there is anything to do: `Driving` says what is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from power_loop.contracts.records import Answered, Decided, Record, SendResumed, UserSaid
from power_loop.runtime.logbook import Logbook
from power_loop.workflow.budget import SharedBudget
from power_loop.workflow.executors import Executor
from power_loop.workflow.journal import Order, opening_words, record_of
from power_loop.workflow.plan import Plan
from power_loop.workflow.rows import OnChange, RunRow

Opening = Literal["begin", "resume", "look", "abort"]
"""``look``: go on only where that was cut off, or somebody has answered; ``abort``: only to end what waits for somebody."""


class Driving(NamedTuple):
    """How a run shall be driven this time."""

    opening: Opening
    order: Order | None = None
    """Of a new run; else the journal has it."""
    executor: Executor | None = None
    budget: SharedBudget | None = None
    on_change: OnChange | None = None
    changed: Mapping[str, Any] | None = None
    """What the run stands under from now on, as in an `Order`."""


def opened(book: Logbook, plan: Plan, driving: Driving, order: Order, now: int) -> bool:
    """Note how the pass begins; False when there is nothing to do. Raises `WorkflowRunError` for changes."""
    if driving.opening == "abort":
        return not book.state.idle and bool(book.state.open_calls)
    if not book.session.head.head:
        return _begun(book, driving, order, now)
    plan.refuse_changes()
    state = book.state
    if driving.opening != "resume":
        return not state.idle and (state.status != "waiting_for_input" or _is_called(book, plan, now))
    changes = driving.on_change not in (None, "error")
    if plan.status == "completed" and not changes:
        return not state.idle  # whoever drove it died before its end was written
    if plan.is_over or changes or driving.changed:
        book.note(SendResumed(overrides=driving.changed))
    if plan.is_over or changes:
        row = RunRow("resumed", now, on_change=driving.on_change)
        plan.apply(row)
        book.note(record_of(row))
    return True


def _begun(book: Logbook, driving: Driving, order: Order, now: int) -> bool:
    said = next((item for item in book.waiting if isinstance(item.record, UserSaid)), None)
    if said is not None:
        book.note(said.record, heard=said)
    elif driving.opening != "look":
        book.note(opening_words(order.spec))
    else:
        return False
    book.note(record_of(RunRow("started", now)))
    return True


def _is_called(book: Logbook, plan: Plan, now: int) -> bool:
    """Somebody answered, or nobody did in time."""
    words: list[Record] = [item.record for item in book.waiting]
    heard = any(isinstance(word, (Answered, Decided)) and book.hears(word) for word in words)
    return heard or any(key not in book.state.parked for key in plan.questions()) or any(due <= now for due in plan.deadlines().values())
