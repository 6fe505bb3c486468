"""Follow-ups: what is said while a send runs is heard in that send; said to a session at rest, it is a send."""

import asyncio

from power_loop import FollowUpQueued, StatefulAgentLoop, tool
from power_loop.testing import ScriptedLLM, call, respond

looking, found = asyncio.Event(), asyncio.Event()


@tool(effects="pure")
async def search(query: str) -> str:
    """Look something up; takes its time."""
    looking.set()
    await found.wait()
    return f"three hotels in {query}"


async def main() -> None:
    answers = respond(lambda request: f"I heard: {request.messages[-1]['content']}")
    async with StatefulAgentLoop(llm=ScriptedLLM([call("search", query="Rome"), answers, answers]), dsn=":memory:", tools=[search]) as loop:
        session = await loop.new_session()
        sending = asyncio.create_task(loop.send("Find me a hotel in Rome.", session))
        await looking.wait()

        queued = await loop.follow_up("With a garden, please.", session, key="click-1")
        assert isinstance(queued, FollowUpQueued)
        again = await loop.follow_up("With a garden, please.", session, key="click-1")  # a second click counts once
        print("queued:", queued.queue_depth, "| heard twice:", again != queued and not again.duplicate)
        found.set()
        print((await sending).final_text)
        print([message["role"] for message in await loop.get_messages(session)])  # never between a call and its result

        # Nothing runs now: enqueue leaves a word for whoever drives next, follow_up is a send.
        await loop.enqueue("By the way, I have a dog.", session)
        print("waiting:", len(await loop.inbox(session)))
        result = await loop.follow_up("Thank you.", session)
        print(result.final_text)


asyncio.run(main())
