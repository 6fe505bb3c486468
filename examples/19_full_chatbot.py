"""A chatbot as a program would have it: a session per user, a tool, streaming, retries, limits, and a word for every ending.

Run it with your name, and a model if you have one: python 19_full_chatbot.py ada openai:gpt-4o-mini
"""

import asyncio
import json
import sys
from datetime import date
from pathlib import Path

from power_loop import AgentLoopConfig, LLMRetryPolicy, ModelRetry, PowerLoopError, StatefulAgentLoop, UsageLimits, tool

USER = sys.argv[1] if len(sys.argv) > 1 else "guest"
MODEL = sys.argv[2] if len(sys.argv) > 2 else "echo:"  # it repeats you, and calls a tool where a line says so
# Said where nothing is typed.
SAMPLE = ["Good morning!", 'call appoint {"day": "2030-01-01", "what": "sleep in"}', 'call appoint {"day": "soon", "what": "rest"}']
CALENDAR = Path(f"calendar-{USER}.json")
CONFIG = AgentLoopConfig(
    system_prompt=f"You help {USER} with their appointments. Be brief. Today is {date.today()}.",
    max_rounds=8,
    retry_policy=LLMRetryPolicy(max_attempts=4, total_timeout=90),
    limits=UsageLimits(total_tokens=200_000, seconds=120),
)


@tool(effects="idempotent")  # entered twice, it is the same calendar
def appoint(day: str, what: str) -> dict[str, str]:
    """Enter an appointment (day: YYYY-MM-DD) in place of an older one of that day. Returns the calendar."""
    try:
        entry = {date.fromisoformat(day).isoformat(): what}
    except ValueError:
        raise ModelRetry(f"{day!r} is no date; write YYYY-MM-DD") from None
    calendar = {**(json.loads(CALENDAR.read_text()) if CALENDAR.exists() else {}), **entry}
    CALENDAR.write_text(json.dumps(calendar))
    return calendar


async def answer(loop: StatefulAgentLoop, session: str, text: str) -> None:
    try:
        async for event in loop.stream(text, session, on_busy="raise", heal_pending=True):
            if event.type == "tool_call_completed":
                print(f"[{event.payload['name']}: {event.payload['output']}] ", end="")
            if event.type == "result" and event.result.status != "completed":
                print(event.result.final_text, end="")  # a limit, a cancel, a model that stays away: in words
            print(event.delta, end="", flush=True)
    except PowerLoopError as error:
        print(error, end="")  # busy in another window, archived, a database that is gone
    print()


async def main() -> None:
    async with StatefulAgentLoop(llm=MODEL, dsn="chatbot.db", config=CONFIG, tools=[appoint]) as loop:
        session = f"user/{USER}"
        if not await loop.prewarm(session):
            await loop.new_session(session_id=session, metadata={"user": USER})
        print(f"Hello {USER}. Ctrl-D ends; the conversation stays in chatbot.db.")
        lines = iter(sys.stdin if sys.stdin.isatty() else sys.stdin.readlines() or SAMPLE)
        while line := await asyncio.to_thread(next, lines, ""):
            await answer(loop, session, line.strip())
        stats = await loop.get_session_stats(session)
        print(f"{stats.sends} sends, {stats.llm_calls} model calls, {stats.total_tokens} tokens so far")


asyncio.run(main())
