"""What the caller gets back, read from the state that the send left."""

from __future__ import annotations

from typing import Any

from power_loop.contracts.codec import from_cells
from power_loop.contracts.messages import ToolCall
from power_loop.contracts.outcome import StatefulResult
from power_loop.contracts.records import Answered, Decided, ToolReturned
from power_loop.contracts.store import Head, SessionLog
from power_loop.contracts.usage import Usage
from power_loop.kernel.hears import hears
from power_loop.kernel.state import State, replay
from power_loop.runtime.session import Session


def final_text(status: str, reason: str, text: str) -> str:
    """The text that stands for the send's end: the answer, or what there is instead."""
    match status:
        case "cancelled":
            return "[cancelled by user]" if reason in ("", "cancelled") else f"[cancelled: {reason}]"
        case "budget_exceeded":
            return "[budget_exceeded]"
        case "hit_round_limit":
            return f"[hit_round_limit]\n{text}"
        case _:
            return text


def result_of(session: Session, *, rounds: int, partial_text: str = "") -> StatefulResult:
    """The outcome of the last send of ``session``; ``rounds`` are those of this run."""
    state, session_id, send_index = session.state, session.head.session_id, session.head.send_index
    status, open_calls, error, tool_calls = state.status or "completed", state.open_calls, state.error, state.tool_calls
    usage = Usage.of(state.usage, tool_calls)
    return StatefulResult(
        session_id, status, final_text(status, state.reason, state.text), rounds,
        [call.to_message() for call in open_calls] if open_calls else [], interactions(session), usage, tool_calls,
        None, state.finish_reason, dict(error) if error else None,
        send_index, f"{session_id}/{send_index}", usage, partial_text,
    )  # fmt: skip


async def as_it_ended(log: SessionLog, session_id: str, send_index: int) -> Session:
    """The session as an earlier send left it."""
    session = Session(Head(session_id, send_index=send_index))
    rows = await log.rows(session_id, after=0)
    session.state = replay(from_cells(row.cells) for row in rows if row.send_index == send_index)
    return session


def interactions(session: Session) -> list[dict[str, Any]]:
    """What parked calls wait with, in the order of the calls; what was answered, heard or not, waits no more."""
    if not session.state.parked:
        return []
    words = [item.record for item in session.waiting if isinstance(item.record, (Answered, Decided, ToolReturned))]
    on_its_way = {word.call_id for word in words if hears(session.state, word)}
    return [dict(asked) for asked in session.state.asking() if asked.get("tool_call_id") not in on_its_way]


def pending(session: Session) -> dict[str, Any] | None:
    """What is unresolved; None when every call has its result."""
    state: State = session.state
    if not state.open_calls or state.idle:
        return None
    calls: tuple[ToolCall, ...] = state.open_calls
    return {
        "assistant_seq": session.asked_at,
        "send_index": session.head.send_index,
        "round_index": max(0, state.rounds - 1),
        "tool_call_ids": [call.id for call in calls],
        "tool_calls": [call.to_message() for call in calls],
        "pending_interactions": interactions(session),
        "unknown_call_ids": [call.id for call in calls if call.id in state.started],
    }
