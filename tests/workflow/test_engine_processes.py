"""Workflows and real processes: one is killed in the middle, others go on, and only one of them at a time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import engines
import pytest
from times import leases_end

from power_loop import StatefulAgentLoop, Worker, open_store
from power_loop.contracts.model import LLMRequest
from power_loop.testing import Died, DyingStore, FunctionLLM, check_invariants
from power_loop.workflow import WorkflowRunError, create_workflow, get_workflow, list_workflows, resume_run

FIRST = """
import asyncio, sys
from power_loop import StatefulAgentLoop
from power_loop.testing import FunctionLLM
from power_loop.workflow import create_workflow, run_detached

async def answer(request):
    text = request.messages[-1]["content"]
    if text in ("item 3", "item 4"):
        await asyncio.Event().wait()
    return f"<{text}>"

async def main():
    loop = StatefulAgentLoop(llm=FunctionLLM(answer), db_path=sys.argv[1])
    parent = await loop.new_session(session_id="parent")
    body = {"type": "agent", "id": "one", "spec": {"name": "one", "system_prompt": "You.", "tools": []}, "input": "item {{n}}"}
    fan = {"type": "foreach", "id": "fan", "as": "n", "items": list(range(8)), "body": body, "max_concurrency": 2}
    loop.event_bus.subscribe("system_log", lambda event: print(event.payload["message"], flush=True), inline=True)
    handle = await run_detached(create_workflow({"name": "fan", "root": fan}, parent_loop=loop, parent_session_id=parent))
    await handle.task

asyncio.run(main())
"""


async def killed(path: Path) -> None:
    """A process that began a detached run, and was killed when three of its items were journaled and two under way."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", FIRST, str(path), stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    async with loop_on(path, []) as onlooker:
        while b"fan[4].one began" not in await process.stdout.readline():
            continue
        (run,) = await list_workflows(onlooker, "parent")
        while (await get_workflow(onlooker, "parent", run["run_id"]))["progress"]["root.body"]["completed"] < 3:
            continue
    process.kill()
    await process.wait()


def loop_on(path: Path, paid: list[str], goes_on: asyncio.Event | None = None) -> StatefulAgentLoop:
    async def answer(request: LLMRequest) -> str:
        paid.append(str(request.messages[-1]["content"]))
        if goes_on is not None:
            await goes_on.wait()
        return f"<{paid[-1]}>"

    return StatefulAgentLoop(llm=FunctionLLM(answer), db_path=path)


# acceptance: 104
async def test_a_run_whose_process_was_killed_is_finished_by_a_worker_and_its_parent_hears_once(tmp_path: Path) -> None:
    path, paid = tmp_path / "app.db", list[str]()
    await killed(path)
    async with loop_on(path, paid) as loop:
        store = await loop.ensure_store()
        worker = Worker(loop, poll_s=0.05)
        running = asyncio.create_task(worker.run())
        while len(await loop.get_messages("parent")) < 2:
            await asyncio.sleep(0.05)
        await worker.stop()
        await running
        heard = [str(each["content"]) for each in await loop.get_messages("parent")]
        assert ["ended: completed" in text for text in heard if not text.startswith("<<")] == [True]
        assert sorted(text for text in paid if text.startswith("item")) == [f"item {n}" for n in range(3, 8)]
        assert (await list_workflows(loop, "parent"))[0]["status"] == "completed"
        assert not await check_invariants(store, at_rest=True)


# acceptance: 160
async def test_of_two_that_go_on_with_a_dead_ones_run_one_does_and_the_other_is_told(tmp_path: Path) -> None:
    path, paid, was_told = tmp_path / "app.db", list[str](), asyncio.Event()
    await killed(path)

    async def goes_on(loop: StatefulAgentLoop, run_id: str) -> Any:
        try:
            return await resume_run(loop, "parent", run_id)
        except WorkflowRunError as refused:
            was_told.set()
            return refused

    async with loop_on(path, paid, was_told) as one, loop_on(path, paid, was_told) as other:
        (run,) = await list_workflows(one, "parent")
        assert run["status"] == "interrupted"
        results: list[Any] = await asyncio.gather(*(goes_on(loop, run["run_id"]) for loop in (one, other)))
        refused = [each for each in results if isinstance(each, WorkflowRunError)]
        assert [each.code for each in refused] == ["workflow.busy"]
        assert [each.status for each in results if each not in refused] == ["completed"]
        assert len(paid) == 5


@pytest.mark.parametrize("engine", engines.ALL)
async def test_a_run_goes_on_after_a_death_on_every_engine(engine: str, tmp_path: Path) -> None:
    async with engines.fresh(engine, tmp_path) as dsn:
        store, paid = await open_store(dsn), list[str]()

        def answer(request: LLMRequest) -> str:
            paid.append(str(request.messages[-1]["content"]))
            return f"<{paid[-1]}>"

        body = {"type": "agent", "id": "one", "spec": {"name": "one", "system_prompt": "You.", "tools": []}, "input": "item {{n}}"}
        gate = {"type": "human", "id": "ask", "prompt": "Shall we?"}
        fan = {"type": "foreach", "id": "fan", "as": "n", "items": list(range(4)), "body": body, "max_concurrency": 2}
        spec = {"name": "w", "root": {"type": "sequence", "steps": [fan, gate]}}
        first = StatefulAgentLoop(llm=FunctionLLM(answer), store=DyingStore(store, 9))
        with pytest.raises(Died):
            await create_workflow(spec, parent_loop=first).run()
        async with StatefulAgentLoop(llm=FunctionLLM(answer), store=store) as loop:
            (run,) = await list_workflows(loop, None)
            await leases_end(store)
            waiting = await resume_run(loop, None, run["run_id"])
            assert waiting.status == "waiting_for_input", waiting.summary()
            assert sorted(paid) == [f"item {n}" for n in range(4)]
            (asked,) = (await get_workflow(loop, None, run["run_id"]))["waiting_for"]
            diagnosis = await loop.doctor(run["session_id"])
            assert diagnosis.state == "waiting"
            assert (await loop.submit_input(run["session_id"], asked["interaction_id"], {"go": [1]})).output == {"go": [1]}
            assert not await check_invariants(store)
        await store.close()


def test_nothing_of_the_engine_is_loaded_with_the_door() -> None:
    look = "import sys; from power_loop import StatefulAgentLoop; print([name for name in sys.modules if 'power_loop.workflow' in name])"
    assert subprocess.run([sys.executable, "-c", look], check=True, capture_output=True, text=True).stdout == "[]\n"
