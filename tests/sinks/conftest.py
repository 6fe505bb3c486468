"""One run that has everything in it, heard by all sinks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from power_loop import (
    AgentEvent,
    AgentEventBus,
    AgentLoopConfig,
    LLMRetryPolicy,
    RunPolicy,
    StatefulAgentLoop,
    tool,
)
from power_loop.testing import ScriptedLLM, call, calls, fail, hang, say

NO_WAIT = LLMRetryPolicy(max_attempts=2, backoff_initial=0.0001, backoff_max=0.0001)


@tool(effects="pure")
def look(at: str) -> str:
    """Look at something."""
    return f"a {at}"


@tool(effects="pure")
def break_it() -> str:
    """Break something."""
    raise ValueError("it broke")


SCRIPT = (
    fail(ConnectionError("the line is dead"), after="I wi"),
    calls(call("look", at="a"), call("look", at="b"), call("break_it"), text="Looking.", prompt_tokens=100, completion_tokens=10),
    say("Two things.", prompt_tokens=150, completion_tokens=5, cached_tokens=90, think="hm"),
    hang(after="never sa"),
    fail(ConnectionError("dead")),
    fail(ConnectionError("dead again")),
)


class Traces:
    """A tracer and a meter of the real SDK that keep what they are given."""

    def __init__(self, **provider: Any) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.provider = TracerProvider(**provider)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("test")
        self.meter = MeterProvider([self.reader]).get_meter("test")

    @property
    def spans(self) -> list[ReadableSpan]:
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def named(self, start: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name.startswith(start)]

    def parent(self, span: ReadableSpan) -> ReadableSpan | None:
        return next((each for each in self.spans if span.parent is not None and each.context.span_id == span.parent.span_id), None)

    def metric(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        all_ = [metric for resource in data.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics]
        return [point for metric in all_ if metric.name == name for point in metric.data.data_points]


@dataclass
class Stage:
    """A loop on a file of its own, and what its listeners heard."""

    folder: Path
    bus: AgentEventBus = field(default_factory=AgentEventBus)
    heard: list[AgentEvent] = field(default_factory=list)
    loops: list[StatefulAgentLoop] = field(default_factory=list)

    def loop(self, *script: Any, **more: Any) -> StatefulAgentLoop:
        llm = more.pop("llm", None) or ScriptedLLM(script, strict=False)
        more.setdefault("tools", [look, break_it])
        given = {"dsn": str(self.folder / "app.db"), "event_bus": self.bus, "name": "scout", **more}
        self.loops.append(StatefulAgentLoop(llm=llm, **given))
        return self.loops[-1]

    async def until(self, type: str) -> None:
        seen = asyncio.Event()
        loop = asyncio.get_running_loop()

        def hear(event: AgentEvent) -> None:
            loop.call_soon_threadsafe(seen.set)

        self.bus.subscribe(type, hear)
        await seen.wait()
        self.bus.unsubscribe(hear)

    async def everything(self) -> tuple[StatefulAgentLoop, str]:
        """A retried call, parallel tools of which one fails, a fold, a cancelled send, a failed one."""
        config = AgentLoopConfig(running=RunPolicy(cancel_grace_s=0.01), retry_policy=NO_WAIT)
        loop = self.loop(*SCRIPT, config=config)
        session = await loop.new_session()
        assert (await loop.send("What is there?", session)).status == "completed"
        sending = asyncio.create_task(loop.send("And now?", session))
        await self.until("stream_delta")
        await loop.cancel(session)
        assert (await sending).status == "cancelled"
        assert (await loop.send("Once more", session)).status == "degraded"
        return loop, session


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    made = Stage(tmp_path)
    made.bus.subscribe(None, made.heard.append)
    yield made
    for loop in made.loops:
        await loop.aclose()


@pytest.fixture
def traces() -> Traces:
    return Traces()
