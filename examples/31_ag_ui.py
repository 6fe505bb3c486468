"""AG-UI: a loop behind the protocol of agent user interfaces, over server-sent events, and a connection that breaks.

Runs offline with a scripted model: ``python examples/31_ag_ui.py``. A web framework would stream the same bytes.
"""

import asyncio
import json
import tempfile
from pathlib import Path

from power_loop import StatefulAgentLoop
from power_loop.contrib.ag_ui import run_sse
from power_loop.testing import ScriptedLLM, call, say


def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


ASKED = {
    "threadId": "thread-1",
    "runId": "run-1",
    "messages": [{"id": "1", "role": "user", "content": "How is the weather in Lisbon?"}],
}


async def connection(loop: StatefulAgentLoop, session: str, last: str | None, frames: int | None = None) -> str | None:
    """What a browser does: read frames, remember the id of the last one, and come back with it."""
    stream = run_sse(loop, ASKED, session_id=session, last_event_id=last)
    async for frame in stream:
        id, data = frame.decode().strip().split("\n")
        last, event = id.removeprefix("id: "), json.loads(data.removeprefix("data: "))
        print(f"  {event['type']:25} {event.get('delta') or event.get('content') or event.get('outcome') or ''}")
        frames = frames and frames - 1
        if frames == 0:
            break
    await stream.aclose()
    return last


async def main() -> None:
    model = ScriptedLLM([call("weather", city="Lisbon"), say("It is sunny in Lisbon.")])
    with tempfile.TemporaryDirectory() as folder:
        async with StatefulAgentLoop(llm=model, dsn=str(Path(folder) / "app.db"), tools=[weather]) as loop:
            session = await loop.new_session()  # yours to choose: which session this user's thread is
            last = await connection(loop, session, None, frames=4)
            print(f"... the connection broke behind {last}; the browser comes back ...")
            await connection(loop, session, last)


if __name__ == "__main__":
    asyncio.run(main())
