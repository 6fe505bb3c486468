"""Many drivers on one server: runs and sub-agents are shared by claim, and nothing of a killed driver is lost or paid twice."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import engines
import pytest
from times import leases_end

from power_loop import StatefulAgentLoop, ToolRegistry, open_store
from power_loop.agents.tools import register_spawn_agent
from power_loop.contracts.model import LLMRequest
from power_loop.testing import Died, DyingStore, FunctionLLM, call, check_invariants, say
from power_loop.workflow import create_workflow, list_workflows, resume_run, run_detached

SHARED = ("postgresql", "mariadb")

DRIVER = """
import asyncio, sys
from power_loop import StatefulAgentLoop, Worker
from power_loop.testing import FunctionLLM

async def answer(request):
    text = str(request.messages[-1]["content"])
    if text.startswith("item"):
        print(text, flush=True)
        await asyncio.sleep(0.1)
    return "<" + text[:40] + ">"

async def main():
    loop = StatefulAgentLoop(llm=FunctionLLM(answer), dsn=sys.argv[1], name="fleet")
    await Worker(loop, poll_s=0.05, concurrency=2).run()

asyncio.run(main())
"""


def fan(run: int, count: int, width: int) -> dict[str, Any]:
    body = {"type": "agent", "id": "one", "spec": {"name": "one", "system_prompt": "You.", "tools": []}, "input": f"item {run} {{{{n}}}}"}
    items = {"type": "foreach", "id": "fan", "as": "n", "items": list(range(count)), "max_concurrency": width}
    return {"name": f"fan {run}", "root": {**items, "body": body}}


class Drivers:
    """Processes that drive what is due on one database, and the leaves that each of them said it ran."""

    def __init__(self) -> None:
        self.processes: list[asyncio.subprocess.Process] = []
        self.ran: list[list[str]] = []
        self._listening: list[asyncio.Task[None]] = []

    async def start(self, dsn: str) -> None:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", DRIVER, dsn, stdout=asyncio.subprocess.PIPE)
        self.processes.append(process)
        self.ran.append([])
        self._listening.append(asyncio.create_task(self._listen(process, self.ran[-1])))

    async def _listen(self, process: asyncio.subprocess.Process, ran: list[str]) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            ran.append(line.decode().strip())

    async def end(self) -> None:
        for process in self.processes:
            if process.returncode is None:
                process.kill()
            await process.wait()
        await asyncio.gather(*self._listening)


# acceptance: 104
@pytest.mark.parametrize("engine", SHARED)
async def test_drivers_on_one_server_share_runs_by_claim_and_finish_those_of_one_that_is_killed(engine: str, tmp_path: Path) -> None:
    async with engines.fresh(engine, tmp_path) as dsn:
        drivers = Drivers()
        async with StatefulAgentLoop(llm=FunctionLLM(lambda _: "unused"), dsn=dsn, name="fleet") as loop:
            parents = [await loop.new_session() for _ in range(4)]
            for number, parent in enumerate(parents):
                handle = await run_detached(create_workflow(fan(number, 10, 2), parent_loop=loop, parent_session_id=parent))
                handle.task.cancel()
                await asyncio.gather(handle.task, return_exceptions=True)
            try:
                for _ in range(3):
                    await drivers.start(dsn)
                while max(map(len, drivers.ran)) < 4:
                    await asyncio.sleep(0.02)
                busiest = drivers.ran.index(max(drivers.ran, key=len))
                drivers.processes[busiest].kill()
                while any([len(await loop.get_messages(parent)) < 2 for parent in parents]):
                    await asyncio.sleep(0.1)
            finally:
                await drivers.end()
            for parent in parents:
                assert [run["status"] for run in await list_workflows(loop, parent)] == ["completed"]
                heard = [each["content"] for each in await loop.get_messages(parent) if each["role"] == "user"]
                assert ["ended: completed" in str(text) for text in heard] == [True], "woken once"
            paid = Counter(leaf for ran in drivers.ran for leaf in ran)
            assert len(paid) == 40
            again = [leaf for leaf, times in paid.items() if times > 1]
            assert len(again) <= 2 * 2, "only what the killed one had under way ran again: two runs, two leaves each"
            assert set(again) <= set(drivers.ran[busiest])
            assert sum(bool(ran) for ran in drivers.ran) > 1, "they share the work"
            assert not await check_invariants(await loop.ensure_store())


# acceptance: 159
@pytest.mark.parametrize("at", [4, 7, 10])
@pytest.mark.parametrize("engine", SHARED)
async def test_a_run_that_dies_at_a_commit_on_a_server_pays_no_finished_leaf_again(engine: str, at: int, tmp_path: Path) -> None:
    async with engines.cleared(engine, tmp_path) as dsn:
        store, paid = await open_store(dsn), list[str]()

        def answer(request: LLMRequest) -> str:
            paid.append(str(request.messages[-1]["content"]))
            return f"<{paid[-1]}>"

        first = StatefulAgentLoop(llm=FunctionLLM(answer), store=DyingStore(store, at, "after"))
        with pytest.raises(Died):
            await create_workflow(fan(0, 3, 1), parent_loop=first).run()
        async with StatefulAgentLoop(llm=FunctionLLM(answer), store=store) as loop:
            (run,) = await list_workflows(loop, None)
            await leases_end(store)
            result = await resume_run(loop, None, run["run_id"])
            assert (result.status, result.final) == ("completed", "\n\n".join(f"<item 0 {n}>" for n in range(3)))
            assert sorted(paid) == [f"item 0 {n}" for n in range(3)]
            assert not await check_invariants(store, at_rest=True)
        await store.close()


@pytest.mark.parametrize("at", [3, 5, 7])
@pytest.mark.parametrize("engine", SHARED)
async def test_a_spawn_that_dies_at_a_commit_on_a_server_finds_its_child_and_goes_on(engine: str, at: int, tmp_path: Path) -> None:
    async with engines.cleared(engine, tmp_path) as dsn:
        store = await open_store(dsn)
        asked: Counter[str] = Counter()

        def answer(request: LLMRequest) -> Any:
            last = request.messages[-1]
            asked[str(last["content"])] += 1
            return call("spawn_agent", task="look") if last["content"] == "go" else say(f"<{last['content']}>")

        def loop_on(store: Any) -> StatefulAgentLoop:
            registry = ToolRegistry()
            register_spawn_agent(registry)
            return StatefulAgentLoop(llm=FunctionLLM(answer), store=store, tool_registry=registry)

        first = loop_on(DyingStore(store, at, "after"))
        session = await first.new_session()
        with pytest.raises(Died):
            await first.send("go", session, key="k")
        async with loop_on(store) as loop:
            await leases_end(store)
            result = await loop.send("go", session, key="k")
            assert (result.status, result.final_text) == ("completed", "<<look>>")
            assert max(asked.values()) == 1, asked
            assert not await check_invariants(store, at_rest=True)
        await store.close()
