"""Every example, heard by all sinks: what each of them counts is what the ledger was charged."""

from __future__ import annotations

import os
import runpy
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from power_loop import AgentEventBus
from power_loop.contrib.jsonl_sink import JsonlSink, attach_jsonl_sink, replay
from power_loop.contrib.metrics_sink import PrometheusBackend, attach_metrics_sink
from power_loop.contrib.otel_sink import attach_otel_sink
from power_loop.contrib.sink import Sink
from power_loop.store.log import RecordLog

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
CONFIGURED = ("POWER_LOOP_", "OPENAI_", "ANTHROPIC_")

Sums = Counter[str]


class Observer:
    """Attaches every sink to every bus that is made, and notes what every batch charges."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.ledger: Sums = Counter()
        self.sinks: list[Sink] = []
        self.buses: list[AgentEventBus] = []
        self.registry, self.exporter = CollectorRegistry(), InMemorySpanExporter()
        self._folder = folder
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self._tracer = provider.get_tracer("examples")
        make, append = AgentEventBus.__init__, RecordLog.append

        def made(bus: AgentEventBus, **given: Any) -> None:
            make(bus, **given)
            self._attach(bus)

        async def appended(log: RecordLog, batch: Any) -> None:
            await append(log, batch)
            self.ledger += Counter(input=batch.tally.prompt_tokens, output=batch.tally.completion_tokens)

        patch.setattr(AgentEventBus, "__init__", made)
        patch.setattr(RecordLog, "append", appended)

    def _attach(self, bus: AgentEventBus) -> None:
        self.buses.append(bus)
        file = self._folder / f"events-{len(self.buses)}.jsonl"
        self.sinks += [
            attach_jsonl_sink(bus, file),
            attach_metrics_sink(bus, PrometheusBackend(self.registry)),
            attach_otel_sink(bus, tracer=self._tracer),
        ]

    def close(self) -> None:
        for bus in self.buses:
            bus.shutdown()
        for sink in self.sinks:
            sink.close()

    def of_spans(self) -> Sums:
        told = [span.attributes or {} for span in self.exporter.get_finished_spans()]
        return sum((Counter({kind: int(each.get(f"gen_ai.usage.{kind}_tokens", 0)) for kind in KINDS}) for each in told), Counter())  # pyright: ignore[reportArgumentType] - numbers

    def of_files(self) -> Sums:
        events = [event for sink in self.sinks if isinstance(sink, JsonlSink) for event in replay(sink.path)]
        usage = [event.payload["usage"] for event in events if event.type == "usage_updated"]
        return sum((Counter(input=each["prompt_tokens"], output=each["completion_tokens"]) for each in usage), Counter())

    def of_counters(self) -> Sums:
        samples = [sample for metric in self.registry.collect() for sample in metric.samples]
        told = [sample for sample in samples if sample.name == "power_loop_usage_tokens_total"]
        return sum((Counter({sample.labels["direction"]: int(sample.value)}) for sample in told), Counter())


KINDS = ("input", "output")


@pytest.fixture
def observer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in [name for name in os.environ if name.startswith(CONFIGURED)]:
        monkeypatch.delenv(name)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.setenv("POWER_LOOP_PROVIDER", "echo")
    monkeypatch.setenv("HOME", str(work))
    monkeypatch.chdir(work)
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        yield Observer(tmp_path, monkeypatch)


# acceptance: 62 (every example), 181 (every example)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_all_sinks_give_the_ledgers_sum_for_every_example(example: Path, observer: Observer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(example)])
    runpy.run_path(str(example), run_name="__main__")
    observer.close()
    assert observer.ledger == observer.of_spans() == observer.of_files() == observer.of_counters()
    assert [sink.errors for sink in observer.sinks] == [0] * len(observer.sinks)
