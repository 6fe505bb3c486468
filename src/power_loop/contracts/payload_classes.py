"""The typed payloads of events, one class per type or per kind of ``status_changed``.

Every field has a default, so that what an older version stored can be read; `to_dict` gives exactly the public
fields. Which type has which class stands in `payloads`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from power_loop.contracts.events import BaseEventPayload
from power_loop.contracts.messages import Content
from power_loop.contracts.outcome import StatefulResult
from power_loop.contracts.usage import Usage

MAIN_STREAM = "main"


# --- runs, rounds, messages ----------------------------------------------------------------


@dataclass
class SessionStartedPayload(BaseEventPayload):
    scope: str = "main"
    """``main``, ``subagent`` or ``workflow``."""
    agent: str = ""
    resumed: bool = False
    """The send began in an earlier run."""
    parent_session_id: str | None = None
    parent_call_id: str | None = None


@dataclass
class SessionEndedPayload(BaseEventPayload):
    reason: str = ""
    """The status, ``error``, ``interrupted``, or what a hook gave as its reason."""


@dataclass
class MessageAppendedPayload(BaseEventPayload):
    seq: int = 0
    role: str = ""
    name: str | None = None
    content: Content | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


@dataclass
class RoundStartedPayload(BaseEventPayload):
    round_index: int = 0


@dataclass
class RoundCompletedPayload(BaseEventPayload):
    round_index: int = 0
    has_tools: bool = False
    used_todo: bool = False
    skipped: bool = False
    """A hook used the round up without a model call."""


@dataclass
class RoundToolsPresentPayload(BaseEventPayload):
    has_tools: bool = False


@dataclass
class LoopCancelledPayload(BaseEventPayload):
    reason: str = ""
    round_index: int | None = None


@dataclass
class FollowUpQueuedPayload(BaseEventPayload):
    item_id: str = ""
    mode: str = "queue"
    """``queue`` or ``steer``."""
    queue_depth: int = 0


@dataclass
class TimerFiredPayload(BaseEventPayload):
    timer_id: str = ""
    note: str = ""
    due_at: int = 0
    """Milliseconds, UTC."""
    outcome: str = "delivered"
    """``delivered``, ``queued``, ``skipped``, ``cancelled``, ``postponed`` or ``error``."""


@dataclass
class AgentErrorPayload(BaseEventPayload):
    error: str = ""
    error_type: str = ""
    details: Any = None
    code: str | None = None
    """Of the `PowerLoopError`; None for other exceptions."""


@dataclass
class SystemLogPayload(BaseEventPayload):
    message: str = ""
    level: str = "info"


# --- models ----------------------------------------------------------------------------------


@dataclass
class LlmCallStartedPayload(BaseEventPayload):
    call_id: str = ""
    """``r{round}.a{attempt}``: one per attempt."""
    round_index: int = 0
    attempt: int = 1
    model: str | None = None
    provider: str | None = None


@dataclass
class LlmCallCompletedPayload(LlmCallStartedPayload):
    duration_ms: float = 0
    success: bool = True
    error_type: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    finish_reason: str | None = None
    estimated: bool = False
    """The provider reported no usage, so the tokens are our estimate."""
    response_model: str | None = None
    response_id: str | None = None


@dataclass
class LlmRetryAttemptedPayload(BaseEventPayload):
    attempt: int = 0
    max_attempts: int = 0
    error_type: str = ""
    error_message: str = ""
    """Its first 500 characters."""
    next_sleep_seconds: float = 0.0


@dataclass
class LlmDegradedPayload(BaseEventPayload):
    reason: str = ""
    """``retry_exhausted``, ``timeout``, ``permanent`` or ``context_overflow``."""
    attempts: int = 0
    error_type: str = ""
    error_message: str = ""


@dataclass
class LlmFallbackPayload(BaseEventPayload):
    from_model: str | None = None
    to_model: str | None = None
    error_type: str = ""


@dataclass
class StreamStartedPayload(BaseEventPayload):
    stream_id: str = MAIN_STREAM
    call_id: str = ""


@dataclass
class StreamOutputPayload(BaseEventPayload):
    stream_id: str = MAIN_STREAM
    value: Any = None
    """The document as far as it is written: plain JSON, not yet held against the schema."""


@dataclass
class StreamCompletedPayload(StreamStartedPayload):
    aborted: bool = False
    """The attempt failed or was cut off: discard what it showed."""


@dataclass
class StreamDeltaPayload(BaseEventPayload):
    stream_id: str = MAIN_STREAM
    text: str = ""
    is_think: bool = False


@dataclass
class UsageUpdatedPayload(BaseEventPayload):
    usage: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """This call's tokens, under the keys of `StatefulResult.usage` and as ``input_tokens``, ``output_tokens``."""
    purpose: str = "round"
    """``round``, ``fold``, ``limit_summary`` or ``output_retry``; ``leaf`` for a workflow's leaf in another process."""
    model: str | None = None
    error_type: str | None = None


# --- tools -----------------------------------------------------------------------------------


