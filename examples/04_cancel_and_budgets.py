"""How a send is stopped: by a token, from another task, by the round limit, by a budget. Each is a status, and the session goes on."""

import asyncio

from power_loop import CancellationToken, StatefulAgentLoop, UsageLimits, tool
from power_loop.testing import ScriptedLLM, call, hang


@tool(effects="pure")
async def search(query: str) -> str:
    """Look something up."""
    return f"three pages about {query}"


async def main() -> None:
    llm = ScriptedLLM()
    async with StatefulAgentLoop(llm=llm, dsn=":memory:", tools=[search]) as loop:
        session = await loop.new_session()

        token = CancellationToken()
        llm.add(hang(after="Once upon a time"))
        asyncio.get_running_loop().call_later(0.05, token.cancel, "the user closed the page")
        result = await loop.send("Tell me a long story.", session, stop_event=token)
        print(result.status, "|", result.final_text, "| said so far:", result.partial_text)

        # The same from anywhere, also from another process: a durable request.
        llm.add(hang())
        sending = asyncio.create_task(loop.send("And another one.", session))
        while not await loop.cancel(session, reason="enough"):
            await asyncio.sleep(0.01)
        print((await sending).final_text)

        # One round more than allowed: the model is asked once more, without tools, to sum up.
        llm.add(call("search", query="whales"), "I found three pages about whales.")
        result = await loop.send("Find whales.", session, max_rounds=1)
        print(result.status, "|", result.final_text.splitlines()[-1])

        # A budget: the call that crosses it finishes with its tools, and none follows.
        llm.add(call("search", query="birds"))
        result = await loop.send("Find birds.", session, limits=UsageLimits(requests=1))
        print(result.status, "|", result.tool_calls, "tool call ran |", result.usage.requests, "model call")

        # A send that a limit ended can be given more: the same send goes on, nothing is paid or run twice.
        llm.add("Three pages about birds.")
        result = await loop.resume(session, limits=UsageLimits(requests=5))
        print(result.status, "|", result.final_text)


asyncio.run(main())
