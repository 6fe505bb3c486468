"""Streaming: text as the model writes it, tools as they run, and the result as the last event. The model is scripted."""

import asyncio

from power_loop import StatefulAgentLoop, ToolRun, tool
from power_loop.testing import ScriptedLLM, call, calls, say


@tool(effects="pure")
async def weather(run: ToolRun, city: str) -> str:
    """The weather in a city."""
    await run.progress(f"asking about {city}", 0.5)
    return f"{city}: sunny"


async def main() -> None:
    script = [calls(call("weather", city="Rome"), call("weather", city="Oslo"), text="Let me look."), say("It is sunny in both.")]
    async with StatefulAgentLoop(llm=ScriptedLLM(script), dsn=":memory:", tools=[weather]) as loop:
        session = await loop.new_session()
        async for event in loop.stream("How is the weather in Rome and Oslo?", session):
            match event.type:
                case "stream_delta":
                    print(event.delta, end="", flush=True)
                case "stream_completed":
                    print()
                case "tool_call_started" | "tool_call_completed" | "tool_progress":
                    print(f"  [{event.type}] {event.payload}")
                case "result":
                    print(f"{event.result.status} after {event.result.rounds} rounds, {event.result.usage.total_tokens} tokens")

        # A listener hears the same events of every session of the loop, without iterating.
        loop.event_bus.subscribe("message_appended", lambda event: print(f"stored: {event.payload['role']}"))
        loop.llm.add("You are welcome.")
        await loop.send("Thank you.", session)


asyncio.run(main())
