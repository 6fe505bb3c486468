"""Watching: one process drives a session, another shows it live, is cut off, and goes on where it stopped.

Runs offline with a scripted model: ``python examples/15_watch.py``.
"""

import asyncio
import tempfile
from pathlib import Path

from power_loop import AgentLoopConfig, StatefulAgentLoop
from power_loop.config import RunPolicy
from power_loop.testing import ScriptedLLM, call, say


def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


async def drive(dsn: str, session: str) -> None:
    """The process that pays the model. It knows of no watcher, and waits for none."""
    model = ScriptedLLM([call("weather", city="Lisbon"), say("It is sunny in Lisbon."), say("You are welcome.")])
    # With durable_stream watchers elsewhere see text while it is written, not only with its message.
    config = AgentLoopConfig(running=RunPolicy(durable_stream=True))
    async with StatefulAgentLoop(llm=model, dsn=dsn, tools=[weather], config=config) as loop:
        await loop.send("How is the weather in Lisbon?", session)
        await loop.send("Thank you!", session)


async def show(dsn: str, session: str, *, after: str, until: int) -> str:
    """A process that only looks: it shows events behind ``after`` and breaks off at the ``until``-th; the last cursor."""
    async with StatefulAgentLoop(llm=ScriptedLLM([]), dsn=dsn) as loop:
        async for event in loop.watch(session, after=after):
            after, until = event.cursor or after, until - 1
            if event.type == "message_appended":
                print(f"  {event.cursor:>5}  {event.payload['role']}: {event.payload['content'] or event.payload['tool_calls']}")
            if until == 0 or (event.type == "result" and event.result.send_index == 2):
                break
    return after


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        dsn = str(Path(folder) / "chat.db")
        async with StatefulAgentLoop(llm=ScriptedLLM([]), dsn=dsn) as loop:
            session = await loop.new_session()
        driving = asyncio.create_task(drive(dsn, session))

        print("the first reader")
        last = await show(dsn, session, after="0", until=7)
        print(f"is cut off behind {last}; the next one goes on there, with no gap and nothing twice")
        await show(dsn, session, after=last, until=1000)
        await driving


if __name__ == "__main__":
    asyncio.run(main())
