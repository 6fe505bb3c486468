"""The laws of the kernel, where the performers could break them: nothing spins, and no call is answered twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from power_loop import AgentHooks, HookResult, StatefulAgentLoop, tool
from power_loop.contracts.hooks import HookDirective
from power_loop.contracts.records import ToolReturned
from power_loop.testing import ScriptedLLM, call, calls, say


@pytest.fixture
async def loops() -> AsyncIterator[list[StatefulAgentLoop]]:
    made: list[StatefulAgentLoop] = []
    yield made
    for loop in made:
        await loop.aclose()


async def test_a_veto_whose_words_another_handler_drops_is_no_veto(loops: list[StatefulAgentLoop]) -> None:
    hooks = AgentHooks()
    asked = 0

    def not_yet(ctx: object) -> HookResult:
        nonlocal asked
        asked += 1
        assert asked < 10, "the loop spins"
        ctx.message = "not yet"  # type: ignore[attr-defined]  # the context of this point has it
        return HookResult(HookDirective.SKIP)

    hooks.register("complete.decide", not_yet)
    hooks.register("message.append", lambda ctx: HookResult(HookDirective.SKIP))
    loop = StatefulAgentLoop(llm=ScriptedLLM([say("done")]), dsn=":memory:", hooks=hooks)
    loops.append(loop)
    result = await loop.send("hi", await loop.new_session())
    assert (result.status, result.final_text, asked) == ("completed", "done", 1)


async def test_a_call_that_is_answered_from_outside_while_it_runs_is_answered_once(loops: list[StatefulAgentLoop]) -> None:
    @tool
    async def slow() -> str:
        """Ends when the other answer has been heard."""
        for _ in range(10_000):
            if not await loop.inbox(session_id) and answered.is_set():
                return "its own answer"
            await asyncio.sleep(0)
        raise AssertionError("the answer from outside was never heard")

    @tool
    async def quick() -> str:
        """Somebody settles the slow call meanwhile."""
        pending = await loop.get_pending(session_id)
        assert pending is not None
        store = await loop.ensure_store()
        await store.post(session_id, ToolReturned(pending["tool_call_ids"][0], "from outside", ran=False), key="settled")
        answered.set()
        return "done"

    answered = asyncio.Event()
    llm = ScriptedLLM([calls(call("slow"), call("quick")), say("ok")])
    loop = StatefulAgentLoop(llm=llm, dsn=":memory:", tools=[slow, quick])
    loops.append(loop)
    session_id = await loop.new_session()
    assert (await loop.send("go", session_id)).status == "completed"
    store = await loop.ensure_store()
    answers = [row.content for row in await store.load_all_messages(session_id) if row.role == "tool"]
    assert answers == ["from outside", "done"]
    results = [row for row in await store.rows(session_id, after=0) if row.cells.kind == "tool_returned"]
    assert len(results) == 2
