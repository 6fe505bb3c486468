"""No event that exists, and none of the host's own, is too much for any sink."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from power_loop import AgentEvent, AgentEventBus
from power_loop.contracts.payloads import PAYLOADS, STATUS_PAYLOADS
from power_loop.contrib.ag_ui import AgUiEncoder
from power_loop.contrib.jsonl_sink import attach_jsonl_sink, replay
from power_loop.contrib.logging_sink import attach_logging_sink
from power_loop.contrib.metrics_sink import PrometheusBackend, attach_metrics_sink
from power_loop.contrib.otel_sink import attach_otel_sink

USAGE = {
    "prompt_tokens": 1, "completion_tokens": 1, "cache_read_tokens": 0, "reasoning_tokens": 0, "total_tokens": 2, "calls": 1,
    "input_tokens": 1, "output_tokens": 1,
}  # fmt: skip


def every_event() -> list[AgentEvent]:
    """One of each type and kind, as it is when nothing is known, and two of the host's own."""
    given: dict[str, dict[str, Any]] = {"usage_updated": {"usage": USAGE}}
    place = {"session_id": "s", "send_index": 1, "round_index": 0, "cursor": "1.0"}
    typed = [AgentEvent(type, data=chosen(**given.get(type, {})), **place) for type, chosen in PAYLOADS.items() if type != "status_changed"]
    kinds = [AgentEvent("status_changed", data=chosen(kind=kind), **place) for kind, chosen in STATUS_PAYLOADS.items()]
    own = [AgentEvent("own", {"a": {1, 2}, "b": b"x", "c": object()}), AgentEvent("empty")]
    first = next(event for event in typed if event.type == "session_started")
    return [first, *(event for event in typed if event is not first), *kinds, *own]


# acceptance: 60 (every type), 61 (every type)
def test_every_type_passes_through_every_sink(tmp_path: Any, traces: Any) -> None:
    bus, registry = AgentEventBus(suppress_subscriber_errors=False), CollectorRegistry()
    logger = logging.Logger("t", logging.INFO)
    logger.addHandler(logging.NullHandler())
    file = attach_jsonl_sink(bus, tmp_path / "e.jsonl")
    sinks: list[Any] = [
        file, attach_logging_sink(bus, logger=logger), attach_metrics_sink(bus, PrometheusBackend(registry)),
        attach_otel_sink(bus, tracer=traces.tracer, meter=traces.meter, capture_content=True),
    ]  # fmt: skip
    told = every_event()
    for event in told:
        bus.publish(event)
    for sink in sinks:
        sink.close()
        assert sink.errors == 0, type(sink).__name__
    again = list(replay(file.path))
    assert [(event.type, event.seq) for event in again] == [(event.type, event.seq) for event in told]
    assert [event.payload for event in again[:-2]] == [json.loads(json.dumps(dict(event.payload), default=list)) for event in told[:-2]]


# acceptance: 183 (AG-UI, every type)
@pytest.mark.parametrize("event", every_event(), ids=lambda event: str(event.payload.get("kind") or event.type))
def test_every_type_has_an_encoding_for_interfaces_or_none(event: AgentEvent) -> None:
    encoder = AgUiEncoder("t", "r")
    for each in encoder.encode(event):
        assert json.loads(json.dumps(each))["type"].isupper()


async def test_a_stored_run_can_be_told_again_to_the_counters(stage: Any, traces: Any, tmp_path: Any) -> None:
    file = attach_jsonl_sink(stage.bus, tmp_path / "e.jsonl")
    loop, session = await stage.everything()
    file.close()
    bus, registry = AgentEventBus(), CollectorRegistry()
    sinks = [attach_metrics_sink(bus, PrometheusBackend(registry)), attach_otel_sink(bus, tracer=traces.tracer, meter=traces.meter)]
    for event in replay(file.path):
        bus.publish(event)
    stats = await loop.get_session_stats(session)
    assert registry.get_sample_value("power_loop_usage_total_tokens_total") == stats.prompt_tokens + stats.completion_tokens
    assert sum(span.attributes["gen_ai.usage.input_tokens"] for span in traces.named("chat")) == stats.prompt_tokens
    assert [sink.errors for sink in sinks] == [0, 0]
