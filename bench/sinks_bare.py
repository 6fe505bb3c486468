"""The bare libraries doing what the sinks had them do for one send: the same lines, numbers and spans, handed to them ready."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import statsd
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from power_loop import AgentEventBus
from power_loop.contrib.jsonl_sink import JsonlSink, attach_jsonl_sink
from power_loop.contrib.logging_sink import attach_logging_sink
from power_loop.contrib.metrics_sink import BUCKETS_MS, attach_metrics_sink
from power_loop.contrib.otel_sink import attach_otel_sink

Number = tuple[str, str, float, Mapping[str, Any]]
"""(kind, name, value, labels)."""
Work = Callable[[], object]
# Nobody reads StatsD's packets: both sides send them into the void.
NO_SERVER = 9


class Recorded(logging.Handler):
    """Hears one send through the sinks, and remembers what they ask of the libraries."""

    def __init__(self, bus: AgentEventBus, folder: Path) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.numbers: list[Number] = []
        self.measured: list[Number] = []
        self._finished = InMemorySpanExporter()
        self._file = folder / "recorded.jsonl"
        logger, provider = logging.Logger("recorded", logging.INFO), TracerProvider()
        logger.addHandler(self)
        provider.add_span_processor(SimpleSpanProcessor(self._finished))
        self._sinks = (
            attach_logging_sink(bus, logger=logger), attach_jsonl_sink(bus, self._file), attach_metrics_sink(bus, self),
            attach_otel_sink(bus, tracer=provider.get_tracer("recorded"), meter=self),
        )  # fmt: skip

    def forget(self) -> None:
        """What was asked so far counts no more."""
        assert all(sink.flush() for sink in self._sinks if isinstance(sink, JsonlSink))
        self._file.write_text("")
        self._finished.clear()
        self.lines.clear(), self.numbers.clear(), self.measured.clear()

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()
        self.rows = self._file.read_text().splitlines(keepends=True)
        self.spans = sorted(self._finished.get_finished_spans(), key=lambda span: span.start_time or 0)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def incr(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        self.numbers.append(("incr", name, value, dict(labels)))

    def observe(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        self.numbers.append(("observe", name, value, dict(labels)))

    def gauge(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        self.numbers.append(("gauge", name, value, dict(labels)))

    def create_histogram(self, name: str, **about: Any) -> Any:
        recorded = self.measured

        class Histogram:
            def record(self, value: float, attributes: Mapping[str, Any]) -> None:
                recorded.append(("record", name, value, dict(attributes)))

        return Histogram()


def works(recorded: Recorded, folder: Path) -> dict[str, Work]:
    """The work of one send with each library, under the name of the sink."""
    return {
        "logging": _logging(recorded, folder),
        "JSONL": _file(recorded, folder),
        "Prometheus": _prometheus(recorded),
        "StatsD": _statsd(recorded),
        "OpenTelemetry": _opentelemetry(recorded),
    }


def _logging(recorded: Recorded, folder: Path) -> Work:
    logger = logging.Logger("bare", logging.INFO)
    logger.addHandler(logging.StreamHandler((folder / "bare.log").open("w", buffering=1 << 16)))
    return lambda: [logger.info("%s", line) for line in recorded.lines]


def _file(recorded: Recorded, folder: Path) -> Work:
    file = (folder / "bare.jsonl").open("w")

    def write() -> None:
        for row in recorded.rows:
            file.write(row)
        file.flush()

    return write


def _prometheus(recorded: Recorded) -> Work:
    registry = CollectorRegistry()
    kinds: dict[str, Any] = {"incr": Counter, "observe": Histogram, "gauge": Gauge}
    changes = {"incr": "inc", "observe": "observe", "gauge": "set"}
    metrics: dict[str, Any] = {}
    for kind, name, _, labels in recorded.numbers:
        if name not in metrics:
            buckets = {"buckets": BUCKETS_MS} if kind == "observe" else {}
            metrics[name] = kinds[kind](name, name, tuple(labels), registry=registry, **buckets)

    def count() -> None:
        for kind, name, value, labels in recorded.numbers:
            metric = metrics[name].labels(**labels) if labels else metrics[name]
            getattr(metric, changes[kind])(value)

    return count


def _statsd(recorded: Recorded) -> Work:
    client = statsd.StatsClient("127.0.0.1", NO_SERVER)
    changes: dict[str, Any] = {"incr": client.incr, "observe": client.timing, "gauge": client.gauge}

    def count() -> None:
        for kind, name, value, labels in recorded.numbers:
            changes[kind](".".join((name, *labels.values())), value)

    return count


def _opentelemetry(recorded: Recorded) -> Work:
    tracer, meter = TracerProvider().get_tracer("bare"), MeterProvider([InMemoryMetricReader()]).get_meter("bare")
    instruments = {name: meter.create_histogram(name) for _, name, _, _ in recorded.measured}
    spans = [(span.name, span.kind, dict(span.attributes or {}), span.start_time, span.end_time) for span in recorded.spans]

    def tell() -> None:
        below, begun = None, []
        for name, kind, attributes, started, ended in spans:
            span = tracer.start_span(name, context=below, kind=kind, attributes=attributes, start_time=started)
            below = trace.set_span_in_context(span)
            begun.append((span, ended))
        for span, ended in reversed(begun):
            span.end(end_time=ended)
        for _, name, value, attributes in recorded.measured:
            instruments[name].record(value, attributes)

    return tell
