"""Rows of a session into what a person reads: sends, their rounds, each round's model call and tools.

Pure: the same rows give the same timeline. What of its texts is shown is the business of `shown`; the whole record is one
click away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from power_loop.contracts.codec import from_cells
from power_loop.contracts.errors import RecordFromTheFuture
from power_loop.contracts.messages import Content, readable
from power_loop.contracts.records import (
    Answered,
    CallCharged,
    ContextFolded,
    Decided,
    FoldSkipped,
    ModelReplied,
    Record,
    SendEnded,
    SendRested,
    StepChanged,
    ToolParked,
    ToolReturned,
    ToolStarted,
    UserSaid,
)
from power_loop.contracts.store import RecordRow
from power_loop.contracts.usage import CallUsage
from power_loop.inspector.shown import Asked, Given, Passage
from power_loop.kernel.call_keys import idempotency_key

Json = dict[str, Any]


# What is still done for a send once it is over, and is no part of it.
AFTERWARDS = (CallCharged, ContextFolded, FoldSkipped)


def timeline(session_id: str, rows: Sequence[RecordRow]) -> list[Json]:
    """The sends of ``rows``, oldest first. ``cut``: where more of it stands that is not among them, ``before`` or ``after``."""
    sends: list[Json] = []
    calls: dict[str, Json] = {}
    at = 0
    for row in rows:
        if not sends or sends[-1]["send"] != row.send_index:
            sends.append({"send": row.send_index, "from_seq": row.seq, "at": row.created_at, "status": "running", "cut": [], "items": []})
            at, calls = row.created_at, {}
        _add(sends[-1], calls, session_id, row, row.created_at - at)
        at = row.created_at
    for send in sends:
        _sum_up(send)
    return sends


def _add(send: Json, known: dict[str, Json], session_id: str, row: RecordRow, took_ms: int) -> None:
    """``row`` into its send; ``known``: the latest call of each id in it."""
    send["through_seq"] = row.seq
    head = {"seq": row.seq, "kind": row.cells.kind, "round": row.round_index, "at": row.created_at, "epoch": row.epoch}
    try:
        record = from_cells(row.cells)
    except RecordFromTheFuture as error:
        send["items"].append({**head, "note": str(error)})
        return
    if send["status"] == "running" or not isinstance(record, AFTERWARDS):
        send.update(status="running", ended_at=row.created_at)
    match record:
        case ModelReplied():
            send["items"].append(head | _reply(session_id, row, record, took_ms))
            known.update((call["id"], call) for call in send["items"][-1]["calls"])
        case ToolReturned() | ToolStarted() | ToolParked() | Decided() | Answered():
            _to_its_call(send, known, head, record)
        case SendEnded() | SendRested():
            end = {"status": record.status, "reason": getattr(record, "reason", ""), "error": record.error}
            send.update(end)
            send["items"].append(head | end)
        case _:
            if isinstance(record, UserSaid) and row.seq == send["from_seq"]:
                send.update(key=Given(record.key), overrides=Given(record.overrides))
            send["items"].append(head | _plain(record, took_ms))


def _reply(session_id: str, row: RecordRow, record: ModelReplied, took_ms: int) -> Json:
    keys = [idempotency_key(session_id, row.send_index, row.round_index or 0, at, call) for at, call in enumerate(record.calls)]
    calls = [
        {"id": call.id, "name": call.name, "arguments": cut(call.arguments), "outcome": "open", "key": key}
        for call, key in zip(record.calls, keys, strict=True)
    ]
    return {
        "purpose": record.purpose, "text": cut(record.text), "think": cut(record.think), "calls": calls, "model": record.model,
        "finish_reason": record.finish_reason, "digest": record.request_digest, "took_ms": took_ms, "usage": usage(record.usage),
    }  # fmt: skip


def _to_its_call(
    send: Json, known: dict[str, Json], head: Json, record: ToolReturned | ToolStarted | ToolParked | Decided | Answered
) -> None:  # fmt: skip
    """A record about a call stands with the call, in the round that asked for it; where that is on another page, alone."""
    call = known.get(record.call_id)
    if call is None:
        call = known[record.call_id] = {"id": record.call_id, "outcome": "open"}
        send["items"].append({**head, "calls": [call]})
    match record:
        case ToolStarted(_, name, arguments):
            call["began_at"] = head["at"]  # written for tools of effects "once", and for calls that a hook rewrote
            if name is not None:
                call["rewritten"] = {"name": name, "arguments": cut(arguments or "{}")}
        case ToolParked(_, interaction):
            call.update(outcome="parked", asked=Asked(interaction), asked_at=head["at"])
        case Decided():
            decided = {"approved": record.approved, "by": record.by, "note": record.note, "at": record.decided_at or head["at"]}
            call.update(outcome="open", decided=decided)
        case Answered():
            call["outcome"] = "open"
        case ToolReturned():
            call.update(
                outcome=record.outcome, output=cut(record.output), result_seq=head["seq"], took_ms=record.duration_ms, ran=record.ran,
                returned_at=head["at"], data=Given(record.data),
            )  # fmt: skip


def _plain(record: Record, took_ms: int) -> Json:
    match record:
        case UserSaid():
            return {"text": cut(record.content), "name": record.name, "metadata": Given(record.metadata)}
        case CallCharged():
            charged = {"purpose": record.purpose, "error": record.error, "model": record.model}
            return charged | {"usage": usage(record.usage), "took_ms": took_ms}
        case ContextFolded():
            tokens = {"before_tokens": record.before_tokens, "after_tokens": record.after_tokens}
            return {"text": cut(record.summary), "through": record.through, "through_send": record.through_send, **tokens}
        case FoldSkipped():
            return {"reason": record.reason}
        case StepChanged():
            return _step(record.step, record.change)
        case _:
            return {"fields": Given(record._asdict())}


def _step(step: str, change: Mapping[str, Any]) -> Json:
    """A row of a workflow's journal; without a step it is about the run."""
    spent: Mapping[str, int] = change.get("usage") or {}
    counted = CallUsage(spent.get("prompt_tokens", 0), spent.get("completion_tokens", 0), spent.get("cache_read_tokens", 0))
    told = {name: change.get(name) for name in ("error", "session_id", "attempt")}
    told |= {"step": step, "state": change.get("state") or change.get("run"), "text": cut(change.get("text") or "")}
    return told | ({"usage": usage(counted)} if spent else {})


