"""Events: text as it comes, a listener of its own thread, and events that are stored and read back.

Runs offline with a scripted model: ``python examples/08_events.py``.
"""

import asyncio
import json
import tempfile
from pathlib import Path

from power_loop import AgentEvent, AgentEventBus, AgentEventType, StatefulAgentLoop
from power_loop.testing import ScriptedLLM, call, say


def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


async def main() -> None:
    stored: list[str] = []
    bus = AgentEventBus(sync_dispatch="thread", on_overflow="drop_oldest")
    bus.subscribe(None, lambda event: stored.append(json.dumps(event.to_dict())))  # slow work belongs on the worker thread
    bus.subscribe(AgentEventType.TOOL_CALL_COMPLETED, lambda event: print(f"  [{event.data.name}: {event.data.outcome}]"), inline=True)

    model = ScriptedLLM([call("weather", city="Lisbon"), say("It is sunny in Lisbon.")])
    with tempfile.TemporaryDirectory() as folder:
        async with StatefulAgentLoop(llm=model, dsn=str(Path(folder) / "chat.db"), tools=[weather], event_bus=bus) as loop:
            session = await loop.new_session()
            async for event in loop.stream("How is the weather in Lisbon?", session):
                print(event.delta, end="", flush=True)
            print(f"\n{event.result.status}: {event.result.usage}")

    await bus.drain()
    bus.shutdown()
    events = [AgentEvent.from_dict(json.loads(line)) for line in stored]
    print(f"{len(events)} events, {bus.dropped} dropped, from {events[0].type} to {events[-1].type}")


if __name__ == "__main__":
    asyncio.run(main())
