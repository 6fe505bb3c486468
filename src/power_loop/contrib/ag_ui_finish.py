"""How an AG-UI run ends: a success, what it waits for, a cancel, or an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from power_loop.contracts.approvals import is_for_an_approval
from power_loop.contracts.options import answer_of

Json = dict[str, Any]

FAILED = ("degraded", "failed", "invalid_output")
# The reasons that the protocol's documentation gives as examples; the string is open.
REASONS = {"approval": "tool_call", "confirm": "confirmation"}
APPROVAL_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"approved": {"type": "boolean"}, "note": {"type": "string"}},
    "required": ["approved"],
}


def finished(thread_id: str, run_id: str, result: Mapping[str, Any]) -> Json:
    """RUN_FINISHED, or RUN_ERROR, for the fields of a `StatefulResult`."""
    status = str(result["status"])
    usage = _usage(cast("Mapping[str, int]", result.get("usage") or {}))
    if status in FAILED:
        error: Mapping[str, Any] = result.get("error") or {}
        told = run_error(str(error.get("message") or f"the run ended as {status}"), str(error.get("code") or status))
        return {**told, **usage}
    says = {"status": status, "sendId": result.get("send_id"), "finalText": result.get("final_text"), "output": result.get("output")}
    outcome = _outcome(status, result)
    told = {"type": "RUN_FINISHED", "threadId": thread_id, "runId": run_id, "outcome": outcome, **usage}
    return told if outcome["type"] == "cancelled" else {**told, "result": says}


def run_error(message: str, code: str | None) -> Json:
    return {"type": "RUN_ERROR", "message": message, **({"code": code} if code else {})}


def _outcome(status: str, result: Mapping[str, Any]) -> Json:
    if status == "cancelled":
        return {"type": "cancelled"}
    asked = cast("Sequence[Mapping[str, Any]]", result.get("pending_interactions") or ())
    if status == "waiting_for_input" and asked:
        return {"type": "interrupt", "interrupts": [interrupt(each) for each in asked]}
    calls = cast("Sequence[Mapping[str, Any]]", result.get("pending_tool_calls") or ())
    if status == "pending_tools" and calls:
        return {"type": "success", "pendingToolCallIds": [str(call["id"]) for call in calls]}
    return {"type": "success"}


def interrupt(asked: Mapping[str, Any]) -> Json:
    """What a parked call waits for. A resume entry answers it by its id; see `ag_ui_input`."""
    kind = "approval" if is_for_an_approval(asked) else str(asked.get("kind") or "text")
    told: Json = {
        "id": asked["interaction_id"],
        "reason": REASONS.get(kind, "input_required"),
        "toolCallId": asked.get("tool_call_id"),
        "message": asked.get("prompt") or f"May {asked.get('name') or asked.get('tool_name')} run?",
        "responseSchema": _schema(kind, asked),
    }
    if expires_at := asked.get("expires_at"):
        told["expiresAt"] = datetime.fromtimestamp(expires_at / 1000, UTC).isoformat().replace("+00:00", "Z")
    told["metadata"] = {"kind": kind} | {
        name: asked[name] for name in ("name", "tool_name", "arguments", "options", "metadata") if asked.get(name)
    }
    return {name: value for name, value in told.items() if value is not None}


def _schema(kind: str, asked: Mapping[str, Any]) -> Json | None:
    if kind == "approval":
        return dict(APPROVAL_SCHEMA)
    if kind == "confirm":
        return {"type": "boolean"}
    if kind == "choice" and asked.get("options"):
        return {"enum": [answer_of(option) for option in asked["options"]]}
    return {"type": "string"} if kind == "text" else None


def _usage(usage: Mapping[str, int]) -> Json:
    if not usage:
        return {}
    names = {
        "prompt_tokens": "inputTokens", "completion_tokens": "outputTokens", "total_tokens": "totalTokens",
        "reasoning_tokens": "reasoningTokens", "cache_read_tokens": "cachedInputTokens",
    }  # fmt: skip
    return {"usage": [{name: usage[key] for key, name in names.items() if key in usage}]}
