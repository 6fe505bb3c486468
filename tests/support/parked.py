"""A session that waits for two people: one who approves a payment and one who answers a question."""

from __future__ import annotations

from typing import Any

from power_loop import HumanInputRequired, StatefulAgentLoop, tool
from power_loop.testing import ScriptedLLM, call, calls, say


@tool(needs_approval=True)
def pay(euros: int) -> str:
    """Pay."""
    return f"paid {euros}"


@tool
def ask(question: str) -> str:
    """Ask the user."""
    raise HumanInputRequired(prompt=question)


async def waiting(place: Any) -> StatefulAgentLoop:
    """The loop that goes on with session ``asked`` once both have spoken."""
    loop = StatefulAgentLoop(
        llm=ScriptedLLM([calls(call("pay", euros=5), call("ask", question="Where to?")), say("done")]), store=place.store, tools=[pay, ask]
    )
    await loop.new_session(session_id="asked")
    result = await loop.send("go", "asked")
    assert result.status == "waiting_for_input"
    return loop
