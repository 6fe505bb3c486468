"""Events in a file: written by a thread of its own, rotated, without secrets, and read back after the process is gone.

Runs offline with a scripted model: ``python examples/28_jsonl_events.py``.
"""

import asyncio
import tempfile
from pathlib import Path

from power_loop import AgentEventBus, StatefulAgentLoop
from power_loop.contrib.jsonl_sink import attach_jsonl_sink, replay
from power_loop.testing import ScriptedLLM, call, say


def sign_in(user: str, password: str) -> str:
    """Sign in somewhere."""
    return f"{user} is signed in"


async def main() -> None:
    model = ScriptedLLM([call("sign_in", user="ada", password="analytical"), say("You are in.")])
    with tempfile.TemporaryDirectory() as folder:
        bus = AgentEventBus()
        sink = attach_jsonl_sink(bus, Path(folder) / "events.jsonl", max_bytes=1_000_000)
        async with StatefulAgentLoop(llm=model, dsn=str(Path(folder) / "app.db"), tools=[sign_in], event_bus=bus) as loop:
            await loop.run("Sign me in.")
        sink.close()

        for event in replay(sink.path):
            if event.type == "tool_call_completed":
                print(f"#{event.seq} {event.type}: {event.payload['tool_input']} -> {event.payload['output']}")
            elif event.type == "usage_updated":
                print(f"#{event.seq} {event.type}: {event.payload['usage']['total_tokens']} tokens")
        print(f"{sink.path.stat().st_size} bytes, {sink.dropped} events dropped, {sink.errors} errors")


if __name__ == "__main__":
    asyncio.run(main())
