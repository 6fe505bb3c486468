"""A chatbot as a program would have it: a session per user, tools, streaming, retries, limits, and a word for every ending.

Run it with your name, and a model if you have one: python 19_full_chatbot.py ada openai:gpt-4o-mini
"""

import asyncio
import sys
from datetime import UTC, datetime
from typing import Annotated

from power_loop import AgentLoopConfig, LLMRetryPolicy, ModelRetry, StatefulAgentLoop, UsageLimits, tool

USER = sys.argv[1] if len(sys.argv) > 1 else "guest"
MODEL = sys.argv[2] if len(sys.argv) > 2 else "echo:"
CONFIG = AgentLoopConfig(
    system_prompt=f"You help {USER} with their appointments. Be brief.",
    max_rounds=8,
    retry_policy=LLMRetryPolicy(max_attempts=4, total_timeout=90),
    limits=UsageLimits(total_tokens=200_000, seconds=120),
)
APPOINTMENTS: dict[str, str] = {}


@tool(effects="pure")
def now() -> str:
    """The date and the time."""
    return datetime.now(UTC).isoformat(timespec="minutes")


@tool(effects="idempotent")
def appoint(day: Annotated[str, "as YYYY-MM-DD"], what: str) -> str:
    """Enter an appointment; an older one of that day is replaced."""
    if len(day) != len("2030-01-01"):
        raise ModelRetry(f"{day!r} is no date; write YYYY-MM-DD")
    APPOINTMENTS[day] = what
    return f"{day}: {what}"


async def answer(loop: StatefulAgentLoop, session: str, text: str) -> None:
    async for event in loop.stream(text, session, on_busy="raise", heal_pending=True):
        if event.type == "tool_call_started":
            print(f"[{event.payload['name']}] ", end="")
        print(event.delta, end="", flush=True)
        if event.type == "result" and event.result.status != "completed":
            print(event.result.final_text, end="")
    print()


async def main() -> None:
    async with StatefulAgentLoop(llm=MODEL, dsn="chatbot.db", config=CONFIG, tools=[now, appoint]) as loop:
        session = f"user/{USER}"
        if not await loop.prewarm(session):
            await loop.new_session(session_id=session, metadata={"user": USER})
        for line in sys.stdin:
            await answer(loop, session, line)
        print(await loop.get_session_stats(session))


asyncio.run(main())
