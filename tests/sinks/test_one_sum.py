"""Whoever counts gets the same: the ledger, the results, Prometheus, the trace, the file."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from power_loop.contrib.jsonl_sink import attach_jsonl_sink, replay
from power_loop.contrib.metrics_sink import PrometheusBackend, attach_metrics_sink
from power_loop.contrib.otel_sink import attach_otel_sink


def scraped(registry: CollectorRegistry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Samples of the text exposition, as prometheus_client's own parser reads it."""
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for family in families for sample in family.samples}


# acceptance: 62 (Prometheus), 181 (sums)
async def test_all_sinks_give_the_ledgers_sum_for_a_run_with_tools_a_retry_a_cancel_and_a_failure(stage: Any, traces: Any) -> None:
    registry = CollectorRegistry()
    metrics = attach_metrics_sink(stage.bus, PrometheusBackend(registry))
    bridge = attach_otel_sink(stage.bus, tracer=traces.tracer, meter=traces.meter)
    file = attach_jsonl_sink(stage.bus, stage.folder / "events.jsonl")
    loop, session = await stage.everything()
    for sink in (metrics, bridge, file):
        sink.close()
        assert sink.errors == 0

    stats = await loop.get_session_stats(session)
    samples = scraped(registry)
    chats = [span.attributes for span in traces.named("chat")]
    told = [event.payload["usage"] for event in replay(file.path) if event.type == "usage_updated"]
    assert stats.llm_calls == len(chats) == len(told) == 6
    for key, name in (("prompt_tokens", "gen_ai.usage.input_tokens"), ("completion_tokens", "gen_ai.usage.output_tokens")):
        assert getattr(stats, key) == sum(chat[name] for chat in chats) == sum(usage[key] for usage in told)
    total = stats.prompt_tokens + stats.completion_tokens
    assert samples["power_loop_usage_total_tokens_total", ()] == total
    assert sum(value for (name, _), value in samples.items() if name == "power_loop_usage_tokens_total") == total
    assert sum(point.sum for point in traces.metric("gen_ai.client.token.usage")) == total
    assert samples["power_loop_usage_tokens_total", (("cache", "read"), ("direction", "input"))] == 90


async def test_each_call_tool_and_round_is_counted_once(stage: Any) -> None:
    registry = CollectorRegistry()
    attach_metrics_sink(stage.bus, PrometheusBackend(registry))
    await stage.everything()
    samples = scraped(registry)
    model = next(dict(labels)["model"] for name, labels in samples if name == "power_loop_llm_calls_total")
    assert samples["power_loop_tool_calls_total", (("success", "true"), ("tool", "look"))] == 2
    assert samples["power_loop_tool_calls_total", (("success", "false"), ("tool", "break_it"))] == 1
    assert ("power_loop_tool_calls_total", (("success", "true"), ("tool", "break_it"))) not in samples
    assert samples["power_loop_llm_calls_total", (("model", model), ("success", "true"))] == 2
    assert samples["power_loop_llm_calls_total", (("model", model), ("success", "false"))] == 4
    assert samples["power_loop_llm_retries_total", ()] == 2
    assert samples["power_loop_rounds_total", ()] == sum(event.type == "round_completed" for event in stage.heard)
    assert samples["power_loop_errors_total", (("error_type", "ConnectionError"),)] == 1
    assert samples["power_loop_llm_call_duration_ms_count", (("model", model),)] == 6
    assert samples["power_loop_running_sends", ()] == 0
