"""Sub-agents and workflows among the jobs of a session: what they are, how they stand, and that they can be stopped."""

from __future__ import annotations

import asyncio
from typing import Any

from power_loop import AgentSpec, StatefulAgentLoop, open_store, run_agent_spec
from power_loop.contracts.model import LLMRequest
from power_loop.testing import FunctionLLM
from power_loop.workflow import create_workflow, run_detached

WAITING = {"name": "gate", "root": {"type": "human", "id": "ask", "prompt": "Well?"}}
LEAF = {"name": "one", "root": {"type": "agent", "id": "a", "spec": {"name": "a", "system_prompt": "You."}, "input": "hang"}}


async def answer(request: LLMRequest) -> str:
    if request.messages[-1]["content"] == "hang":
        await asyncio.Event().wait()
    return "done"


async def test_sub_agents_and_workflows_are_jobs_of_the_session_that_began_them() -> None:
    async with StatefulAgentLoop(llm=FunctionLLM(answer), store=await open_store()) as loop:
        parent = await loop.new_session()
        spec = AgentSpec("scout", "You look.", lifecycle="linked")
        await run_agent_spec(spec, "look", parent_loop=loop, parent_session_id=parent, spawn_tool_call_id="c1")
        waiting = await create_workflow(WAITING, parent_loop=loop, parent_session_id=parent).run()
        handle = await run_detached(create_workflow(LEAF, parent_loop=loop, parent_session_id=parent))
        while not (await (await loop.ensure_store()).list_children(f"wf_{handle.run_id}")):
            await asyncio.sleep(0.01)
        jobs = await loop.list_jobs(parent)
        told = [(job.kind, job.command, job.status, job.output) for job in jobs]
        workflows = [("workflow", "gate", "waiting", ""), ("workflow", "one", "running", "")]
        assert sorted(told) == [("agent", "scout", "completed", "done"), *workflows]
        assert {job.job_id for job in jobs} >= {f"wf_{waiting.run_id}", f"wf_{handle.run_id}"}
        assert await loop.stop_job(parent, f"wf_{handle.run_id}", reason="not needed")
        assert (await handle.task).status == "cancelled"
        stopped: Any = next(job for job in await loop.list_jobs(parent) if job.job_id == f"wf_{handle.run_id}")
        assert (stopped.status, stopped.output) == ("stopped", "[cancelled: not needed]")
        assert not await loop.stop_job(parent, f"wf_{handle.run_id}", reason="again")
        assert not await loop.stop_job(parent, "wf_0123456789abcdef", reason="not ours")
