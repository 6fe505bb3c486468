"""Traces: a run as OpenTelemetry spans in the GenAI conventions. Needs ``pip install 'power-loop[otel]'``.

Runs offline with a scripted model: ``python examples/30_opentelemetry.py``.
"""

import asyncio
import tempfile
from pathlib import Path

from power_loop import AgentEventBus, AgentLoopConfig, StatefulAgentLoop
from power_loop.contrib.otel_sink import attach_otel_sink
from power_loop.testing import ScriptedLLM, call, say


def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


async def main() -> None:
    try:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    except ImportError:
        print("install the extra first: pip install 'power-loop[otel]'")
        return
    kept = InMemorySpanExporter()  # a program of yours exports to its collector: OTLPSpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))

    bus = AgentEventBus()
    bridge = attach_otel_sink(bus, tracer=provider.get_tracer("example"))
    model = ScriptedLLM([call("weather", city="Lisbon"), say("Sunny.")])
    config = AgentLoopConfig(model="scripted-1")
    with tempfile.TemporaryDirectory() as folder:
        dsn = str(Path(folder) / "app.db")
        async with StatefulAgentLoop(llm=model, dsn=dsn, tools=[weather], config=config, event_bus=bus, name="forecaster") as loop:
            await loop.run("How is the weather in Lisbon?")
    bridge.close()

    names = {span.context.span_id: span.name for span in kept.get_finished_spans()}
    for span in sorted(kept.get_finished_spans(), key=lambda span: span.start_time):
        tokens = span.attributes.get("gen_ai.usage.input_tokens", "")
        print(f"{span.name:25} below {names.get(span.parent.span_id) if span.parent else '-':25} {tokens}")


if __name__ == "__main__":
    asyncio.run(main())
