"""An agent with two tools, kept in a SQLite file: run it again and it goes on with the same conversation. It asks the model
that its argument (PROVIDER:MODEL) or the environment names; else a script plays the model's part."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Literal

from power_loop import AgentLoopConfig, LLMRetryPolicy, LLMService, StatefulAgentLoop, create_llm, create_llm_service_from_env, tool
from power_loop.testing import ScriptedLLM, call

DATABASE, NOTES, SESSION = "demo.db", Path("demo-notes.txt"), "demo"
MODEL, SETTINGS = sys.argv[1:2], ("POWER_LOOP_BASE_URL", "POWER_LOOP_API_KEY", "POWER_LOOP_MODEL")
CHAT = [os.path.relpath(Path(sys.executable).with_name("power-loop")), "chat", SESSION, "--dsn", DATABASE, *(MODEL and ["--model", *MODEL])]
METRES = {"m": 1.0, "km": 1000.0, "mile": 1609.344}


@tool(effects="pure")  # cut off by a crash, it simply runs again
def convert(value: float, unit: Literal["m", "km", "mile"], to: Literal["m", "km", "mile"]) -> str:
    """Convert a length."""
    return f"{value * METRES[unit] / METRES[to]:.2f} {to}"


@tool(effects="once")  # run twice, the line would stand there twice: cut off, it is reported as unknown and never repeated
def add_note(text: str) -> str:
    """Write a line at the end of the user's note pad."""
    with NOTES.open("a", encoding="utf-8") as pad:
        pad.write(text + "\n")
    return "noted"


def chosen_model() -> LLMService:
    """The model that was asked for; one that is named but not wholly configured is no reason to go offline in silence."""
    try:
        if MODEL or any(name in os.environ for name in SETTINGS):
            return create_llm(MODEL[0]) if MODEL else create_llm_service_from_env()
    except ValueError as missing:
        sys.exit(str(missing))
    print(f"Offline: a script plays the model. To ask a real one: make demo MODEL=openai:gpt-4o-mini, or set {', '.join(SETTINGS)}.\n")
    return ScriptedLLM()


async def main() -> None:
    llm, config = chosen_model(), AgentLoopConfig(retry_policy=LLMRetryPolicy())  # a model that fails ends the send as "degraded"
    async with StatefulAgentLoop(llm=llm, dsn=DATABASE, tools=[convert, add_note], config=config) as loop:
        if not await loop.prewarm(SESSION):
            await loop.new_session(session_id=SESSION)
        said = [m for m in await loop.get_messages(SESSION) if m["role"] in ("user", "assistant") and m["content"]]
        miles = 5 + len(said)
        question = f"I ran {miles} miles. How many kilometres is that? Put it on my note pad."
        print("".join(f"({m['role']}, before) {m['content']}\n" for m in said) + f"> {question}")
        if isinstance(llm, ScriptedLLM):
            km = convert(miles, "mile", "km")  # a tool is still a function
            llm.add(call("convert", value=miles, unit="mile", to="km"), call("add_note", text=f"ran {km}"), f"That is {km}. I noted it.")
        async for event in loop.stream(question, SESSION, heal_pending=True):
            if event.type == "tool_call_completed":
                print(f"\n  {event.payload['name']} {event.payload['tool_input']} -> {event.payload['output']}")
            elif event.type == "result" and event.result.status != "completed":
                print(event.result.final_text)
            print(event.delta, end="", flush=True)
    print(f"\n\nThe conversation is in {DATABASE}. Run this again, or go on with it:\n  {' '.join(CHAT)}")


asyncio.run(main())
