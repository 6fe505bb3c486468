"""The open spans of one run of a send: the run, its round, its model calls and tool calls.

Times come from the events. A model call's span is kept until its usage is told, which is when the reply is durable,
and ends at the time at which the call did. Closing a run ends whatever is open below it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags, Tracer

from power_loop.contrib.otel_names import Names

# Ways to end that a person who looks for failures wants to find.
FAILURES = ("error", "failed", "degraded", "invalid_output", "interrupted")


@dataclass
class Chat:
    """One attempt of a model call."""

    span: Span
    attributes: dict[str, Any]
    """Those that its metrics have too, under the names of its style."""
    started: float
    ended: float | None = None
    folds: bool = False
    """It makes the summary of a fold, which is no message."""
    succeeded: bool = False
    charged: bool = False
    first_chunk: float | None = None
    finish_reason: str | None = None
    told: dict[str, Any] = field(default_factory=dict[str, Any])
    """Those that it gets at its end."""


@dataclass
class ToolSpan:
    """One tool call that is running."""

    span: Span
    started: float


@dataclass
class Run:
    """One run of a send, and what is open below it."""

    session_id: str
    send_index: int | None
    span: Span
    context: Context
    agent: str
    round: Span | None = None
    chats: list[Chat] = field(default_factory=list[Chat])
    tools: dict[str, ToolSpan] = field(default_factory=dict[str, ToolSpan])
    heard: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Messages that no model call has been shown yet; where content is captured."""
    fold_started: float | None = None

    @property
    def below(self) -> Context:
        """Where what a round does hangs."""
        return self.context if self.round is None else trace.set_span_in_context(self.round)

    def for_child(self, call_id: str | None) -> Context:
        """Where a sub-agent hangs: under the call that it works for, as far as that is known."""
        tool = self.tools.get(call_id or "")
        if tool is None and len(self.tools) == 1:
            (tool,) = self.tools.values()
        return self.below if tool is None else trace.set_span_in_context(tool.span)


class Spans:
    """Starts and ends spans, in the names of one style."""

    names: Names

    def __init__(self, tracer: Tracer, names: Names) -> None:
        self._tracer, self.names = tracer, names

    def start(
        self, name: str, context: Context | None, at: float, session_id: str | None, attributes: Mapping[str, Any], *,
        kind: SpanKind = SpanKind.INTERNAL, links: tuple[trace.Link, ...] = (),
    ) -> Span:  # fmt: skip
        """A span of a session, with those of ``attributes`` that are known."""
        given = self.names.attributes({"gen_ai.conversation.id": session_id, **attributes})
        return self._tracer.start_span(name, context=context, kind=kind, attributes=given, links=links, start_time=nanoseconds(at))

    def end(self, span: Span, at: float, attributes: Mapping[str, Any], error: str | None = None) -> None:
        if attributes or error is not None:
            about = self.names.attributes(attributes if error is None else {**attributes, "error.type": error})
            for name, value in about.items():  # they are few: to give them as a mapping takes longer
                span.set_attribute(name, value)
        if error is not None:
            span.set_status(Status(StatusCode.ERROR, error))
        span.end(end_time=nanoseconds(at))

    def close_chats(self, run: Run, at: float) -> None:
        """End the model calls whose usage, or end, was never told."""
        chats, run.chats = run.chats, []
        for chat in chats:
            unfinished = {"power_loop.unfinished": True} if chat.ended is None else {}
            self.end(chat.span, at if chat.ended is None else chat.ended, {**chat.told, **unfinished})

    def close_round(self, run: Run, at: float, attributes: Mapping[str, Any]) -> None:
        if run.round is not None:
            span, run.round = run.round, None
            self.end(span, at, attributes)

    def close(self, run: Run, at: float, reason: str, error_type: str | None = None) -> None:
        """End the run and all that is open below it, the innermost first."""
        tools, run.tools = run.tools, {}
        for tool in tools.values():  # parked: it ends in another run, perhaps in another process
            self.end(tool.span, at, {"power_loop.outcome": "parked" if reason == "waiting_for_input" else "unfinished"})
        self.close_chats(run, at)
        self.close_round(run, at, {})
        failed = error_type or reason if reason in FAILURES else None
        self.end(run.span, at, {"power_loop.status": reason}, failed)


def nanoseconds(at: float) -> int:
    return int(at * 1e9)


def context_of(session_id: str, send_index: int) -> SpanContext:
    """Where the first run of a send stands, in whichever process that was."""
    digest = hashlib.sha256(f"{session_id}\n{send_index}".encode("utf-8", "surrogatepass")).digest()
    trace_id, span_id = int.from_bytes(digest[:16], "big"), int.from_bytes(digest[16:24], "big")
    return SpanContext(trace_id or 1, span_id or 1, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
