"""Leaves on a real local cluster of processes: the contract of executors, with workers and the scheduler killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from forks import ForkServer

from power_loop import StatefulAgentLoop, ToolRegistry, Worker, open_store
from power_loop.errors import HumanInputRequired
from power_loop.testing import FunctionLLM, call, say
from power_loop.workflow import DaskExecutor, InProcessExecutor, WorkerBootstrap, create_workflow, get_workflow, resume_run

distributed = pytest.importorskip("distributed")
pytestmark = [pytest.mark.filterwarnings("ignore")]  # of the cluster's own code, when parts of it are killed

PROGRAM = Path(__file__).with_name("dask_program.py")
ENVIRONMENT = {"POWER_LOOP_PROVIDER": "echo", "POWER_LOOP_ECHO_SLEEP": "0.2"}


class Cluster(NamedTuple):
    """A scheduler and two workers: what speaks with them, and their process ids."""

    client: Any
    scheduler: int
    workers: list[int]


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    with ForkServer(PROGRAM, tmp_path_factory.mktemp("pieces")) as server:
        yield server


@pytest.fixture
async def cluster(pieces: ForkServer, tmp_path: Path) -> AsyncIterator[Cluster]:
    told = tmp_path / "scheduler.json"
    where = ["--scheduler-file", str(told), "--host", "127.0.0.1", "--no-dashboard"]
    own = ["--nthreads", "2", "--no-nanny", "--local-directory"]
    arguments = [["--port", "0"], *([*own, str(tmp_path / f"w{n}")] for n in range(2))]
    files = [tmp_path / name for name in ("scheduler", "worker0", "worker1")]
    jobs = [
        {"piece": file.name.rstrip("01"), "arguments": [*where, *more], "dir": str(tmp_path), "pid": str(file), "env": ENVIRONMENT}
        for file, more in zip(files, arguments, strict=True)
    ]
    pieces.start(*jobs)
    await until(lambda: all(read(file) for file in (*files, told)))
    pids = [int(read(file)) for file in files]
    client = await distributed.Client(scheduler_file=str(told), asynchronous=True, timeout=100)
    await client.wait_for_workers(2)
    yield Cluster(client, pids[0], pids[1:])
    await client.close(timeout=2)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    pieces.ended()


def read(path: Path) -> str:
    """What another process wrote there, when it wrote all of it: a number or an object of JSON. Else nothing."""
    try:
        return str(json.loads(path.read_text()))
    except (FileNotFoundError, ValueError):
        return ""


async def until(holds: Callable[[], object]) -> None:
    """Looks again, until another process did it."""
    while not holds():
        await asyncio.sleep(0.02)


BOOT = WorkerBootstrap(llm_from_env=True)


def fan(count: int, **more: Any) -> dict[str, Any]:
    body = {"type": "agent", "id": "one", "spec": {"name": "one", "system_prompt": "You.", "tools": []}, "input": "item {{n}}", **more}
    fan = {"type": "foreach", "id": "fan", "as": "n", "items": list(range(count)), "body": body, "max_concurrency": 4}
    return {"name": "fan", "root": fan}


# Made in functions, so that they travel as they are: a cluster cannot import what stands in a test.
def stuck_from(first: int) -> WorkerBootstrap:
    """Items from ``first`` on are never answered."""

    async def answer(request: Any) -> Any:
        item = int(request.messages[-1]["content"].split()[1])
        if item >= first:
            await asyncio.Event().wait()
        return say(f"answer {item}")

    return WorkerBootstrap(llm_factory=lambda: FunctionLLM(answer))


async def a_loop() -> StatefulAgentLoop:
    return StatefulAgentLoop(llm=FunctionLLM(lambda _: "in process"), store=await open_store())


# acceptance: 163
async def test_leaves_run_on_a_cluster_and_those_of_a_killed_worker_run_elsewhere(cluster: Cluster, tmp_path: Path) -> None:
    client, _, workers = cluster
    async with await a_loop() as loop:
        spec = fan(8, retry={"max_attempts": 3})
        handle = await create_workflow(spec, parent_loop=loop, executor=DaskExecutor(client, bootstrap=BOOT)).start()
        await until(lambda: list((tmp_path / "w0").rglob("*.db")))
        os.kill(workers[0], signal.SIGKILL)
        result = await handle.task
        assert result.ok, result.summary()
        assert [f"item {n}" in result.results[f"fan[{n}].one"].text for n in range(8)] == [True] * 8
        assert result.usage["calls"] == 8, "each result counts once"


# acceptance: 163
async def test_a_killed_scheduler_fails_the_leaves_and_the_run_goes_on_elsewhere(cluster: Cluster, tmp_path: Path) -> None:
    client, scheduler, _ = cluster
    async with await a_loop() as loop:
        handle = await create_workflow(fan(4), parent_loop=loop, executor=DaskExecutor(client, bootstrap=stuck_from(0))).start()
        await until(lambda: len(list(tmp_path.rglob("*.db"))) == 4)
        os.kill(scheduler, signal.SIGKILL)
        result = await handle.task
        assert result.status == "failed"
        assert "the cluster lost the leaf" in result.errors[0]["error"]
        again = await resume_run(loop, None, result.run_id, executor=InProcessExecutor())
        assert (again.status, again.final) == ("completed", "\n\n".join(["in process"] * 4))


# acceptance: 163
async def test_a_whole_cluster_that_is_killed_fails_its_leaves_and_another_one_runs_only_what_is_left(cluster: Cluster) -> None:
    client, scheduler, workers = cluster
    async with await a_loop() as loop:
        handle = await create_workflow(fan(8), parent_loop=loop, executor=DaskExecutor(client, bootstrap=stuck_from(4))).start()
        while (await get_workflow(loop, None, handle.run_id))["progress"].get("root.body", {}).get("completed", 0) < 4:
            await asyncio.sleep(0.02)
        for each in (scheduler, *workers):
            os.kill(each, signal.SIGKILL)
        failed = await handle.task
        assert failed.status == "failed"
        finished = [name for name, each in failed.results.items() if each.status == "completed"]
        assert finished == [f"fan[{n}].one" for n in range(4)]
        again = await resume_run(loop, None, handle.run_id, executor=InProcessExecutor())
        assert again.status == "completed"
        assert {name for name, each in again.results.items() if "in process" in each.text} == set(again.results) - set(finished)


# acceptance: 163
async def test_a_leaf_on_a_cluster_that_asks_waits_without_a_machine_and_goes_on_on_another(cluster: Cluster, tmp_path: Path) -> None:
    client, _, workers = cluster

    async def ask(what: str) -> str:
        """Ask somebody."""
        raise HumanInputRequired(what)

    def reply(request: Any) -> Any:
        last = request.messages[-1]
        return call("ask", what="Which?") if last["role"] == "user" else say(f"it is {last['content']}")

    boot = WorkerBootstrap(llm_factory=lambda: FunctionLLM(reply), registry_factory=lambda: ToolRegistry([ask]))
    async with await a_loop() as loop:
        executor = DaskExecutor(client, bootstrap=boot)
        leaf = {"type": "agent", "id": "a", "spec": {"name": "a", "system_prompt": "You."}, "input": "go"}
        waiting = await create_workflow({"name": "w", "root": leaf}, parent_loop=loop, executor=executor).run()
        assert waiting.status == "waiting_for_input", waiting.summary()
        (ran_on,) = [n for n in range(2) if list((tmp_path / f"w{n}").rglob("a__*.db"))]
        os.kill(workers[ran_on], signal.SIGKILL)
        (asked,) = (await get_workflow(loop, None, waiting.run_id))["waiting_for"]
        Worker(loop, executor=executor)
        result = await loop.submit_input(f"wf_{waiting.run_id}", asked["interaction_id"], "blue")
        assert (result.status, result.final_text, result.usage["calls"]) == ("completed", "it is blue", 2)
        assert list((tmp_path / f"w{1 - ran_on}").rglob("a__*.db"))
