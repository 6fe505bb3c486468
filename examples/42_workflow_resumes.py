"""A workflow survives: the process that drives it is killed in the middle, another one goes on, and nothing is paid twice."""

import asyncio
import os
import subprocess
import sys
import tempfile

from power_loop import AgentLoopConfig, LLMRequest, RunPolicy, StatefulAgentLoop
from power_loop.testing import FunctionLLM
from power_loop.workflow import create_workflow, list_workflows, resume_run

BODY = {"type": "agent", "id": "one", "spec": {"name": "one", "system_prompt": "You work.", "tools": []}, "input": "item {{n}}"}
FAN = {"name": "fan", "root": {"type": "foreach", "id": "fan", "as": "n", "items": list(range(12)), "body": BODY, "max_concurrency": 2}}


def loop_on(path: str, paid: list[str]) -> StatefulAgentLoop:
    async def answer(request: LLMRequest) -> str:
        await asyncio.sleep(0.05)
        paid.append(request.messages[-1]["content"])
        print(f"process {os.getpid()} paid for {paid[-1]}", flush=True)
        return "done"

    return StatefulAgentLoop(llm=FunctionLLM(answer), db_path=path, config=AgentLoopConfig(running=RunPolicy(lease_ttl_s=2)))


async def first(path: str) -> None:
    async with loop_on(path, []) as loop:
        await create_workflow(FAN, parent_loop=loop).run()


async def second(path: str) -> None:
    paid: list[str] = []
    async with loop_on(path, paid) as loop:
        (run,) = await list_workflows(loop, None)
        print("found:", run["name"], run["status"])
        result = await resume_run(loop, None, run["run_id"])
        print(result.summary())
        print(f"{len(paid)} of {len(FAN['root']['items'])} were left to pay for")


if len(sys.argv) > 1:
    asyncio.run(first(sys.argv[1]))
else:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "app.db")
        with subprocess.Popen([sys.executable, __file__, path], stdout=subprocess.PIPE, text=True) as child:
            for _ in range(5):
                print(" ", child.stdout.readline(), end="")
            child.kill()
        asyncio.run(second(path))
