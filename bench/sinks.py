"""What listening costs: publishing to one inline listener, and all sinks together on a plain send.

python bench/sinks.py
"""

from __future__ import annotations

import asyncio
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry, Counter
from report import Report
from sends import Instant

from power_loop import AgentEvent, AgentEventBus, AgentLoopConfig, StatefulAgentLoop, open_store
from power_loop.contrib.jsonl_sink import attach_jsonl_sink
from power_loop.contrib.logging_sink import attach_logging_sink
from power_loop.contrib.metrics_sink import PrometheusBackend, attach_metrics_sink
from power_loop.contrib.otel_sink import attach_otel_sink
from power_loop.store.sql_store import SessionStore

PUBLISH_BAR_US, SINKS_BAR_MS = 5, 0.6
EVENTS, SENDS, REPEATS = 20_000, 200, 7


async def sinks(report: Report, folder: Path) -> None:
    """Add the figures to ``report``."""
    published = min(_published_us(None) for _ in range(REPEATS))
    heard = min(_published_us(lambda event: None) for _ in range(REPEATS))
    beside = f"{published:.2f} us with no listener"
    report.add("publish, one inline listener", f"{heard:.2f} us", beside, f"<= {PUBLISH_BAR_US} us", heard <= PUBLISH_BAR_US)
    bare, bare_batches = await _sends(folder, lambda bus: [])
    silent, _ = await _sends(folder, lambda bus: bus.subscribe(None, lambda event: event.payload) or [])
    report.add(
        "a plain send, and events that nobody reads", f"+{silent - bare:.3f} ms", f"{bare:.3f} ms without, ratio {silent / bare:.2f}"
    )
    for name, attach in SINKS.items():
        told, _ = await _sends(folder, lambda bus, attach=attach: [attach(bus, folder)])
        report.add(f"a plain send, and {name}", f"+{told - bare:.3f} ms", f"{bare:.3f} ms without, ratio {told / bare:.2f}")
    told, batches = await _sends(folder, lambda bus: [attach(bus, folder) for attach in SINKS.values()])
    alone = await _libraries_alone_ms(folder)
    bar = f"<= {SINKS_BAR_MS} ms and no commit"
    kept = told - bare <= SINKS_BAR_MS and batches == bare_batches
    beside = f"{alone:.3f} ms libraries, {batches - bare_batches:+g} commits"
    report.add("a plain send, and all sinks", f"+{told - bare:.3f} ms", beside, bar, kept)


def _published_us(handler: Callable[[AgentEvent], None] | None) -> float:
    bus = AgentEventBus()
    if handler is not None:
        bus.subscribe("own", handler)
    event = AgentEvent("own", {"n": 1})
    begun = time.perf_counter()
    for _ in range(EVENTS):
        bus.publish(event)
    return (time.perf_counter() - begun) / EVENTS * 1e6


def _logging(bus: AgentEventBus, folder: Path) -> Any:
    logger = logging.Logger("bench.sinks", logging.INFO)
    logger.addHandler(logging.StreamHandler((folder / "events.log").open("w", buffering=1 << 16)))
    return attach_logging_sink(bus, logger=logger)


def _otel(bus: AgentEventBus, folder: Path) -> Any:
    meter = MeterProvider([InMemoryMetricReader()]).get_meter("bench")
    return attach_otel_sink(bus, tracer=TracerProvider().get_tracer("bench"), meter=meter)


SINKS: dict[str, Callable[[AgentEventBus, Path], Any]] = {
    "logging": _logging,
    "JSONL": lambda bus, folder: attach_jsonl_sink(bus, folder / "events.jsonl"),
    "Prometheus": lambda bus, folder: attach_metrics_sink(bus, PrometheusBackend(CollectorRegistry())),
    "OpenTelemetry": _otel,
}


async def _sends(folder: Path, attach: Callable[[AgentEventBus], list[Any]]) -> tuple[float, float]:
    """(milliseconds of a plain send, the best of several medians; batches of a send), with these sinks."""
    store = await open_store(":memory:")
    bus = AgentEventBus()
    attached = attach(bus)
    batches = _counted(store)
    async with StatefulAgentLoop(llm=Instant(), store=store, event_bus=bus, config=AgentLoopConfig(context_tokens=10_000_000)) as loop:
        session = await loop.new_session()
        await loop.send("warm up", session)
        batches.clear()
        medians = [statistics.median([await _timed(loop, session) for _ in range(SENDS)]) for _ in range(REPEATS)]
    for sink in attached:
        sink.close()
        assert sink.errors == 0, f"{type(sink).__name__} failed"
    await store.close()
    return min(medians) * 1000, len(batches) / (SENDS * REPEATS)


async def _libraries_alone_ms(folder: Path) -> float:
    """What the libraries take for the same lines, spans and numbers, handed to them ready."""
    lines: list[str] = []

    def listen(bus: AgentEventBus) -> list[Any]:
        bus.subscribe(None, lambda event: lines.append(json.dumps(event.to_dict(), default=str)))
        return []

    await _sends(folder, listen)
    lines = lines[-(len(lines) // (SENDS * REPEATS + 1)) :]
    logger = logging.Logger("bench.bare", logging.INFO)
    logger.addHandler(logging.StreamHandler((folder / "bare.log").open("w", buffering=1 << 16)))
    tracer, counter = TracerProvider().get_tracer("bare"), Counter("bare", "bare", ("a",), registry=CollectorRegistry())
    names = ("gen_ai.operation.name", "gen_ai.agent.name", "gen_ai.conversation.id", "power_loop.depth")
    about: dict[str, str] = dict.fromkeys(names, "value")

    def once(file: Any) -> None:
        for line in lines:
            logger.info("%s", line)
            file.write(line)
        file.flush()
        spans = [tracer.start_span("bare", attributes=about) for _ in range(3)]
        for span in spans:
            span.set_attributes(about)
            span.end()
        for _ in range(6):
            counter.labels(a="b").inc()

    with (folder / "bare.jsonl").open("w") as file:
        took: list[float] = []
        for _ in range(SENDS):
            begun = time.perf_counter()
            once(file)
            took.append(time.perf_counter() - begun)
    return statistics.median(took) * 1000


def _counted(store: SessionStore) -> list[Any]:
    batches: list[Any] = []
    write = store.database.write

    async def counting(batch: Any) -> None:
        batches.append(batch)
        await write(batch)

    store.database.write = counting
    return batches


async def _timed(loop: StatefulAgentLoop, session: str) -> float:
    begun = time.perf_counter()
    await loop.send("How is the weather in Rome today?", session)
    return time.perf_counter() - begun


async def measure() -> Report:
    report = Report()
    with tempfile.TemporaryDirectory(prefix="power-loop-bench-") as folder:
        await sinks(report, Path(folder))
    return report


if __name__ == "__main__":
    print(asyncio.run(measure()).text())
