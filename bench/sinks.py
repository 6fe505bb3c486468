"""What listening costs: publishing to one inline listener, and all sinks together on a plain send.

Counted is processor time of all threads, of sends with sinks and without, by turns: the events themselves, whatever the sinks do
to them, and the libraries. Beside it stand the libraries alone, which is less than a user would pay who writes events by himself:
they are handed ready lines (no JSON is made, nothing is redacted), numbers under ready labels, and attributes all at once.

python bench/sinks.py
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry
from report import Report
from sends import Instant
from sinks_bare import NO_SERVER, Recorded, Work, works

from power_loop import AgentEvent, AgentEventBus, AgentLoopConfig, StatefulAgentLoop, open_store
from power_loop.contrib.jsonl_sink import JsonlSink, attach_jsonl_sink
from power_loop.contrib.logging_sink import attach_logging_sink
from power_loop.contrib.metrics_sink import PrometheusBackend, StatsDBackend, attach_metrics_sink
from power_loop.contrib.otel_sink import attach_otel_sink
from power_loop.store.sql_store import SessionStore

PUBLISH_BAR_US, SINKS_BAR_MS = 5, 0.6
# The bar in milliseconds, by what the bare libraries took where it was set: it holds on slower machines too.
SINKS_BAR_RATIO = round(SINKS_BAR_MS / 0.45, 2)
EVENTS, SENDS, REPEATS = 20_000, 50, 15


async def sinks(report: Report, folder: Path) -> None:
    """Add the figures to ``report``."""
    published = min(_published_us(None) for _ in range(REPEATS))
    heard = min(_published_us(lambda event: None) for _ in range(REPEATS))
    beside = f"{published:.2f} us with no listener"
    report.add("publish, one inline listener", f"{heard:.2f} us", beside, f"<= {PUBLISH_BAR_US} us", heard <= PUBLISH_BAR_US)
    async with AsyncExitStack() as held:
        plain = await held.enter_async_context(_sender(lambda bus: []))
        bare = works(await _recorded(folder), folder)
        silent = await held.enter_async_context(_sender(lambda bus: bus.subscribe(None, _read) or []))
        told, beside_ms, spent = await _beside(silent, plain, list(bare.values()))
        report.add("a plain send, and events that nobody reads", f"+{told:.3f} ms", f"{spent:.3f} ms without, ratio {1 + told / spent:.2f}")
        for name, attach in SINKS.items():
            sender = await held.enter_async_context(_sender(lambda bus, attach=attach: [attach(bus, folder)]))
            told, beside_ms, _ = await _beside(sender, plain, [bare[name]])
            report.add(f"a plain send, and {name}", f"+{told:.3f} ms", f"{beside_ms:.3f} ms the bare library")
        everything = await held.enter_async_context(_sender(lambda bus: [attach(bus, folder) for attach in SINKS.values()]))
        told, beside_ms, _ = await _beside(everything, plain, list(bare.values()))
        commits = everything.batches_of_a_send - plain.batches_of_a_send
        beside = f"{beside_ms:.3f} ms libraries, ratio {told / beside_ms:.2f}, {commits:+g} commits"
        kept = (told <= SINKS_BAR_MS or told <= beside_ms * SINKS_BAR_RATIO) and commits == 0
        bar = f"<= {SINKS_BAR_MS} ms or {SINKS_BAR_RATIO} x the libraries, and no commit"
        report.add("a plain send, and all sinks", f"+{told:.3f} ms", beside, bar, kept)


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


class StatsD:
    """The sink, and the backend that sends what it counts."""

    errors = 0

    def __init__(self, bus: AgentEventBus) -> None:
        self._backend = StatsDBackend(host="127.0.0.1", port=NO_SERVER)
        self._sink = attach_metrics_sink(bus, self._backend)
        self.flush = self._backend.flush

    def close(self) -> None:
        self.errors = self._sink.errors
        self._sink.close()
        self._backend.close()


SINKS: dict[str, Callable[[AgentEventBus, Path], Any]] = {
    "logging": _logging,
    "JSONL": lambda bus, folder: attach_jsonl_sink(bus, folder / "events.jsonl"),
    "Prometheus": lambda bus, folder: attach_metrics_sink(bus, PrometheusBackend(CollectorRegistry())),
    "StatsD": lambda bus, folder: StatsD(bus),
    "OpenTelemetry": _otel,
}


class Sender:
    """A loop that sends plain sends, with sinks on its bus."""

    def __init__(self, loop: StatefulAgentLoop, session: str, batches: list[Any], sinks: Sequence[Any]) -> None:
        self._loop, self._session, self._batches = loop, session, batches
        self._later = [sink for sink in sinks if isinstance(sink, JsonlSink | StatsD)]
        self._sends = 0

    @property
    def batches_of_a_send(self) -> float:
        return len(self._batches) / self._sends

    async def spent_ms(self, work: Sequence[Work] = (), sends: int = SENDS) -> float:
        """Processor time of a send, of what its sinks do later, and of ``work`` behind it, in milliseconds."""
        begun = time.process_time()
        for _ in range(sends):
            await self._loop.send("How is the weather in Rome today?", self._session)
            for each in work:
                each()
        for each in self._later:
            each.flush()
        self._sends += sends
        return (time.process_time() - begun) / sends * 1000


async def _beside(sender: Sender, plain: Sender, bare: Sequence[Work]) -> tuple[float, float, float]:
    """What listening adds to a plain send; what the bare libraries add; what it takes alone. Milliseconds, measured by turns."""
    spent = [(await sender.spent_ms(), await plain.spent_ms(), await plain.spent_ms(bare)) for _ in range(REPEATS)]
    with_sinks, alone, with_bare = (statistics.median(each) for each in zip(*spent, strict=True))
    return with_sinks - alone, with_bare - alone, alone


@asynccontextmanager
async def _sender(attach: Callable[[AgentEventBus], list[Any]]) -> AsyncGenerator[Sender]:
    store = await open_store(":memory:")
    bus = AgentEventBus()
    attached = attach(bus)
    batches = _counted(store)
    async with StatefulAgentLoop(llm=Instant(), store=store, event_bus=bus, config=AgentLoopConfig(context_tokens=10_000_000)) as loop:
        session = await loop.new_session()
        await loop.send("warm up", session)
        batches.clear()
        yield Sender(loop, session, batches, attached)
    for sink in attached:
        sink.close()
        assert sink.errors == 0, f"{type(sink).__name__} failed"
    await store.close()


async def _recorded(folder: Path) -> Recorded:
    """What the sinks ask of their libraries for one plain send."""
    recorded: list[Recorded] = []

    def record(bus: AgentEventBus) -> list[Any]:
        recorded.append(Recorded(bus, folder))
        return []

    async with _sender(record) as sender:
        recorded[0].forget()
        await sender.spent_ms(sends=1)
    recorded[0].close()
    return recorded[0]


def _read(event: AgentEvent) -> None:
    assert event.payload is not None


def _counted(store: SessionStore) -> list[Any]:
    batches: list[Any] = []
    write = store.database.write

    async def counting(batch: Any) -> None:
        batches.append(batch)
        await write(batch)

    store.database.write = counting
    return batches


async def measure() -> Report:
    report = Report()
    with tempfile.TemporaryDirectory(prefix="power-loop-bench-") as folder:
        await sinks(report, Path(folder))
    return report


if __name__ == "__main__":
    print(asyncio.run(measure()).text())
