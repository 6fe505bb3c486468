"""Sub-agents: a model gives tasks away, side by side, and reads what came of them. What they cost is in its own bill."""

import asyncio

from power_loop import (
    AgentLoopConfig,
    AgentSpec,
    LLMRequest,
    StatefulAgentLoop,
    ToolRegistry,
    open_store,
    register_spawn_agent,
    run_agent_spec,
)
from power_loop.testing import FunctionLLM, call, calls


def answer(request: LLMRequest):
    """Plays both models: the lead gives two tasks away, a helper answers."""
    task = request.messages[-1]["content"]
    if request.system_prompt != "You lead.":
        return f"about {task}: all is well"
    if len(request.messages) == 1:
        return calls(call("spawn_agent", task="the batteries"), call("spawn_agent", task="the chargers", tools=[]))
    return " / ".join(message["content"] for message in request.messages[2:])


async def main() -> None:
    registry = ToolRegistry()
    register_spawn_agent(registry)
    store = await open_store(max_spawn_depth=2)
    config = AgentLoopConfig(system_prompt="You lead.")
    async with StatefulAgentLoop(llm=FunctionLLM(answer), store=store, tool_registry=registry, config=config) as loop:
        loop.event_bus.subscribe("subagent_task_completed", lambda event: print("done:", event.payload["final_text"]))
        session = await loop.new_session()
        result = await loop.send("Report on electric cars.", session)
        print(result.final_text)
        print(f"{result.usage.requests} model calls in all, {result.usage_own.requests} of its own")

        # The same by hand; a linked child stays until its parent is closed.
        spec = AgentSpec("checker", "You check.", tools=[], max_rounds=3, lifecycle="linked")
        checked = await run_agent_spec(spec, "the report", parent_loop=loop, parent_session_id=session, spawn_tool_call_id="check-1")
        print(checked.status, checked.final_text)
        again = await run_agent_spec(spec, "the report", parent_loop=loop, parent_session_id=session, spawn_tool_call_id="check-1")
        print("found again, nothing was paid:", again.session_id == checked.session_id)
        print("sessions that go with the parent:", await loop.close_session(session))
    await store.close()


asyncio.run(main())
