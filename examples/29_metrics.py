"""Metrics: what Prometheus would scrape after two sends. Needs ``pip install 'power-loop[prometheus]'``.

Runs offline with a scripted model: ``python examples/29_metrics.py``.
"""

import asyncio
import tempfile
from pathlib import Path

from power_loop import AgentEventBus, StatefulAgentLoop
from power_loop.contrib.metrics_sink import PrometheusBackend, attach_metrics_sink
from power_loop.testing import ScriptedLLM, call, say


def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


async def main() -> None:
    bus = AgentEventBus()
    try:
        backend = PrometheusBackend()
    except ImportError as missing:
        print(missing)
        return
    attach_metrics_sink(bus, backend)

    model = ScriptedLLM([call("weather", city="Lisbon"), say("Sunny."), say("You are welcome.")])
    with tempfile.TemporaryDirectory() as folder:
        async with StatefulAgentLoop(llm=model, dsn=str(Path(folder) / "app.db"), tools=[weather], event_bus=bus) as loop:
            session = await loop.new_session()
            await loop.send("How is the weather in Lisbon?", session)
            await loop.send("Thank you.", session)

    # A server would call prometheus_client.start_http_server(9100) and be scraped; here is what it would serve.
    from prometheus_client import generate_latest

    for line in generate_latest(backend.registry).decode().splitlines():
        if line.startswith("power_loop_") and "_bucket" not in line and "_created" not in line:
            print(line)


if __name__ == "__main__":
    asyncio.run(main())
