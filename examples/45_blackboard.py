"""A blackboard: agents of two loops share one list of tasks and findings, in one database."""

import asyncio

from power_loop import (
    RuntimeEnv,
    SqliteBlackboard,
    StatefulAgentLoop,
    ToolRegistry,
    open_store,
    register_blackboard_tools,
    render_entries,
    runtime_env_context,
)
from power_loop.testing import ScriptedLLM, call, say

PLANS = [call("board_post", text="Read Monday's logs", kind="task"), call("board_post", text="Ask the night shift", kind="task"), say("ok")]
WORKS = [
    call("board_read"),
    call("board_update", entry_id=1, status="done"),
    call("board_post", text="A disk was full at 3:12"),
    say("The disk was full."),
]


async def main() -> None:
    store = await open_store("board.db")
    board = SqliteBlackboard(store)
    tools = ToolRegistry()
    register_blackboard_tools(tools)
    for name, script in (("planner", PLANS), ("digger", WORKS)):
        loop = StatefulAgentLoop(llm=ScriptedLLM(script), store=store, tool_registry=tools)
        session = await loop.new_session(metadata={"name": name})
        with runtime_env_context(RuntimeEnv(blackboard=board, blackboard_id="incident-7")):
            result = await loop.send("Find out what happened on Monday.", session)
        print(f"{name}: {result.final_text}")
        await loop.aclose()
    print(render_entries(await board.read("incident-7"), header="The board at the end:", empty="nothing"))
    await store.close()


asyncio.run(main())