@dataclass
class ToolCallStartedPayload(BaseEventPayload):
    name: str = ""
    tool_input: Any = None
    tool_call_id: str = ""


@dataclass
class ToolProgressPayload(BaseEventPayload):
    tool_call_id: str = ""
    text: str = ""
    fraction: float | None = None
    """From 0 to 1."""


@dataclass
class ToolCallFailedPayload(BaseEventPayload):
    name: str = ""
    output: Content = ""
    tool_input: Any = None
    tool_call_id: str = ""


@dataclass
class ToolCallCompletedPayload(ToolCallFailedPayload):
    failed: bool = False
    outcome: str = "ok"
    """``ok``, ``failed``, ``skipped``, ``aborted``, ``unknown`` or ``denied``."""
    duration_ms: float = 0


@dataclass
class ApprovalRequestedPayload(BaseEventPayload):
    interaction_id: str = ""
    tool_call_id: str = ""
    name: str = ""
    arguments: Any = None
    digest: str = ""
    expires_at: int | None = None
    """Milliseconds, UTC."""


@dataclass
class ApprovalDecidedPayload(ApprovalRequestedPayload):
    approved: bool = False
    by: str | None = None


@dataclass
class TodoUpdatedPayload(BaseEventPayload):
    kind: str = "todo_snapshot"
    items: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    rendered: str = ""
    text: str = ""


@dataclass
class UserNotificationPayload(BaseEventPayload):
    message: str = ""


# --- memory, sub-agents ------------------------------------------------------------------------


@dataclass
class MemoryRecalledPayload(BaseEventPayload):
    returned: int = 0
    injected: int = 0
    budget_tokens: int = 0


@dataclass
class MemoryFailedPayload(BaseEventPayload):
    phase: str = ""
    """``recall`` or ``remember``."""
    error_type: str = ""
    error_message: str = ""


@dataclass
class SubagentTaskStartPayload(BaseEventPayload):
    task: str = ""
    preset: str = ""
    sub_session_id: str = ""
    depth: int = 0
    tool_call_id: str | None = None


@dataclass
class SubagentTaskTextPayload(BaseEventPayload):
    sub_session_id: str = ""
    status: str = ""
    rounds: int = 0
    final_text: str = ""


@dataclass
class SubagentTaskLimitPayload(BaseEventPayload):
    sub_session_id: str = ""
    max_rounds: int = 0


@dataclass
class SubagentTaskCompletedPayload(SubagentTaskTextPayload):
    pass


# --- status_changed, by kind ---------------------------------------------------------------------


@dataclass
class StatusChangedPayload(BaseEventPayload):
    kind: str = ""


@dataclass
class AutoCompactStatusPayload(StatusChangedPayload):
    kind: str = "auto_compact"
    phase: str = ""
    """``started`` or ``completed``."""
    round_index: int | None = None
    trigger: str = ""
    before_tokens: int = 0
    after_tokens: int = 0


@dataclass
class RoundUsageStatusPayload(StatusChangedPayload):
    kind: str = "round_usage"
    time_iso: str = ""
    round_index: int = 0
    round_number: int = 0
    """From 1."""
    max_rounds: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cache_read_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass
class HitRoundLimitStatusPayload(StatusChangedPayload):
    kind: str = "hit_round_limit"
    max_rounds: int = 0


@dataclass
class BudgetExceededStatusPayload(StatusChangedPayload):
    kind: str = "budget_exceeded"
    budget_tokens: float | None = None
    """The value of the limit that was reached."""
    spent_tokens: int = 0
    rounds: int = 0
    limit: str = ""
    """The name of that limit in `UsageLimits`."""


@dataclass
class CompactionFailedStatusPayload(StatusChangedPayload):
    kind: str = "compaction_failed"
    reason: str = ""


@dataclass
class ResultPayload(BaseEventPayload):
    """The fields of `StatefulResult`; ``result`` (no field) is the object itself."""

    session_id: str = ""
    status: str = ""
    final_text: str = ""
    rounds: int = 0
    pending_tool_calls: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    pending_interactions: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    usage: Mapping[str, int] = field(default_factory=dict[str, int])
    tool_calls: int = 0
    output: Any = None
    finish_reason: str | None = None
    error: dict[str, Any] | None = None
    send_index: int = 0
    send_id: str = ""
    usage_own: Mapping[str, int] = field(default_factory=dict[str, int])
    partial_text: str = ""

    @classmethod
    def of(cls, result: StatefulResult) -> ResultPayload:
        payload = cls(**result.to_dict())
        payload.__dict__["_result"] = result  # beside the fields: it is told once, as data
        return payload

    @property
    def result(self) -> StatefulResult:
        """The object that `send` returns; read back from a store, one that says the same."""
        given: StatefulResult | None = self.__dict__.get("_result")
        if given is not None:
            return given
        told = self.to_dict()
        told["usage"], told["usage_own"] = Usage(self.usage), Usage(self.usage_own)
        return StatefulResult(**told)
