"""Steering: a word that cannot wait interrupts the model, and is in its next request. Tools that run finish first."""

import asyncio

from power_loop import StatefulAgentLoop
from power_loop.testing import ScriptedLLM, hang, respond


async def main() -> None:
    answer = respond(lambda request: "I heard: " + " | ".join(row["content"].replace("\n", " ") for row in request.messages))
    async with StatefulAgentLoop(llm=ScriptedLLM([hang(after="Rome was founded"), answer]), dsn=":memory:") as loop:
        session = await loop.new_session()
        speaking = asyncio.Event()
        loop.event_bus.subscribe("stream_delta", lambda event: speaking.set())
        sending = asyncio.create_task(loop.send("Tell me everything about Rome.", session))
        await speaking.wait()

        # From this process or another one: the call in hand is cut off, and charged by estimate.
        await loop.follow_up("Only the weather, please.", session, mode="steer")
        result = await sending
        print(result.status, "|", result.final_text)
        print("model calls:", result.usage.requests, "| rounds:", result.rounds)
        print([row["role"] for row in await loop.get_messages(session)])  # what was cut off is not stored


asyncio.run(main())
