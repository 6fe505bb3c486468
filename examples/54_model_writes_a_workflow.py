"""A model writes a workflow: what is wrong with it comes back as a list, it repairs it, and is told when the run has ended."""

import asyncio

from power_loop import LLMRequest, StatefulAgentLoop, ToolRegistry, Worker
from power_loop.testing import FunctionLLM, call
from power_loop.workflow import list_workflows, register_workflow_tools

BODY = {"type": "agent", "id": "poem", "spec": {"name": "poet", "system_prompt": "You write on {{what}}.", "tools": []}}
WRONG = {"name": "poems", "root": {"type": "foreach", "as": "what", "item": ["sea"], "body": {**BODY, "id": "2 poems"}}}
RIGHT = {"name": "poems", "root": {"type": "foreach", "id": "poems", "as": "what", "items": ["sea", "sky"], "body": BODY}}


def answer(request: LLMRequest):
    """Plays the poets, and the model that has them write."""
    last = request.messages[-1]
    if request.system_prompt.startswith("You write on"):
        return f"Oh {request.system_prompt[13:-1]}!"
    if "ended: completed" in str(last["content"]):
        return f"Here they are.\n{last['content']}"
    if last["role"] == "user":
        return call("create_workflow", spec=WRONG)
    print(last["content"], end="\n\n")
    if "problem" in last["content"]:
        return call("create_workflow", spec=RIGHT, input="Write.", detached=True)
    return "It is being done."


async def main() -> None:
    registry = ToolRegistry()
    register_workflow_tools(registry)
    async with StatefulAgentLoop(llm=FunctionLLM(answer), dsn=":memory:", tool_registry=registry) as loop:
        session = await loop.new_session()
        print((await loop.send("Two poems, please.", session)).final_text)
        while (await list_workflows(loop, session))[0]["status"] == "running":
            await asyncio.sleep(0.02)
        await Worker(loop).run_once()  # the end of the run waits in the session's inbox: once, whatever dies
        print((await loop.get_messages(session))[-1]["content"])


asyncio.run(main())
