"""`hears`: may this word from the inbox enter now?"""

from __future__ import annotations

from typing import Any

from power_loop.contracts.records import (
    Answered,
    CallCharged,
    ContextFolded,
    Decided,
    FoldSkipped,
    Record,
    StopRequested,
    ToolReturned,
    UserSaid,
)
from power_loop.kernel.state import State


def hears(state: State, record: Record) -> bool | None:
    """True: it enters now; None: not now, but later; False: it came too late and is dropped."""
    match record:
        case UserSaid():
            # No provider takes a word between a call and its result; a send that stops takes none at all.
            return None if state.open_calls or state.stop else True
        case ToolReturned(call_id=call_id):
            return any(call.id == call_id for call in state.open_calls)
        case Decided(interaction_id=interaction_id, call_id=call_id) | Answered(interaction_id=interaction_id, call_id=call_id):
            # A call may be parked again with another question: an old answer does not fit that one.
            return call_id in state.parked and interaction_id == question(state, call_id)
        case StopRequested():
            return not state.idle
        case ContextFolded() | FoldSkipped() | CallCharged():
            return None if state.open_calls else True
        case _:
            return False


def says_nothing(record: Record) -> bool:
    """It is heard by whoever drives the session anyway; nobody drives it, or goes on, because of it."""
    return isinstance(record, (ContextFolded, FoldSkipped, CallCharged))


def question(state: State, call_id: str) -> Any:
    """The id of what was last asked about this call."""
    return (state.question(call_id) or {}).get("interaction_id")