def _sum_up(send: Json) -> None:
    """The numbers of a send: its tokens, cost, calls and failures."""
    charged = [item["usage"] for item in send["items"] if "usage" in item]
    calls = [call for item in send["items"] for call in item.get("calls", ())]
    costs = [each["cost"] for each in charged if each["cost"] is not None]
    send["prompt_tokens"] = sum(each["prompt"] for each in charged)
    send["completion_tokens"] = sum(each["completion"] for each in charged)
    send["cache_read_tokens"] = sum(each["cache_read"] for each in charged)
    send["cost"] = sum(costs) if costs else None
    send["tool_calls"] = len(calls)
    send["failed_calls"] = sum(call["outcome"] in ("failed", "unknown", "denied") for call in calls)
    send["took_ms"] = send["ended_at"] - send["at"]


def text_of(row: RecordRow, part: str) -> str:
    """What a record says: its text, its ``think``, or the arguments of the call of that number. Raises `ValueError`.

    What has no text says nothing here: how a question goes is the business of `shown`, which may hold some of it back.
    """
    try:
        record = from_cells(row.cells)
    except RecordFromTheFuture:
        return row.cells.content or row.cells.body or ""
    if part and not isinstance(record, ModelReplied):
        raise ValueError(f"part={part!r} is of a reply, and record {row.seq} is none")
    match record:
        case ModelReplied() if part == "think":
            return record.think
        case ModelReplied() if part.isdigit() and int(part) < len(record.calls):
            return record.calls[int(part)].arguments
        case ModelReplied() if not part:
            return record.text
        case UserSaid():
            return readable(record.content)
        case ToolReturned():
            return readable(record.output)
        case ContextFolded():
            return record.summary
        case _:
            return row.cells.content or ""


def usage(numbers: CallUsage) -> Json:
    return numbers._asdict()


def cut(content: Content) -> Passage:
    """A text as far as it is shown at once. Blocks are shown as what they hold."""
    return Passage(readable(content))
