"""Events as OpenTelemetry spans and metrics.

session → round → model call or tool call; a sub-agent hangs under the call that it works for. Tokens stand on the spans
of model calls alone, each call's once, so their sum over a trace is the ledger's. How spans start and end is
`otel_spans`' business.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.context import Context, get_current
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from power_loop.contracts.events import AgentEvent, EventBusProtocol
from power_loop.contrib import otel_content
from power_loop.contrib.otel_meters import Meters
from power_loop.contrib.otel_names import Names, provider_name, usage_attributes
from power_loop.contrib.otel_spans import Chat, Run, Spans, ToolSpan, context_of, nanoseconds
from power_loop.contrib.redact import Redactor
from power_loop.contrib.sink import Sink
from power_loop.version import __version__

# Runs that are over are remembered, so that what follows them (a resume, a later fold) finds its place; that many.
REMEMBERED = 1000
CONTENT_CHARS = 8000

ALWAYS = (
    "session_started", "session_ended", "round_started", "round_completed", "llm_call_started", "llm_call_completed", "usage_updated",
    "tool_call_started", "tool_call_completed", "subagent_task_start", "agent_error", "llm_retry_attempted", "llm_fallback",
    "llm_degraded", "status_changed", "loop_cancelled", "stream_delta",
)  # fmt: skip


class OtelSpanBridge(Sink):
    """What `attach_otel_sink` gives. ``close()`` detaches it and ends every span that is open."""

    def __init__(
        self,
        bus: EventBusProtocol,
        *,
        tracer: trace.Tracer | None = None,
        meter: metrics.Meter | None = None,
        capture_content: bool | None = None,
        names: Names | None = None,
    ) -> None:
        chosen = names or Names("gen_ai")
        own = trace.get_tracer("power_loop", __version__) if tracer is None else tracer
        self._spans = Spans(own, chosen)
        self._meters = Meters(metrics.get_meter("power_loop", __version__) if meter is None else meter, chosen)
        self._captures = otel_content.is_wanted(capture_content)
        self._redactor = Redactor(max_field_len=CONTENT_CHARS)
        # An id generator that knows which run a span tells of; see `otel_ids`.
        self._announce: Callable[[str, int], None] | None = getattr(getattr(own, "id_generator", None), "announce", None)
        outside = TraceContextTextMapPropagator().extract({"traceparent": os.environ.get("TRACEPARENT", "")})
        self._outside = outside if trace.get_current_span(outside).get_span_context().is_valid else None
        self._runs: dict[str, Run] = {}
        self._over: OrderedDict[str, Run] = OrderedDict()
        self._parents: OrderedDict[str, Context] = OrderedDict()
        self._errors: dict[str, str] = {}
        self._asked: tuple[tuple[object, object] | None, dict[str, Any]] = None, {}
        """What the last call was asked of, and its `_chat_attributes`."""
        self._lock = threading.RLock()
        hears = (*ALWAYS, "message_appended") if self._captures else ALWAYS
        super().__init__(bus, self._tell, hears)

    def close(self) -> None:
        super().close()
        with self._lock:
            for session_id in list(self._runs):
                self._close(session_id, time.time(), "detached")

    def traceparent(self, session_id: str, call_id: str | None = None) -> str | None:
        """Where a child of this session hangs, as W3C ``traceparent``: for processes that the host starts, as ``TRACEPARENT``."""
        with self._lock:
            run = self._runs.get(session_id)
            carrier: dict[str, str] = {}
            if run is not None:
                TraceContextTextMapPropagator().inject(carrier, run.for_child(call_id))
            return carrier.get("traceparent")

    def _tell(self, event: AgentEvent) -> None:
        of_no_run = OF_NO_RUN.get(event.type)
        with self._lock:
            if of_no_run is not None:
                of_no_run(self, event)
            elif (run := self._runs.get(event.session_id or "")) is not None:
                TELLERS[event.type](self, run, event, event.payload)

    # --- runs ------------------------------------------------------------------------------------------

    def start_run(self, event: AgentEvent) -> None:
        session_id, told = event.session_id or "", event.payload
        if session_id in self._runs:  # its end was dropped by an overfull bus
            self._close(session_id, event.ts, "unknown")
        kind, agent = "workflow" if told["scope"] == "workflow" else "agent", str(told.get("agent") or "agent")
        earlier = self._earlier(event)
        parent, links = self._parent_of(event, earlier)
        about = {
            "gen_ai.operation.name": "invoke_workflow" if kind == "workflow" else "invoke_agent",
            "gen_ai.workflow.name" if kind == "workflow" else "gen_ai.agent.name": agent,
            "power_loop.scope": told["scope"],
            "power_loop.send_index": event.send_index,
            "power_loop.depth": event.depth,
            "power_loop.resumed": told.get("resumed") or None,
        }
        if self._announce is not None and parent is None:
            self._announce(session_id, event.send_index or 0)
        span = self._spans.start(self._spans.names.span(kind, agent), parent, event.ts, session_id, about, links=links)
        self._runs[session_id] = Run(session_id, event.send_index, span, trace.set_span_in_context(span, parent), agent)

    def _earlier(self, event: AgentEvent) -> trace.SpanContext | None:
        """The first run of the same send, as far as anybody can know."""
        if not event.payload.get("resumed"):
            return None
        over = self._over.get(event.session_id or "")
        if over is not None and over.send_index == event.send_index:
            return over.span.get_span_context()
        return context_of(event.session_id or "", event.send_index or 0) if self._announce is not None else None

    def _parent_of(self, event: AgentEvent, earlier: trace.SpanContext | None) -> tuple[Context | None, tuple[trace.Link, ...]]:
        """The call that it works for; else what the host is doing; else the run that it goes on with; else nothing."""
        told = event.payload
        links = (trace.Link(earlier),) if earlier is not None else ()
        known = self._parents.get(event.session_id or "")
        parent_run = self._runs.get(str(told.get("parent_session_id")))
        if known is None and parent_run is not None:
            known = parent_run.for_child(told.get("parent_call_id"))
        if known is not None:
            return known, links
        if trace.get_current_span().get_span_context().is_valid:
            return get_current(), links
        if earlier is not None:
            return trace.set_span_in_context(trace.NonRecordingSpan(earlier), Context()), ()
        return self._outside, ()

    def end_run(self, event: AgentEvent) -> None:
        self._close(event.session_id or "", event.ts, str(event.payload["reason"]))

    def _close(self, session_id: str, at: float, reason: str) -> None:
        run = self._runs.pop(session_id, None)
        error_type = self._errors.pop(session_id, None)
        if run is None:
            return
        self._spans.close(run, at, reason, error_type)
        self._over.pop(session_id, None)
        self._over[session_id] = run
        if len(self._over) > REMEMBERED:
            self._over.popitem(last=False)

    def start_round(self, run: Run, event: AgentEvent, told: Mapping[str, Any]) -> None:
        self._spans.close_round(run, event.ts, {})
        n = told["round_index"]
        name = self._spans.names.span("round", str(n))
        run.round = self._spans.start(name, run.context, event.ts, run.session_id, {"power_loop.round_index": n})

    def end_round(self, run: Run, event: AgentEvent, told: Mapping[str, Any]) -> None:
        self._spans.close_round(run, event.ts, {"power_loop.has_tools": told["has_tools"], "power_loop.skipped": told["skipped"] or None})

    # --- model calls -------------------------------------------------------------------------------------

    def start_chat(self, run: Run, event: AgentEvent, told: Mapping[str, Any]) -> None:
        common = self._chat_attributes(told["model"], told.get("provider"))
        about = {**common, "gen_ai.agent.name": run.agent, "power_loop.call_id": told["call_id"], "power_loop.attempt": told["attempt"]}
        if run.heard:
            about["gen_ai.input.messages"] = otel_content.written(self._redactor, run.heard)
        name = self._spans.names.span("chat", str(told["model"] or ""))
        span = self._spans.start(name, run.below, event.ts, run.session_id, about, kind=SpanKind.CLIENT)
        run.chats.append(Chat(span, common, event.ts, folds=str(told["call_id"]).startswith("fold")))

    def first_chunk(self, run: Run, event: AgentEvent, told: Mapping[str, Any]) -> None:
        chat = run.chats[-1] if run.chats else None
        if chat is not None and chat.first_chunk is None and chat.ended is None:
            chat.first_chunk = event.ts - chat.started

    def end_chat(self, run: Run, event: AgentEvent, told: Mapping[str, Any]) -> None:
        """The call is over; its span waits for what it cost."""
        chat = next((each for each in run.chats if each.ended is None), None)
        if chat is None:
            return
        chat.ended, chat.succeeded, chat.finish_reason = event.ts, told["success"], told["finish_reason"]
        about: dict[str, Any] = {
            "gen_ai.response.model": told.get("response_model"),
            "gen_ai.response.id": told.get("response_id"),
            "gen_ai.response.finish_reasons": (told["finish_reason"],) if told["finish_reason"] else None,
            "gen_ai.response.time_to_first_chunk": chat.first_chunk,
        }
        if not told["success"]:
            about["error.type"] = told["error_type"] or "_OTHER"
            chat.span.set_status(trace.StatusCode.ERROR, about["error.type"])
        chat.told = about
        self._meters.called(chat, told)

    def charge(self, event: AgentEvent) -> None:
        """What a call cost. One that has no span yet, such as a fold's, gets it now."""
        session_id, told = event.session_id or "", event.payload
        run = self._runs.get(session_id) or self._over.get(session_id)
        if run is None:
            return
        folds = told["purpose"] == "fold"
        chat = next((each for each in run.chats if not each.charged and each.folds == folds), None)
        if chat is None:
            chat = self._unseen_chat(run, event, told)
        chat.charged = True
        chat.told.update(usage_attributes(told["usage"]))
        chat.told["power_loop.purpose"] = told["purpose"]
        self._meters.used(chat, told["usage"])
        if chat.folds or not (self._captures and chat.succeeded):
            self._finish(run, chat, event.ts)

    def _unseen_chat(self, run: Run, event: AgentEvent, told: Mapping[str, Any]) -> Chat:
        started = event.ts if run.fold_started is None else run.fold_started
        common = self._chat_attributes(told["model"])
        about = {**common, "gen_ai.agent.name": run.agent, "error.type": told["error_type"]}
        name = self._spans.names.span("chat", str(told["model"] or ""))
        span = self._spans.start(name, run.below, started, run.session_id, about, kind=SpanKind.CLIENT)
        run.fold_started = None
        return Chat(span, common, started, event.ts)

    def _chat_attributes(self, model: object, provider: object = None) -> dict[str, Any]:
        """Those that a call's span and its metrics share; most calls of a loop have the same."""
        asked, common = self._asked
        if asked != (model, provider):
            about = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": provider_name(provider), "gen_ai.request.model": model}
            common = self._spans.names.attributes(about)
            self._asked = (model, provider), common
        return common

    def _finish(self, run: Run, chat: Chat, at: float) -> None:
        self._spans.end(chat.span, at if chat.ended is None else chat.ended, chat.told)
        run.chats = [each for each in run.chats if each is not chat]

    # --- tools, sub-agents ---------------------------------------------------------------------------------

    def start_tool(self, run: Run, event: AgentEvent, told: Mapping[str, Any]) -> None:
        about = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": told["name"],
            "gen_ai.tool.call.id": told["tool_call_id"],
            "gen_ai.tool.type": "function",
            "gen_ai.agent.name": run.agent,
        }
        if self._captures:
            about["gen_ai.tool.call.arguments"] = self._redactor.json(told["tool_input"])
        span = self._spans.start(self._spans.names.span("tool", told["name"]), run.below, event.ts, run.session_id, about)
        run.tools[told["tool_call_id"]] = ToolSpan(span, event.ts)

    def end_tool(self, run: Run, event: AgentEvent, told: Mapping[str, Any]) -> None:
        tool = run.tools.pop(told["tool_call_id"], None)
        if tool is None:  # never started: vetoed, or begun in another run
            return
        outcome = told["outcome"]
        error = "tool_error" if outcome == "failed" else outcome if outcome in ("unknown", "aborted") else None
        about: dict[str, Any] = {"power_loop.outcome": outcome}
        if self._captures:
            about["gen_ai.tool.call.result"] = self._redactor.json(told["output"])
        self._meters.ran(told["name"], event.ts - tool.started, error)
        self._spans.end(tool.span, event.ts, about, error)

    def expect_child(self, run: Run, event: AgentEvent, told: Mapping[str, Any]) -> None:
        """A sub-agent begins: its own session will hang under the call that it works for."""
        child = str(told["sub_session_id"])
        self._parents.pop(child, None)
        self._parents[child] = run.for_child(told.get("tool_call_id"))
        if len(self._parents) > REMEMBERED:
            self._parents.popitem(last=False)

    # --- notes ------------------------------------------------------------------------------------------------

    def hear(self, run: Run, event: AgentEvent, told: Mapping[str, Any]) -> None:
        """A message, where content is captured: a reply belongs to its call, all else to the next one."""
        message = otel_content.message(told)
        chat = next((each for each in run.chats if each.charged), None)
        if told["role"] != "assistant":
            run.heard.append(message)
        elif chat is not None:
            output = otel_content.written(self._redactor, [message], chat.finish_reason)
            chat.told["gen_ai.output.messages"] = output
            self._finish(run, chat, event.ts)
            run.heard = []

    def note(self, run: Run, event: AgentEvent, told: Mapping[str, Any]) -> None:
        """Something worth a mark on the run: its kinds and numbers, never texts."""
        if event.type == "status_changed":
            if told["kind"] == "round_usage":
                return
            if told.get("phase") == "started":
                run.fold_started = event.ts
        if event.type in ("agent_error", "llm_degraded"):
            self._errors[run.session_id] = str(told["error_type"])
        known = ("kind", "phase", "error_type", "attempt", "attempts", "from_model", "to_model", "limit", "max_rounds", "code")
        about = {f"power_loop.{name}": told[name] for name in known if told.get(name) is not None}
        run.span.add_event(f"power_loop.{event.type}", about, nanoseconds(event.ts))


Teller = Callable[[OtelSpanBridge, Run, AgentEvent, Mapping[str, Any]], None]

OF_NO_RUN: Mapping[str, Callable[[OtelSpanBridge, AgentEvent], None]] = {
    "session_started": OtelSpanBridge.start_run,
    "session_ended": OtelSpanBridge.end_run,
    "usage_updated": OtelSpanBridge.charge,
}
TELLERS: Mapping[str, Teller] = {
    "round_started": OtelSpanBridge.start_round,
    "round_completed": OtelSpanBridge.end_round,
    "llm_call_started": OtelSpanBridge.start_chat,
    "stream_delta": OtelSpanBridge.first_chunk,
    "llm_call_completed": OtelSpanBridge.end_chat,
    "tool_call_started": OtelSpanBridge.start_tool,
    "tool_call_completed": OtelSpanBridge.end_tool,
    "subagent_task_start": OtelSpanBridge.expect_child,
    "message_appended": OtelSpanBridge.hear,
    **dict.fromkeys(
        ("agent_error", "llm_retry_attempted", "llm_fallback", "llm_degraded", "status_changed", "loop_cancelled"), OtelSpanBridge.note
    ),
}
