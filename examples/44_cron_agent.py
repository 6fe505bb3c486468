"""A nightly agent: a cron expression in a time zone wakes it, also on the nights when clocks are moved. Extra: cron."""

import asyncio
from datetime import datetime
from zoneinfo import ZoneInfo

from power_loop import StatefulAgentLoop, Worker, tool
from power_loop.testing import FunctionLLM, call, say

ZONE = "Europe/Berlin"


@tool(effects="pure")
def orders_of_today() -> str:
    """What was ordered today."""
    return "12 bicycles, 3 bells"


def answer(request):
    last = request.messages[-1]
    return say(f"Report: {last['content']}.") if last["role"] == "tool" else call("orders_of_today")


async def main() -> None:
    async with StatefulAgentLoop(llm=FunctionLLM(answer), dsn="nightly.db", tools=[orders_of_today], name="nightly") as loop:
        session = await loop.new_session(metadata={"name": "nightly report"})
        timer = await loop.schedule_timer(session, cron="30 2 * * *", tz=ZONE, note="Write the report of the day.")
        due = datetime.fromtimestamp(timer.due_at / 1000, ZoneInfo(ZONE))
        print("due at", due.strftime("%H:%M"), "in", ZONE)

        # `await Worker(loop).run()` would wait for the night; here the night comes at once.
        store = await loop.ensure_store()
        assert await store.fire_due(now=timer.due_at) == 1
        await Worker(loop).run_once()
        print((await loop.get_messages(session))[-1]["content"])

        [armed] = await loop.list_timers(session)
        print("fired", armed.fire_count, "time; next in", round((armed.due_at - timer.due_at) / 3_600_000), "hours")


asyncio.run(main())
