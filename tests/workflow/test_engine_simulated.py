"""Random workflows on a real loop and store: wherever the process dies, the end is the same, and no finished leaf runs again."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest
from workflows import Maker

from power_loop import SessionStore, StatefulAgentLoop, open_store
from power_loop.contracts.model import LLMRequest
from power_loop.testing import DyingStore, FunctionLLM, ManualClock, check_invariants
from power_loop.workflow import WorkflowResult, WorkflowSpec, create_workflow, get_workflow, list_workflows, rehydrate, resume_run

# Seeds of small workflows that have, between them, every kind of node.
SEEDS = range(14)


def answer(request: LLMRequest) -> str:
    """The same for the same word; some leaves fail, whenever they are asked."""
    text = str(request.messages[-1]["content"])
    chance = random.Random(text)
    if chance.random() < 0.15:
        raise RuntimeError("by chance")
    if request.response_format is not None:
        return json.dumps({"topics": [f"t{n}" for n in range(chance.randrange(4))], "ok": chance.random() < 0.6})
    return f"<{chance.getrandbits(32):x}>"


async def to_its_end(loop: StatefulAgentLoop, result: WorkflowResult) -> WorkflowResult:
    """With every question answered."""
    while result.status == "waiting_for_input":
        run = await get_workflow(loop, None, result.run_id)
        await loop.submit_input(run["session_id"], run["waiting_for"][0]["interaction_id"], {"yes": True})
        result = await rehydrate(await loop.ensure_store(), None, result.run_id)
    return result


def told(result: WorkflowResult) -> Any:
    steps = [(name, each.status, each.text) for name, each in result.results.items()]
    return result.status, result.final, result.output, result.errors, steps


async def run_on(store: SessionStore, spec: WorkflowSpec) -> WorkflowResult:
    loop = StatefulAgentLoop(llm=FunctionLLM(answer), store=store)
    return await to_its_end(loop, await create_workflow(spec, parent_loop=loop).run())


async def finished(store: SessionStore) -> Counter[str]:
    rows = await store.database.read("SELECT body FROM pl_records WHERE kind = 'step_changed'")
    bodies = [json.loads(body) for (body,) in rows]
    return Counter(body["step"] for body in bodies if body["change"].get("state") == "completed")


# acceptance: 159
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_death_at_any_commit_changes_neither_the_end_nor_what_runs_again(seed: int) -> None:
    spec = Maker(seed, patient=True).workflow()
    straight = await run_on(await open_store(), spec)
    for at in range(2, 400, 1 + seed % 3):
        opened, clock = await open_store(), ManualClock()
        store = SessionStore(opened.database, opened.dialect, clock=clock)
        dying = DyingStore(store, at, "after" if at % 2 else "before")
        try:
            result = await run_on(dying, spec)
        except BaseException:
            if not dying.dead:
                raise
            clock.jump(120)
            loop = StatefulAgentLoop(llm=FunctionLLM(answer), store=store)
            (run,) = await list_workflows(loop, None)
            result = await to_its_end(loop, await resume_run(loop, None, run["run_id"]))
            await loop.aclose()
        assert told(result) == told(straight), at
        assert set((await finished(store)).values()) <= {1}, "a finished leaf ran again"
        assert not await check_invariants(store, at_rest=True)
        if not dying.dead:
            return
    raise AssertionError("the run never came to its end")
