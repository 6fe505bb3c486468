"""What workflows cost: the engine's share of a leaf, a foreach of 10,000 items, the start of a worker process.

python bench/workflows.py
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from report import Report

from power_loop import AgentSpec, StatefulAgentLoop
from power_loop.contracts.model import LLMRequest, LLMResponse, LLMTokenUsage
from power_loop.testing import FunctionLLM
from power_loop.workflow import SubprocessExecutor, WorkerBootstrap, create_workflow

LEAVES, MANY, WIDTH = 500, 10_000, 16
LEAF_BAR_MS, START_BAR_MS, MEMORY_BAR_BYTES = 1.0, 400, 8_000
ANSWER = LLMResponse(content_text="yes", token_usage=LLMTokenUsage(10, 1, 11))


class Elsewhere:
    """An executor whose leaves take no time, so that what is left is the engine."""

    async def run_agent(self, spec: AgentSpec, user_input: str, **where: Any) -> dict[str, Any]:
        return {"status": "completed", "final_text": "yes", "usage": {"calls": 1, "total_tokens": 11}}


def fan(count: int) -> dict[str, Any]:
    body = {"type": "agent", "id": "one", "spec": {"name": "one", "system_prompt": "You.", "tools": []}, "input": "item {{n}}"}
    return {"name": "fan", "root": {"type": "foreach", "id": "fan", "as": "n", "items": list(range(count)), "body": body,
                                    "max_concurrency": WIDTH}}  # fmt: skip


def a_loop(path: Path) -> StatefulAgentLoop:
    async def answer(_: LLMRequest) -> LLMResponse:
        return ANSWER

    return StatefulAgentLoop(llm=FunctionLLM(answer), dsn=f"sqlite:///{path.resolve()}?synchronous=full")


async def workflows(report: Report, folder: Path) -> None:
    """Add the figures to ``report``."""
    async with a_loop(folder / "workflows.db") as loop:
        await _leaves(report, loop)
        await _many(report, loop)
    await _start(report, folder)


async def _leaves(report: Report, loop: StatefulAgentLoop) -> None:
    await create_workflow(fan(50), parent_loop=loop).run()
    engine = await _per_leaf_ms(loop, Elsewhere())
    whole = await _per_leaf_ms(loop, None)
    session = await loop.new_session()
    begun = time.perf_counter()
    for _ in range(100):
        await loop.send("item", session)
    send = (time.perf_counter() - begun) * 10
    report.add(
        f"workflow: engine per leaf, {WIDTH} at a time", f"{engine:.2f} ms", f"leaf with its session {whole:.2f} ms, send {send:.2f} ms",
        f"at most {LEAF_BAR_MS:g} ms", engine <= LEAF_BAR_MS,
    )  # fmt: skip


async def _per_leaf_ms(loop: StatefulAgentLoop, executor: Any) -> float:
    begun = time.perf_counter()
    result = await create_workflow(fan(LEAVES), parent_loop=loop, executor=executor).run()
    assert result.ok, result.summary()
    return (time.perf_counter() - begun) * 1000 / LEAVES


async def _many(report: Report, loop: StatefulAgentLoop) -> None:
    tracemalloc.start()
    begun = time.perf_counter()
    result = await create_workflow(fan(MANY), parent_loop=loop, executor=Elsewhere()).run()
    seconds = time.perf_counter() - begun
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result.ok
    report.add(
        f"workflow: foreach of {MANY:,} items, memory", f"{peak / MANY:,.0f} bytes/item",
        f"peak {peak / 1e6:.0f} MB, {seconds:.1f} s traced", f"at most {MEMORY_BAR_BYTES:,} bytes/item", peak / MANY <= MEMORY_BAR_BYTES,
    )  # fmt: skip


async def _start(report: Report, folder: Path) -> None:
    executor = SubprocessExecutor(
        bootstrap=WorkerBootstrap(llm_from_env=True), runs_dir=folder / "runs", env={"POWER_LOOP_PROVIDER": "echo"}
    )  # fmt: skip
    times: list[float] = []
    for _ in range(5):
        begun = time.perf_counter()
        told = await executor.run_agent(AgentSpec("a", "You.", []), "go", parent_loop=None, driver_sid="")
        times.append((time.perf_counter() - begun) * 1000)
        assert told["status"] == "completed", told
    median = sorted(times)[2]
    bar = f"at most {START_BAR_MS} ms"
    report.add("workflow: a leaf in a process of its own", f"{median:.0f} ms", "start, send, end", bar, median <= START_BAR_MS)


async def _main() -> None:
    with tempfile.TemporaryDirectory(prefix="power-loop-bench-", dir=".") as folder:
        await workflows(Report(), Path(folder))


if __name__ == "__main__":
    asyncio.run(_main())
