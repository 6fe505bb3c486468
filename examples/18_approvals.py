"""Approvals: a call waits until somebody allows exactly these arguments, in any process, days later; or says why not."""

import asyncio
from typing import Any

from power_loop import ApprovalError, StatefulAgentLoop, ToolRun, tool
from power_loop.testing import ScriptedLLM, call, calls, respond

DSN = "approvals.db"


async def is_dear(run: ToolRun, args: dict[str, Any]) -> bool:
    """Small refunds need nobody. A rule that raises means yes."""
    return args["euros"] > 10


@tool(effects="once", needs_approval=is_dear)
async def refund(order: int, euros: float) -> str:
    """Pay a customer back."""
    return f"{euros:g} euros for order {order} were paid"


def loop_of(*script: Any) -> StatefulAgentLoop:
    return StatefulAgentLoop(llm=ScriptedLLM(script), dsn=DSN, tools=[refund])


async def the_agent() -> str:
    wanted = calls(call("refund", order=1, euros=5), call("refund", order=2, euros=500), call("refund", order=3, euros=9000))
    async with loop_of(wanted) as loop:
        session = await loop.new_session()
        result = await loop.send("Refund the orders 1, 2 and 3.", session)
        print(result.status, "|", [question["prompt"] for question in result.pending_interactions])
        return session


async def the_clerk(session: str) -> None:
    """Another process: it needs neither the tools nor a model, only the database."""
    async with StatefulAgentLoop(llm="echo:", dsn=DSN) as loop:
        second, third = await loop.list_approvals(session)
        await loop.approve(session, second.interaction_id, digest=second.digest, by="ann")
        await loop.deny(session, third.interaction_id, digest=third.digest, by="ann", note="above 1000 the customer has to call us")
        try:
            await loop.deny(session, second.interaction_id, digest=second.digest, by="bob")
        except ApprovalError as error:
            print("bob:", error.reason)


async def the_agent_goes_on(session: str) -> None:
    async with loop_of(respond(lambda request: "\n".join(m["content"] for m in request.messages if m["role"] == "tool"))) as loop:
        print((await loop.resume(session)).final_text)  # a worker would do it by itself


waiting = asyncio.run(the_agent())
asyncio.run(the_clerk(waiting))
asyncio.run(the_agent_goes_on(waiting))
