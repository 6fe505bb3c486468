"""What listeners hear: the event, its types, and what a bus and its handlers are.

An event tells of a committed record or of something passing (a delta, an attempt). The typed payloads stand in
`payloads`, which is loaded when the first of them is made: a loop that nobody listens to needs none.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Protocol


class AgentEventType(StrEnum):
    """Every type that this package publishes; each equals its plain string."""

    SESSION_STARTED = "session_started"
    SESSION_ENDED = "session_ended"
    MESSAGE_APPENDED = "message_appended"
    ROUND_STARTED = "round_started"
    ROUND_COMPLETED = "round_completed"
    ROUND_TOOLS_PRESENT = "round_tools_present"
    LLM_CALL_STARTED = "llm_call_started"
    LLM_CALL_COMPLETED = "llm_call_completed"
    LLM_RETRY_ATTEMPTED = "llm_retry_attempted"
    LLM_DEGRADED = "llm_degraded"
    LLM_FALLBACK = "llm_fallback"
    LOOP_CANCELLED = "loop_cancelled"
    MEMORY_RECALLED = "memory_recalled"
    MEMORY_FAILED = "memory_failed"
    STREAM_STARTED = "stream_started"
    STREAM_DELTA = "stream_delta"
    STREAM_THINK_DELTA = "stream_think_delta"
    STREAM_OUTPUT = "stream_output"
    STREAM_COMPLETED = "stream_completed"
    TOOL_CALL_STARTED = "tool_call_started"
    TOOL_PROGRESS = "tool_progress"
    TOOL_CALL_FAILED = "tool_call_failed"
    TOOL_CALL_COMPLETED = "tool_call_completed"
    APPROVAL_REQUESTED = "approval_requested"
    APPROVAL_DECIDED = "approval_decided"
    STATUS_CHANGED = "status_changed"
    USAGE_UPDATED = "usage_updated"
    FOLLOW_UP_QUEUED = "follow_up_queued"
    TIMER_FIRED = "timer_fired"
    AGENT_ERROR = "agent_error"
    SYSTEM_LOG = "system_log"
    SUBAGENT_TASK_START = "subagent_task_start"
    SUBAGENT_TASK_TEXT = "subagent_task_text"
    SUBAGENT_TASK_LIMIT = "subagent_task_limit"
    SUBAGENT_TASK_COMPLETED = "subagent_task_completed"
    TODO_UPDATED = "todo_updated"
    USER_NOTIFICATION = "user_notification"
    RESULT = "result"


MEMBERS: Mapping[str, AgentEventType] = MappingProxyType({member.value: member for member in AgentEventType})
TEXT_DELTAS = frozenset({AgentEventType.STREAM_DELTA, AgentEventType.STREAM_THINK_DELTA})

# Number and monotonic time in one step of the interpreter: no other thread's event comes between the two, so
# both grow together without a lock. The only state of the core; it counts through the process.
_numbers = zip(itertools.count(1), iter(time.monotonic, None), strict=True)


@dataclass
class BaseEventPayload:
    """What an event says, typed: a dataclass whose public fields all have defaults."""

    def to_dict(self) -> dict[str, Any]:
        """The public fields by name, their values not copied."""
        return {name: value for name, value in self.__dict__.items() if name[0] != "_"}


class AgentEvent:
    """One thing that happened, as listeners hear it. Two events are equal when everything they say is.

    ``seq`` counts up through the process over all sessions, ``mono`` (seconds) never decreases, ``ts`` is wall time
    (seconds, UTC). All three are given once, at construction. Treat an event as read-only: others hear it too.
    """

    __slots__ = (
        "_data", "_payload", "cursor", "depth", "mono", "record_seq", "round_index", "send_index", "seq", "session_id",
        "shown", "source", "stream_id", "ts", "type",
    )  # fmt: skip

    def __init__(
        self,
        type: str,
        payload: Mapping[str, Any] | None = None,
        data: BaseEventPayload | None = None,
        session_id: str | None = None,
        round_index: int | None = None,
        stream_id: str | None = None,
        source: str | None = None,
        ts: float | None = None,
        seq: int | None = None,
        mono: float | None = None,
        send_index: int | None = None,
        depth: int = 0,
        record_seq: int | None = None,
        cursor: str | None = None,
    ) -> None:
        self.type: str = MEMBERS.get(type, type)
        self._payload, self._data = payload, data
        self.session_id: str | None = session_id
        self.round_index: int | None = round_index
        self.stream_id: str | None = stream_id
        self.source: str | None = source
        if seq is None:
            seq, now = next(_numbers)
            mono = now if mono is None else mono
        self.seq: int = seq
        self.mono: float = time.monotonic() if mono is None else mono
        self.ts: float = time.time() if ts is None else ts
        self.send_index: int | None = send_index
        self.depth: int = depth
        """0 for the session itself, 1 for its sub-agents, and so on."""
        self.record_seq: int | None = record_seq
        """Position of the committed record that this tells of; None for what passes."""
        self.cursor: str | None = cursor
        """``"seq.n"``: the n-th event of that record; of what passes ``"seq"``, the record it came behind. `watch` goes on after it."""
        self.shown: tuple[object, int, str] | None = None
        """The end of its line as the first sink wrote it, behind the rules by which it did: the others need not write it again."""

    @property
    def payload(self) -> Mapping[str, Any]:
        """What the event says, as plain data; made from ``data`` when it is first asked for, unless it was given."""
        if not self._payload:
            self._payload = {} if self._data is None else self._data.to_dict()
        return self._payload

    @property
    def data(self) -> BaseEventPayload | None:
        """The same, typed; made from ``payload`` likewise. None for types of the host's own, and for fields that are not known here."""
        if self._data is None and self._payload:
            from power_loop.contracts.payloads import restored  # chosen by the type; dozens of classes that a silent loop never needs

            self._data = restored(self.type, self._payload)
        return self._data

    @property
    def delta(self) -> str:
        """The text of a stream event (see ``is_think`` in its payload), else ""."""
        return str(self.payload.get("text", "")) if self.type in TEXT_DELTAS else ""

    @property
    def partial(self) -> Any:
        """The document of a ``stream_output`` event as far as it is written, as plain JSON, else None."""
        return self.payload.get("value") if self.type == AgentEventType.STREAM_OUTPUT else None

    @property
    def result(self) -> Any:
        """The `StatefulResult` of a ``result`` event, else None."""
        # A host may give the event a payload of its own, which need not have a result.
        return getattr(self.data, "result", None) if self.type == AgentEventType.RESULT else None

    def to_dict(self) -> dict[str, Any]:
        """Everything but ``data``, which the type and the payload give back."""
        return {
            "type": str(self.type),
            "payload": dict(self.payload),
            "session_id": self.session_id,
            "round_index": self.round_index,
            "stream_id": self.stream_id,
            "source": self.source,
            "ts": self.ts,
            "seq": self.seq,
            "mono": self.mono,
            "send_index": self.send_index,
            "depth": self.depth,
            "record_seq": self.record_seq,
            "cursor": self.cursor,
        }

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> AgentEvent:
        """The event that `to_dict` told of, with its own number and times. Keys that are not known here are left out."""
        known: dict[str, Any] = {name: value for name, value in told.items() if name in FIELDS}
        known["payload"] = dict(known.get("payload") or {})
        return cls(**known)

    def __eq__(self, other: object) -> bool:
        return self.to_dict() == other.to_dict() if isinstance(other, AgentEvent) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.seq, self.type))

    def __repr__(self) -> str:
        return f"AgentEvent({str(self.type)!r}, seq={self.seq}, session_id={self.session_id!r}, payload={dict(self.payload)!r})"


FIELDS = frozenset({*AgentEvent.__slots__, "payload"}) - {"_data", "_payload", "shown"}

EventHandler = Callable[[AgentEvent], object]
"""Hears events; sync or async. What it returns is ignored, unless it is awaitable."""

EventSubscriber = EventHandler
"""The same under its older name."""


class EventBusProtocol(Protocol):
    """What publishes, and what listeners subscribe to."""

    def subscribe(self, type: str | None, handler: EventHandler, *, priority: int = 0) -> None: ...

    def unsubscribe(self, handler: EventHandler) -> None: ...

    def publish(self, event: AgentEvent) -> None: ...

    async def publish_async(self, event: AgentEvent) -> None: ...
