"""What a record says: the events that it yields, in order.

The one place where records become events: a run tells them when they are written, `retell` reads them again for
whoever watches from elsewhere. The n-th event of the record at ``seq`` has the cursor ``"seq.n"``, here and there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from power_loop.contracts.codec import content_of
from power_loop.contracts.events import AgentEvent, BaseEventPayload
from power_loop.contracts.messages import ToolCall
from power_loop.contracts.records import (
    ROUNDS,
    CallCharged,
    ContextFolded,
    Decided,
    ModelReplied,
    Record,
    RoundSkipped,
    SendEnded,
    SendRested,
    StopRequested,
    ToolParked,
    ToolReturned,
    UserSaid,
)
from power_loop.contracts.store import RecordRow
from power_loop.contracts.usage import CallUsage

Telling = tuple[str, dict[str, Any]]
"""(event type, fields of its payload)."""

APPROVAL_FIELDS = ("interaction_id", "tool_call_id", "arguments", "digest", "expires_at")

# How a send is closed that a run left open; the end of that run is told by whoever finds it so.
INTERRUPTED = "interrupted"


class Written(NamedTuple):
    """A record with the row it became, and the call it answers."""

    record: Record
    row: RecordRow
    call: ToolCall | None = None
    asked: Mapping[str, Any] | None = None
    """What a decision answers."""


def told_of(written: Written, max_rounds: int, at_ms: int) -> Iterator[Telling | None]:
    """The events of one record. ``max_rounds`` is 0 where nobody knows it; ``at_ms`` is when the record was written.

    None keeps the place of an event that this record does not have, so that cursors outlive a later pruning.
    """
    record, row = written.record, written.row
    match record:
        case UserSaid():
            yield _message(row)
        case ModelReplied():
            yield from _reply(record, row, max_rounds, at_ms)
        case CallCharged(purpose, usage, error, model):
            yield _usage(usage, purpose, model, error)
        case ToolReturned():
            yield from _tool(record, row, written.call)
        case ToolParked(_, interaction) if interaction.get("kind") == "approval":
            yield "approval_requested", _approval(interaction)
        case Decided(interaction_id, call_id, approved, by):
            told = {**_approval(written.asked or {}), "interaction_id": interaction_id, "tool_call_id": call_id}
            yield "approval_decided", {**told, "approved": approved, "by": by}
        case ContextFolded():
            fields = {"before_tokens": record.before_tokens, "after_tokens": record.after_tokens}
            yield "status_changed", {"kind": "auto_compact", "phase": "completed", "round_index": row.round_index, **fields}
        case RoundSkipped():
            yield "status_changed", {"kind": "round_skipped"}
        case StopRequested(status="cancelled", reason=reason):
            yield "loop_cancelled", {"reason": reason, "round_index": row.round_index}
        case SendEnded(status, reason) if status != INTERRUPTED:
            yield "session_ended", {"reason": reason if status == "completed" and reason else "error" if status == "failed" else status}
        case SendRested(status):
            yield "session_ended", {"reason": {"failed": "error", "interrupted": "cancelled"}.get(status, status)}
        case _:
            return


def event_of(type: str, fields: dict[str, Any], **where: Any) -> AgentEvent:
    """One event of a built-in type; to be built only when somebody listens."""
    return AgentEvent(type, *payloads()(type, fields), **where)


def payloads() -> Callable[[str, Mapping[str, Any]], tuple[Mapping[str, Any] | None, BaseEventPayload | None]]:
    """What makes the payload of a type from its fields, as plain data or typed."""
    from power_loop.contracts.payloads import said  # chosen by the type; dozens of classes that a silent loop never needs

    return said


def _reply(record: ModelReplied, row: RecordRow, max_rounds: int, at_ms: int) -> Iterator[Telling | None]:
    # A degraded row, or a reply that a handler gave, is no call.
    yield _usage(record.usage, record.purpose, record.model) if record.usage.calls else None
    if record.purpose in ROUNDS:
        yield "status_changed", _round_usage(record.usage, row.round_index or 0, max_rounds, at_ms)
        yield "round_tools_present", {"has_tools": bool(record.calls)}
    yield _message(row)


def _tool(record: ToolReturned, row: RecordRow, call: ToolCall | None) -> Iterator[Telling]:
    told: dict[str, Any] = {"name": record.name or "", "output": record.output, "tool_call_id": record.call_id}
    told["tool_input"] = asked_for(call.arguments) if call is not None else None
    failed = record.outcome == "failed"
    if failed:
        yield "tool_call_failed", told
    yield "tool_call_completed", {**told, "failed": failed, "outcome": record.outcome, "duration_ms": record.duration_ms}
    yield _message(row)


def _approval(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": asked.get("tool_name", ""), **{name: asked[name] for name in APPROVAL_FIELDS if name in asked}}


def _message(row: RecordRow) -> Telling:
    cells = row.cells
    told: dict[str, Any] = {"seq": row.seq, "role": cells.role, "name": cells.name, "tool_call_id": cells.call_id}
    calls = json.loads(cells.tool_calls) if cells.tool_calls else None
    return "message_appended", {**told, "content": content_of(cells.content, cells.escaped), "tool_calls": calls}


def _usage(usage: CallUsage, purpose: str, model: str | None, error: str | None = None) -> Telling:
    return "usage_updated", {"usage": told_usage(usage), "purpose": purpose, "model": model, "error_type": error}


def _round_usage(usage: CallUsage, round_index: int, max_rounds: int, at_ms: int) -> dict[str, Any]:
    return {
        "kind": "round_usage",
        "time_iso": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_ms / 1000)),
        "round_index": round_index,
        "round_number": round_index + 1,
        "max_rounds": max_rounds,
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "cache_read_tokens": usage.cache_read,
        "reasoning_tokens": usage.reasoning,
    }


def asked_for(arguments: str) -> Any:
    """A call's arguments as listeners get them: parsed where they are JSON, else as the model wrote them."""
    try:
        return json.loads(arguments or "{}", strict=False)
    except (ValueError, RecursionError):
        return arguments


def told_usage(usage: CallUsage) -> Mapping[str, int]:
    """One call's numbers, under both spellings that users know."""
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "cache_read_tokens": usage.cache_read,
        "cache_write_tokens": usage.cache_write,
        "reasoning_tokens": usage.reasoning,
        "total_tokens": usage.total,
        "calls": usage.calls,
        "input_tokens": usage.prompt,
        "output_tokens": usage.completion,
    }
