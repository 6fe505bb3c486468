"""Projection: finished sends are shown in two terse texts; `recall_send` gives the whole, and the axis switches both ways."""

import asyncio

from power_loop import AgentLoopConfig, ProjectedRepresentation, StatefulAgentLoop, VerbatimRepresentation, tool
from power_loop.testing import ScriptedLLM, call, say


@tool(effects="pure", project=lambda args, result: {"city": args["city"], "found": (result or "").count("hotel")})
def hotels(city: str) -> str:
    """Find hotels."""
    return ", ".join(f"{city} hotel number {n}, with a garden and a view" for n in range(40))


async def main() -> None:
    model = ScriptedLLM(
        [call("hotels", city="Rome"), say("Take number 7."), say("Number 7, as I said."), say("With pleasure."), say("Bye.")]
    )
    config = AgentLoopConfig(representation=ProjectedRepresentation(max_chars=200))
    async with StatefulAgentLoop(llm=model, dsn="app.db", tools=[hotels], config=config) as loop:
        session = await loop.new_session()
        await loop.send("Find me a hotel in Rome.", session)
        await loop.send("Which one was it?", session)
        for message in model.requests[-1].messages:
            print(f"{message['role']}: {message['content']}")

        loop.config.representation = VerbatimRepresentation()  # word for word again: nothing was lost
        await loop.send("Thank you.", session)
        print("word for word:", [message["role"] for message in model.requests[-1].messages])

        loop.config.representation = ProjectedRepresentation(max_chars=200)  # what was said meanwhile is projected too
        await loop.send("Goodbye.", session)
        print("projected:", [message["content"][:4] for message in model.requests[-1].messages])


asyncio.run(main())
