"""Loops and processes that charge one ledger at the same time: none is let through beyond the limit, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import engines
import pytest
from families import Family, delegate, fan_out

from power_loop import (
    AgentHooks,
    AgentLoopConfig,
    ContextPolicy,
    LLMRequest,
    LLMSummaryFold,
    StatefulAgentLoop,
    ToolPolicy,
    ToolRun,
    UsageLimits,
    tool,
)
from power_loop.testing import FunctionLLM, call, check_invariants, say

TEN_AND_FIVE = {"prompt_tokens": 10, "completion_tokens": 5}


# acceptance: 144 (loops of their own)
async def test_sub_agents_of_separate_loops_share_the_parents_ledger(family: Family) -> None:
    async def spread(run: ToolRun) -> str:
        """Have eight loops do the work, each with its own way into the database."""
        children = [await run.store.create_session(parent_session_id=run.session_id, kind="subagent") for _ in range(8)]
        loops = [family.answering({}) for _ in children]
        results = await asyncio.gather(*(loop.send("work", child) for loop, child in zip(loops, children, strict=True)))
        return " ".join(sorted(result.status for result in results))

    loop = family.answering({"go": call("spread")}, tools=[spread])
    session = await loop.new_session()
    result = await loop.send("go", session, limits=UsageLimits(requests=6))
    assert (result.status, result.usage["calls"]) == ("budget_exceeded", 6)
    told = next(m["content"] for m in await loop.get_messages(session) if m["role"] == "tool")
    assert told.split().count("completed") == 5
    assert await family.rows("ledgers", "requests") == [(6,)]
    assert await family.rows("reservations") == []


PROGRAM = """
import asyncio, json, os, signal, sys
from power_loop import AgentLoopConfig, StatefulAgentLoop
from power_loop.testing import FunctionLLM, say

async def answer(request):
    await asyncio.sleep(0.005)
    if sys.argv[3] == "dies" and len(request.messages) > 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return say("ok", prompt_tokens=10, completion_tokens=5)

async def main():
    config = AgentLoopConfig(max_tokens=20)
    async with StatefulAgentLoop(llm=FunctionLLM(answer), dsn=sys.argv[1], config=config) as loop:
        made = 0
        while (await loop.send("work", sys.argv[2])).status == "completed":
            made += 1
        print(json.dumps(made))

asyncio.run(main())
"""


# acceptance: 144 (processes and kills)
@pytest.mark.parametrize("engine", [engine for engine in engines.FILES_AND_SERVERS if engine != "mysql"])
async def test_processes_that_charge_one_ledger_never_pass_its_limit_and_the_killed_are_charged(engine: str, tmp_path: Path) -> None:
    async with engines.cleared(engine, tmp_path) as dsn:
        await four_processes(dsn)


async def four_processes(dsn: str) -> None:
    begun: list[asyncio.subprocess.Process] = []

    async def spread(run: ToolRun) -> str:
        """One process is killed while its model is asked; then three work until the budget is gone."""
        for number in range(4):
            child = await run.store.create_session(parent_session_id=run.session_id, kind="subagent", session_id=f"child{number}")
            command = [sys.executable, "-c", PROGRAM, dsn, child, "dies" if number == 0 else "lives"]
            begun.append(await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE))
            if number == 0:
                await begun[0].wait()
        made = [json.loads((await process.communicate())[0] or b"0") for process in begun]
        return str(sum(made))

    llm = FunctionLLM(lambda request: call("spread") if request.messages[-1]["role"] == "user" else say("done", **TEN_AND_FIVE))
    async with StatefulAgentLoop(llm=llm, dsn=dsn, tools=[spread]) as loop:
        session = await loop.new_session()
        result = await loop.send("go", session, limits=UsageLimits(requests=30))
        assert result.status == "budget_exceeded"
        assert [process.returncode for process in begun] == [-signal.SIGKILL, 0, 0, 0]
        budget = await loop.budget(session)
        assert budget["spent"]["requests"] == result.usage["calls"] == 29
        assert budget["reserved"]["requests"] == 1, "the killed one's lease runs on for a while, and what it had reserved counts until then"
        store = await loop.ensure_store()
        async with StatefulAgentLoop(llm=FunctionLLM(lambda _: say("ok", **TEN_AND_FIVE)), store=store) as other:
            heir = await other.resume("child0")
        assert (heir.status, [row.estimated for row in await store.list_usage("child0")][-2:]) == ("completed", [True, False])
        assert await store.reservations("child0") == []
        after = await loop.budget(session)
        assert (after["spent"]["requests"], after["reserved"]["requests"]) == (30, 0)
        reported = [row for one in (session, *(f"child{n}" for n in range(4))) for row in await store.list_usage(one)]
        assert len(reported) == 31, "what the heir was answered is no longer the parent's, whose send is over"
        ((read, written),) = await store.database.read("SELECT input_tokens, output_tokens FROM pl_ledgers")
        assert read == sum(row.prompt_tokens for row in reported) - 10
        assert written == sum(row.completion_tokens for row in reported) - 5
        assert await check_invariants(store) == []


# acceptance: 29 (folds in the ledger), 144
@pytest.mark.parametrize("shaped", [False, True], ids=["", "and a handler shapes the words"])
async def test_folds_are_let_through_and_charged_like_other_calls(small_family: Any, shaped: bool) -> None:
    config = AgentLoopConfig(
        context_tokens=2000, max_tokens=100, context=ContextPolicy(fold_strategy=LLMSummaryFold(keep_last_sends=1, trigger_ratio=0.5))
    )
    hooks = AgentHooks()
    if shaped:
        hooks.register("message.append", lambda ctx: None)
    loop = small_family.answering({}, config=config, tools=[], hooks=hooks)
    session = await loop.new_session()
    for _ in range(6):
        result = await loop.send("x" * 1500, session, limits=UsageLimits(requests=9))
        assert result.status == "completed"
    await loop.aclose()
    store = await small_family.store()
    heir = small_family.answering({}, config=config, tools=[], hooks=hooks)
    await heir.send("last", session, limits=UsageLimits(requests=9))
    rows = await store.list_usage(session)
    assert "fold" in {row.purpose for row in rows}
    for send_index in {row.send_index for row in rows}:
        budgeted = await store.database.read("SELECT requests FROM pl_ledgers WHERE ledger_id = ?", (f"{session}/{send_index}",))
        assert budgeted == [(sum(1 for row in rows if row.send_index == send_index),)], send_index


async def test_however_many_want_to_be_let_through_at_once_each_of_them_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("power_loop.runtime.send.MAX_CONFLICTS", 30)
    crowd, together = 40, asyncio.Barrier(40)

    async def answer(request: LLMRequest) -> Any:
        if request.messages[-1]["role"] == "tool":
            return say("ok")
        if request.messages[-1]["content"] == "go":
            return fan_out([f"task {n}" for n in range(crowd)])
        async with together:  # all of them reserve for their second call at once
            return call("look")

    @tool(effects="pure")
    def look() -> str:
        """Look."""
        return "seen"

    family = Family("sqlite", str(tmp_path / "app.db"), None)
    config = AgentLoopConfig(limits=UsageLimits(requests=1000), tooling=ToolPolicy(concurrency=crowd))
    loop = family.loop(llm=FunctionLLM(answer), tools=[delegate, look], config=config)
    session = await loop.new_session()
    result = await loop.send("go", session)
    results = [m["content"] for m in await loop.get_messages(session) if m["role"] == "tool"]
    await family.close()
    assert results == ["completed: ok"] * crowd
    assert result.usage["calls"] == 2 + 2 * crowd
