"""Durable first, then told: what listeners hear of a send, in order.

While records are noted and not yet written, passing events wait behind them. Nothing is built that nobody
listens to: the bus is asked before a payload is made.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from power_loop.contracts.codec import content_of
from power_loop.contracts.events import AgentEvent
from power_loop.contracts.messages import ToolCall
from power_loop.contracts.records import (
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

if TYPE_CHECKING:
    from power_loop.runtime.bus import AgentEventBus

Telling = tuple[str, dict[str, Any]]
"""(event type, fields of its payload)."""

Passing = tuple[str, dict[str, Any], int | None]
"""The same, and the round that it happened in."""


APPROVAL_FIELDS = ("interaction_id", "tool_call_id", "name", "arguments", "digest", "expires_at")


class Written(NamedTuple):
    """A record with the row it became, and the call it answers."""

    record: Record
    row: RecordRow
    call: ToolCall | None = None


class Teller:
    """Speaks to the bus for one send."""

    __slots__ = (
        "_began", "_bus", "_holds", "_over", "_queue", "_raised", "depth", "max_rounds", "now_ms", "round_index", "send_index",
        "session_id", "takes_over",
    )  # fmt: skip

    def __init__(self, bus: AgentEventBus, session_id: str, depth: int, max_rounds: int, now_ms: Any) -> None:
        self._bus = bus
        self._queue: list[Written | Passing] = []
        self._holds = False
        """What passes waits behind the queue: it would tell of what is not written yet, or out of order."""
        self._began = self._over = False
        self._raised: Exception | None = None
        """What a listener raised that may disturb a run; it waits until the run can bear it."""
        self.takes_over = False
        """The run before this one was cut off and could not tell its own end."""
        self.session_id = session_id
        self.depth = depth
        self.max_rounds = max_rounds
        self.now_ms = now_ms
        self.send_index = 0
        self.round_index: int | None = None

    @property
    def silent(self) -> bool:
        """Nobody listens to anything."""
        return self._bus.silent

    def wants(self, type: str) -> bool:
        return not self._bus.silent and self._bus.wants(type)

    def wrote(self, written: Written) -> None:
        """A record was noted; it is told once it is written."""
        self._queue.append(written)
        # The deltas of the next attempt do not wait for the charge of the one that failed.
        self._holds = self._holds or not isinstance(written.record, CallCharged)

    def forget(self, record: Record) -> None:
        """A noted record was dropped before it was written."""
        self._queue = [told for told in self._queue if not (isinstance(told, Written) and told.record is record)]

    def begin(self, scope: str) -> None:
        """The first event of every run. What ended the send before it is told first, what opens this one behind it."""
        self._open(scope)
        self.flush()

    def _open(self, scope: str) -> None:
        self._began = True
        if self._bus.silent:
            self._queue = []
            return
        self._tell_earlier()
        if self.wants("session_started"):
            self._publish("session_started", {"scope": scope}, self.round_index)

    def _tell_earlier(self) -> None:
        """The end of the run before this one, unless it was told then."""
        earlier = [told for told in self._queue if isinstance(told, Written) and told.row.send_index != self.send_index]
        self._queue = [told for told in self._queue if told not in earlier]
        if not self.takes_over:
            earlier = [told for told in earlier if not isinstance(told.record, SendEnded)]
        elif not any(isinstance(told.record, SendEnded) for told in earlier) and self.wants("session_ended"):
            self._publish("session_ended", {"reason": "interrupted"}, self.round_index)
        self._tell(earlier)
        self._over = False

    def break_off(self, scope: str) -> None:
        """The run fails before it could begin: it is begun all the same, so that its end has a beginning.

        What was noted is told once it is known to be written.
        """
        if not self._began:
            self._open(scope)

    def ended(self, reason: str) -> None:
        """The run is over; said here where no record could say so."""
        if not self._over:
            passing = [told for told in self._queue if not isinstance(told, Written)]
            self._began, self._holds, self._queue = True, False, []
            self._tell(passing)
            self.say("session_ended", reason=reason)

    def say(self, type: str, **fields: Any) -> None:
        """A passing event: now, or behind the records that are not yet written."""
        if not self.wants(type):
            return
        of_a_call = type.startswith(("llm_", "stream_"))
        if self._holds or not self._began or (self._queue and not of_a_call):
            self._queue.append((type, fields, self.round_index))
        else:
            self._publish(type, fields, self.round_index)

    def flush(self) -> None:
        """All that was noted is written: tell it."""
        if not self._began:
            return
        queue, self._queue, self._holds = self._queue, [], False
        self._tell(queue)

    def _tell(self, queue: Sequence[Written | Passing]) -> None:
        for told in queue:
            if not isinstance(told, Written):
                self._publish(*told)
                continue
            for n, (type, fields) in enumerate(self._of(told)):
                if self._bus.wants(type):
                    self._publish(type, fields, told.row.round_index, told.row, n)

    def result(self, result: Any) -> None:
        """The last event of a run."""
        if self.wants("result"):
            self._publish("result", {"result": result}, self.round_index)

    def answer_for_listeners(self) -> None:
        """Raise what a listener raised, on a bus that does not suppress it: all is written now, and everyone was told."""
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised

    def _publish(self, type: str, fields: dict[str, Any], round_index: int | None, row: RecordRow | None = None, n: int = 0) -> None:
        self._over = self._over or type == "session_ended"
        try:
            publish(
                self._bus, type, fields, session_id=self.session_id, round_index=round_index, stream_id=fields.get("stream_id"),
                send_index=self.send_index if row is None else row.send_index, depth=self.depth,
                record_seq=None if row is None else row.seq, cursor=None if row is None else f"{row.seq}.{n}",
            )  # fmt: skip
        except Exception as error:  # a listener's; the bus raises it only where it was told to
            self._raised = self._raised or error

    # --- what a record says ---------------------------------------------------------------

    def _of(self, written: Written) -> Iterator[Telling]:
        record, row = written.record, written.row
        match record:
            case UserSaid():
                yield self._message(row)
            case ModelReplied():
                yield from self._reply(record, row)
            case CallCharged(purpose, usage):
                yield self._usage(usage, purpose)
            case ToolReturned():
                yield from self._tool(record, row, written.call)
            case ToolParked(_, interaction) if interaction.get("kind") == "approval":
                yield "approval_requested", {name: interaction[name] for name in APPROVAL_FIELDS if name in interaction}
            case Decided(interaction_id, call_id, approved, by):
                yield "approval_decided", {"interaction_id": interaction_id, "tool_call_id": call_id, "approved": approved, "by": by}
            case ContextFolded():
                fields = {"before_tokens": record.before_tokens, "after_tokens": record.after_tokens}
                yield "status_changed", {"kind": "auto_compact", "phase": "completed", "round_index": row.round_index, **fields}
            case RoundSkipped():
                yield "status_changed", {"kind": "round_skipped"}
            case StopRequested(status="cancelled", reason=reason):
                yield "loop_cancelled", {"reason": reason, "round_index": row.round_index}
            case SendEnded(status, reason):
                yield "session_ended", {"reason": reason if status == "completed" and reason else "error" if status == "failed" else status}
            case SendRested(status):
                yield "session_ended", {"reason": {"failed": "error", "interrupted": "cancelled"}.get(status, status)}
            case _:
                return

    def _reply(self, record: ModelReplied, row: RecordRow) -> Iterator[Telling]:
        if record.usage.calls:  # a degraded row, or a reply that a handler gave, is no call
            yield self._usage(record.usage, record.purpose)
        if record.purpose == "round":
            yield "status_changed", self._round_usage(record.usage, row.round_index or 0)
            yield "round_tools_present", {"has_tools": bool(record.calls)}
        yield self._message(row)

    def _tool(self, record: ToolReturned, row: RecordRow, call: ToolCall | None) -> Iterator[Telling]:
        told: dict[str, Any] = {"name": record.name or "", "output": record.output, "tool_call_id": record.call_id}
        told["tool_input"] = asked_for(call.arguments) if call is not None else None
        if record.outcome == "failed":
            yield "tool_call_failed", told
        yield (
            "tool_call_completed",
            {**told, "failed": record.outcome == "failed", "outcome": record.outcome, "duration_ms": record.duration_ms},
        )
        yield self._message(row)

    def _message(self, row: RecordRow) -> Telling:
        cells = row.cells
        told: dict[str, Any] = {"seq": row.seq, "role": cells.role, "name": cells.name, "tool_call_id": cells.call_id}
        calls = json.loads(cells.tool_calls) if cells.tool_calls else None
        return "message_appended", {**told, "content": content_of(cells.content, cells.escaped), "tool_calls": calls}

    def _usage(self, usage: CallUsage, purpose: str) -> Telling:
        return "usage_updated", {"usage": told_usage(usage), "purpose": purpose}

    def _round_usage(self, usage: CallUsage, round_index: int) -> dict[str, Any]:
        return {
            "kind": "round_usage",
            "time_iso": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.now_ms() / 1000)),
            "round_index": round_index,
            "round_number": round_index + 1,
            "max_rounds": self.max_rounds,
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


def publish(bus: AgentEventBus, type: str, fields: dict[str, Any], **where: Any) -> None:
    """Build one event and hand it to the bus; call it only when somebody listens."""
    from power_loop.contracts.payloads import payload_for  # chosen by the type; dozens of classes that a silent loop never needs

    bus.publish(AgentEvent(type, data=payload_for(type, **fields), **where))


def told_usage(usage: CallUsage) -> Mapping[str, int]:
    """One call's numbers, under both spellings that users know."""
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "cache_read_tokens": usage.cache_read,
        "reasoning_tokens": usage.reasoning,
        "total_tokens": usage.total,
        "calls": usage.calls,
        "input_tokens": usage.prompt,
        "output_tokens": usage.completion,
    }
