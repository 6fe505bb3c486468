"""What it cost: per send, per model call, per session; prices, and a budget in money. The model is scripted."""

import asyncio

from power_loop import AgentLoopConfig, Price, StatefulAgentLoop, UsageLimits, tool
from power_loop.testing import ScriptedLLM, call, calls, say


@tool(effects="pure")
def add(a: int, b: int) -> int:
    """The sum."""
    return a + b


SCRIPT = [
    calls(call("add", a=2, b=2), prompt_tokens=900, completion_tokens=20),
    say("Four.", prompt_tokens=950, completion_tokens=5, cached_tokens=900),
    calls(call("add", a=3, b=3), prompt_tokens=1000, completion_tokens=20),
]
# Per million tokens, in one currency of your choice; names may be globs.
PRICES = {"scripted*": Price(input=3.0, output=15.0, cache_read=0.3)}


async def main() -> None:
    config = AgentLoopConfig(prices=PRICES)
    async with StatefulAgentLoop(llm=ScriptedLLM(SCRIPT), dsn=":memory:", config=config, tools=[add]) as loop:
        session = await loop.new_session()

        usage = (await loop.send("2 + 2?", session)).usage
        print(dict(usage))
        print(f"{usage.requests} calls, {usage.cache_read_tokens} tokens from the cache, cost {usage.cost:.6f}")

        result = await loop.send("3 + 3?", session, limits=UsageLimits(cost=0.003))
        print(result.status, f"at {result.usage.cost:.6f}")  # the call that crosses the limit finishes with its tools

        store = await loop.ensure_store()
        for row in await store.list_usage(session):
            print(
                f"send {row.send_index}, round {row.round_index}: {row.prompt_tokens} in, {row.completion_tokens} out, cost {row.cost:.6f}"
            )
        stats = await loop.get_session_stats(session)
        print(f"the session: {stats.sends} sends, {stats.llm_calls} calls, {stats.total_tokens} tokens, cost {stats.cost:.6f}")


asyncio.run(main())
