"""What the caller of a send gets back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, cast

from power_loop.contracts.errors import (
    CancellationRequested,
    LLMError,
    LLMPermanentError,
    LLMRetryExhausted,
    LLMTimeout,
    PowerLoopError,
    StructuredOutputError,
)
from power_loop.contracts.usage import Usage


class RunStatus(StrEnum):
    """How a send ended, or why it rests."""

    COMPLETED = "completed"
    PENDING_TOOLS = "pending_tools"
    WAITING_FOR_INPUT = "waiting_for_input"
    CANCELLED = "cancelled"
    HIT_ROUND_LIMIT = "hit_round_limit"
    BUDGET_EXCEEDED = "budget_exceeded"
    DEGRADED = "degraded"
    INVALID_OUTPUT = "invalid_output"
    FAILED = "failed"


@dataclass
class StatefulResult:
    """The outcome of one send, or of the run that left it resting."""

    session_id: str
    status: str
    final_text: str = ""
    rounds: int = 0
    pending_tool_calls: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    pending_interactions: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    usage: Usage = field(default_factory=Usage)
    """Tokens of every model call up to here: rounds, summaries, folds, re-asks, sub-agents."""
    tool_calls: int = 0
    """How often a handler was called."""
    output: Any = None
    finish_reason: str | None = None
    error: dict[str, Any] | None = None
    """``{"code", "type", "message"}`` for ``degraded``, ``failed``, ``invalid_output``, ``cancelled``."""
    send_index: int = 0
    send_id: str = ""
    usage_own: Usage = field(default_factory=Usage)
    """Of this session alone."""
    partial_text: str = ""
    """What was streamed before a cut; it is not in the transcript."""

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def raise_for_status(self) -> None:
        """Raise what ``error`` describes, unless the send completed."""
        if self.status != RunStatus.COMPLETED:
            raise error_of(self.error or {"message": f"the send ended {self.status}"})


@dataclass
class AgentLoopResult:
    """A `StatefulResult` without its session, with the messages instead."""

    status: str
    final_text: str = ""
    rounds: int = 0
    messages: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    pending_tool_calls: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    pending_interactions: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    usage: Usage = field(default_factory=Usage)
    tool_calls: int = 0
    output: Any = None
    finish_reason: str | None = None
    error: dict[str, Any] | None = None
    send_index: int = 0
    send_id: str = ""
    usage_own: Usage = field(default_factory=Usage)
    partial_text: str = ""


@dataclass(frozen=True)
class FollowUpQueued:
    """The text is in the session's inbox and will be heard by whoever drives it."""

    session_id: str
    queue_depth: int
    item_id: str = ""
    duplicate: bool = False


def described(error: BaseException) -> dict[str, Any]:
    """``error`` as data: its code, class name and text."""
    code = error.code if isinstance(error, PowerLoopError) else "error"
    return {"code": code, "type": type(error).__name__, "message": str(error)}


def error_of(described: Mapping[str, Any]) -> PowerLoopError:
    """An error of the class that the description names, as near as it can be made from its text."""
    message = cast("str", described.get("message", ""))
    kinds: dict[str, type[PowerLoopError]] = {
        "cancelled": CancellationRequested,
        StructuredOutputError.code: StructuredOutputError,
        "llm.error": LLMError,
        "llm.permanent": LLMPermanentError,
        "llm.timeout": LLMTimeout,
        "llm.retry_exhausted": LLMRetryExhausted,
    }
    return kinds.get(str(described.get("code")), PowerLoopError)(message)
