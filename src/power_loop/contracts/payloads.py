"""Which event type has which typed payload, and how one is made.

Loaded late, when the first payload is made: a loop that nobody listens to needs none of these classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING
from dataclasses import fields as fields_of
from typing import Any

from power_loop.contracts.events import AgentEventType as Type
from power_loop.contracts.events import BaseEventPayload
from power_loop.contracts.outcome import StatefulResult
from power_loop.contracts.payload_classes import (
    AgentErrorPayload,
    ApprovalDecidedPayload,
    ApprovalRequestedPayload,
    AutoCompactStatusPayload,
    BudgetExceededStatusPayload,
    CompactionFailedStatusPayload,
    FollowUpQueuedPayload,
    HitRoundLimitStatusPayload,
    LlmCallCompletedPayload,
    LlmCallStartedPayload,
    LlmDegradedPayload,
    LlmFallbackPayload,
    LlmRetryAttemptedPayload,
    LoopCancelledPayload,
    MemoryFailedPayload,
    MemoryRecalledPayload,
    MessageAppendedPayload,
    ResultPayload,
    RoundCompletedPayload,
    RoundStartedPayload,
    RoundToolsPresentPayload,
    RoundUsageStatusPayload,
    SessionEndedPayload,
    SessionStartedPayload,
    StatusChangedPayload,
    StreamCompletedPayload,
    StreamDeltaPayload,
    StreamOutputPayload,
    StreamStartedPayload,
    SubagentTaskCompletedPayload,
    SubagentTaskLimitPayload,
    SubagentTaskStartPayload,
    SubagentTaskTextPayload,
    SystemLogPayload,
    TimerFiredPayload,
    TodoUpdatedPayload,
    ToolCallCompletedPayload,
    ToolCallFailedPayload,
    ToolCallStartedPayload,
    ToolProgressPayload,
    UsageUpdatedPayload,
    UserNotificationPayload,
)

PAYLOADS: dict[str, type[BaseEventPayload]] = {
    Type.SESSION_STARTED: SessionStartedPayload,
    Type.SESSION_ENDED: SessionEndedPayload,
    Type.MESSAGE_APPENDED: MessageAppendedPayload,
    Type.ROUND_STARTED: RoundStartedPayload,
    Type.ROUND_COMPLETED: RoundCompletedPayload,
    Type.ROUND_TOOLS_PRESENT: RoundToolsPresentPayload,
    Type.LLM_CALL_STARTED: LlmCallStartedPayload,
    Type.LLM_CALL_COMPLETED: LlmCallCompletedPayload,
    Type.LLM_RETRY_ATTEMPTED: LlmRetryAttemptedPayload,
    Type.LLM_DEGRADED: LlmDegradedPayload,
    Type.LLM_FALLBACK: LlmFallbackPayload,
    Type.LOOP_CANCELLED: LoopCancelledPayload,
    Type.MEMORY_RECALLED: MemoryRecalledPayload,
    Type.MEMORY_FAILED: MemoryFailedPayload,
    Type.STREAM_STARTED: StreamStartedPayload,
    Type.STREAM_DELTA: StreamDeltaPayload,
    Type.STREAM_THINK_DELTA: StreamDeltaPayload,
    Type.STREAM_OUTPUT: StreamOutputPayload,
    Type.STREAM_COMPLETED: StreamCompletedPayload,
    Type.TOOL_CALL_STARTED: ToolCallStartedPayload,
    Type.TOOL_PROGRESS: ToolProgressPayload,
    Type.TOOL_CALL_FAILED: ToolCallFailedPayload,
    Type.TOOL_CALL_COMPLETED: ToolCallCompletedPayload,
    Type.APPROVAL_REQUESTED: ApprovalRequestedPayload,
    Type.APPROVAL_DECIDED: ApprovalDecidedPayload,
    Type.STATUS_CHANGED: StatusChangedPayload,
    Type.USAGE_UPDATED: UsageUpdatedPayload,
    Type.FOLLOW_UP_QUEUED: FollowUpQueuedPayload,
    Type.TIMER_FIRED: TimerFiredPayload,
    Type.AGENT_ERROR: AgentErrorPayload,
    Type.SYSTEM_LOG: SystemLogPayload,
    Type.SUBAGENT_TASK_START: SubagentTaskStartPayload,
    Type.SUBAGENT_TASK_TEXT: SubagentTaskTextPayload,
    Type.SUBAGENT_TASK_LIMIT: SubagentTaskLimitPayload,
    Type.SUBAGENT_TASK_COMPLETED: SubagentTaskCompletedPayload,
    Type.TODO_UPDATED: TodoUpdatedPayload,
    Type.USER_NOTIFICATION: UserNotificationPayload,
    Type.RESULT: ResultPayload,
}
STATUS_PAYLOADS: dict[str, type[StatusChangedPayload]] = {
    "auto_compact": AutoCompactStatusPayload,
    "round_usage": RoundUsageStatusPayload,
    "hit_round_limit": HitRoundLimitStatusPayload,
    "budget_exceeded": BudgetExceededStatusPayload,
    "compaction_failed": CompactionFailedStatusPayload,
    "round_skipped": StatusChangedPayload,
}


# By type, or by kind of ``status_changed``: what a payload says where nothing else is said, and the fields that must be said:
# a default that can be changed belongs to one event.
_DEFAULTS: Mapping[str, tuple[Mapping[str, Any], frozenset[str]]] = {
    name: (chosen().to_dict(), frozenset(each.name for each in fields_of(chosen) if each.default_factory is not MISSING))
    for name, chosen in (PAYLOADS | STATUS_PAYLOADS).items()
}


def payload_class(type: str, kind: object = None) -> type[BaseEventPayload] | None:
    """The class of ``type`` (and of ``kind``, for ``status_changed``); None for types of the host's own."""
    if type == Type.STATUS_CHANGED:
        return STATUS_PAYLOADS.get(str(kind), StatusChangedPayload)
    return PAYLOADS.get(type)


def payload_for(type: str, /, **fields: Any) -> BaseEventPayload:
    """The payload of ``type`` that says ``fields``. For ``result`` the one field is the `StatefulResult` itself.

    Raises `TypeError` for a field that the type does not have, `ValueError` for a type that is not built in.
    """
    return payload_of(type, fields)


def payload_of(type: str, fields: Mapping[str, Any]) -> BaseEventPayload:
    """`payload_for`, of fields that are a mapping already."""
    chosen = PAYLOADS.get(type)
    if chosen is StatusChangedPayload:
        chosen = STATUS_PAYLOADS.get(fields.get("kind", ""), chosen)
    elif chosen is ResultPayload and isinstance(given := fields.get("result"), StatefulResult):
        return ResultPayload.of(given)
    elif chosen is None:
        raise ValueError(f"{type!r} is no built-in event type; give the event a payload of your own")
    return chosen(**fields)


def said(type: str, fields: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, BaseEventPayload | None]:
    """What an event of ``type`` says with ``fields``, as plain data, or typed: the other form is made when it is asked for."""
    known = _DEFAULTS.get(fields.get("kind", "") if type == "status_changed" else type)
    if known is not None:
        defaults, must = known
        told = {**defaults, **fields}
        if len(told) == len(defaults) and (not must or must <= fields.keys()):
            return told, None
    return None, payload_of(type, fields)


def restored(type: str, payload: Mapping[str, Any]) -> BaseEventPayload | None:
    """The typed form of a stored payload; None where it has fields that the type does not have."""
    chosen = payload_class(type, payload.get("kind"))
    if chosen is None or not payload.keys() <= chosen.__dataclass_fields__.keys():
        return None
    return chosen(**payload)
