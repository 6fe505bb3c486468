"""Folding: older sends become a summary once the result is out; the originals stay, and one long send folds its own rounds."""

import asyncio

from power_loop import AgentLoopConfig, LLMRequest, LLMSummaryFold, StatefulAgentLoop, estimate_tokens, tool
from power_loop.testing import FunctionLLM, call, say

PARTS = 12
asked = iter(range(1, PARTS + 1))


@tool(effects="pure")
def read(part: int) -> str:
    """Read a part of a long report."""
    return f"part {part}: " + "figures and footnotes " * 150


def model(request: LLMRequest) -> object:
    """Stands in for a real one, which would be an ``llm="openai:…"``."""
    if request.reason == "fold":
        return say("<summary>The user wants the report read; nothing stands out so far.</summary>")
    if request.messages[-1]["content"] == "Read all of it.":
        return call("read", part=next(asked))
    if request.messages[-1]["role"] == "tool" and (part := next(asked, None)):
        return call("read", part=part)
    return say("Noted.")


async def main() -> None:
    config = AgentLoopConfig(context_tokens=4000, fold_strategy=LLMSummaryFold(keep_last_sends=2))
    llm = FunctionLLM(model)
    async with StatefulAgentLoop(llm=llm, dsn="app.db", tools=[read], config=config) as loop:
        session = await loop.new_session()
        for n in range(8):
            await loop.send(f"Fact {n}: " + "something to remember " * 90, session)
        folds = await (await loop.ensure_store()).list_compactions(session)
        print("folds after sends:", len(folds), "| first message:", llm.requests[-1].messages[0]["content"][:46])

        result = await loop.send("Read all of it.", session)  # one send, far longer than the budget
        rounds = [request for request in llm.requests if request.reason != "fold"]
        print(result.status, "| rounds:", result.rounds, "| longest request:", max(estimate_tokens(each.messages) for each in rounds))

        everything = await loop.get_messages(session, include_compacted=True)
        print("stored:", len(everything), "| shown now:", len(await loop.get_messages(session)))


asyncio.run(main())
