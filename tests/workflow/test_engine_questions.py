"""Questions of a run that are asked more than once: every time under an id of its own, so that each can be answered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from loops import kept

from power_loop import HumanInputRequired, RunPolicy, SessionBusyError, SessionStore, StatefulAgentLoop, Worker, open_store, tool
from power_loop.contracts.model import LLMRequest
from power_loop.testing import Died, DyingStore, FunctionLLM, ManualClock, call, calls, say
from power_loop.workflow import create_workflow, list_workflows, resume_run

pytestmark = pytest.mark.usefixtures("loops_closed")


class Desk:
    """A run whose only leaf calls one tool twice in a round and says what came of both."""

    loop: StatefulAgentLoop
    run: str

    def __init__(self) -> None:
        self.done: list[int] = []

    async def begin(self, asks: str) -> Desk:
        @tool(name="act", effects="once", needs_approval=asks == "approvals")
        async def act(n: int) -> str:
            """Do it."""
            if asks == "questions":
                raise HumanInputRequired(f"question {n}")
            self.done.append(n)
            return f"did {n}"

        spec = {"name": "a", "system_prompt": "P", "tools": ["act"]}
        self.loop = kept(StatefulAgentLoop(llm=FunctionLLM(twice), store=await open_store(), tools=[act]))
        workflow = create_workflow({"name": "w", "root": {"type": "agent", "id": "a", "input": "go", "spec": spec}}, parent_loop=self.loop)
        waiting = await workflow.run()
        assert waiting.status == "waiting_for_input"
        self.run = f"wf_{waiting.run_id}"
        return self

    async def of_leaf(self) -> tuple[str, list[str]]:
        """The leaf's session, and what it waits with."""
        store = await self.loop.ensure_store()
        (leaf,) = await store.list_children(self.run)
        pending = await self.loop.get_pending(leaf.session_id) or {}
        return leaf.session_id, [asked["interaction_id"] for asked in pending["pending_interactions"]]

    async def of_run(self) -> str:
        """What the run itself asks."""
        (asked,) = ((await self.loop.get_pending(self.run)) or {})["pending_interactions"]
        return str(asked["interaction_id"])


def twice(request: LLMRequest) -> Any:
    told = [message["content"] for message in request.messages if message["role"] == "tool"]
    return say(" and ".join(told)) if told else calls(call("act", n=1), call("act", n=2))


@pytest.mark.parametrize("driven_by", ["resume", "worker"])
async def test_approvals_of_a_leaf_may_come_in_any_order(driven_by: str) -> None:
    desk = await Desk().begin("approvals")
    first, second = await desk.loop.list_approvals(desk.run)
    for approval in (second, first):
        await desk.loop.approve(desk.run, approval.interaction_id, digest=approval.digest)
        for _ in range(3 if driven_by == "worker" else 0):
            await Worker(desk.loop).run_once()
        result = await desk.loop.resume(desk.run)
    assert (result.status, result.final_text, sorted(desk.done)) == ("completed", "did 1 and did 2", [1, 2])


async def test_a_run_hears_of_approvals_though_whoever_gave_them_died_before_it_was_told() -> None:
    desk = await Desk().begin("approvals")
    store = await desk.loop.ensure_store()
    for approval in await desk.loop.list_approvals(desk.run):
        dying = kept(StatefulAgentLoop(llm=FunctionLLM(twice), store=DyingStore(store, 1)))
        with pytest.raises(Died):
            await dying.approve(desk.run, approval.interaction_id, digest=approval.digest)
    assert await desk.loop.list_approvals(desk.run) == []
    result = await resume_run(desk.loop, None, desk.run.removeprefix("wf_"))
    assert (result.status, result.final, sorted(desk.done)) == ("completed", "did 1 and did 2", [1, 2])


async def test_answers_of_a_leaf_may_come_in_any_order() -> None:
    desk = await Desk().begin("questions")
    leaf, (first, second) = await desk.of_leaf()
    assert (await desk.loop.submit_input(leaf, second, "two")).status == "waiting_for_input"
    result = await desk.loop.submit_input(leaf, first, "one")
    assert (result.status, result.final_text) == ("completed", "one and two")


async def test_a_question_that_is_asked_again_by_the_run_can_be_answered_there() -> None:
    desk = await Desk().begin("questions")
    leaf, (_, second) = await desk.of_leaf()
    asked = await desk.of_run()
    await desk.loop.submit_input(leaf, second, "two")
    again = await desk.of_run()
    assert again != asked
    assert (await desk.loop.submit_input(desk.run, again, "one")).final_text == "one and two"


async def test_an_answer_is_no_decision() -> None:
    desk = await Desk().begin("approvals")
    with pytest.raises(ValueError, match="approve"):
        await desk.loop.submit_input(desk.run, await desk.of_run(), "yes")
    for approval in await desk.loop.list_approvals(desk.run):
        await desk.loop.deny(desk.run, approval.interaction_id, digest=approval.digest)
    assert ((await desk.loop.resume(desk.run)).status, desk.done) == ("completed", [])


async def test_a_question_that_nobody_answered_in_time_is_another_one_when_the_run_is_resumed() -> None:
    clock, opened = ManualClock(), await open_store()
    loop = kept(StatefulAgentLoop(llm=FunctionLLM(twice), store=SessionStore(opened.database, opened.dialect, clock=clock)))
    gate = {"type": "human", "id": "ask", "prompt": "Well?", "timeout_s": 60}
    waiting = await create_workflow({"name": "w", "root": gate}, parent_loop=loop).run()
    (asked,) = ((await loop.get_pending(f"wf_{waiting.run_id}")) or {})["pending_interactions"]
    clock.jump(61)
    assert (await loop.submit_input(f"wf_{waiting.run_id}", asked["interaction_id"], "late")).status == "failed"
    assert (await resume_run(loop, None, waiting.run_id)).status == "waiting_for_input"


async def test_a_question_that_was_changed_before_anybody_answered_is_asked_as_it_is_now() -> None:
    def document(*options: str) -> dict[str, Any]:
        asks = {"type": "human", "id": "ask", "prompt": "Which?", "kind": "choice", "options": list(options)}
        return {"name": "w", "root": {"type": "sequence", "steps": [asks, {"type": "human", "id": "why", "prompt": "Why?"}]}}

    loop = kept(StatefulAgentLoop(llm=FunctionLLM(twice), store=await open_store()))
    waiting = await create_workflow(document("x", "y"), parent_loop=loop).run()
    run = f"wf_{waiting.run_id}"
    (before,) = ((await loop.get_pending(run)) or {})["pending_interactions"]
    await resume_run(loop, None, waiting.run_id, spec=document("x", "z"))
    (asked,) = ((await loop.get_pending(run)) or {})["pending_interactions"]
    assert (asked["options"], asked["interaction_id"] == before["interaction_id"]) == (["x", "z"], False)
    await loop.submit_input(run, asked["interaction_id"], "z")
    (asked,) = ((await loop.get_pending(run)) or {})["pending_interactions"]
    assert (await loop.submit_input(run, asked["interaction_id"], "so")).status == "completed"


async def test_a_question_whose_time_ended_with_that_of_the_steps_around_it_is_asked_again_by_a_resume() -> None:
    clock, opened = ManualClock(), await open_store()
    loop = kept(StatefulAgentLoop(llm=FunctionLLM(twice), store=SessionStore(opened.database, opened.dialect, clock=clock)))
    gate = {"type": "human", "id": "ask", "prompt": "Well?", "timeout_s": 60}
    around = {"type": "sequence", "id": "around", "steps": [gate], "timeout_s": 60}
    waiting = await create_workflow({"name": "w", "root": around}, parent_loop=loop).run()
    clock.jump(61)
    late = await resume_run(loop, None, waiting.run_id)
    assert [each["node_id"] for each in late.errors] == ["around"]
    assert (await resume_run(loop, None, waiting.run_id)).status == "waiting_for_input"
    (again,) = ((await loop.get_pending(f"wf_{waiting.run_id}")) or {})["pending_interactions"]
    result = await loop.submit_input(f"wf_{waiting.run_id}", again["interaction_id"], "well")
    assert (result.status, result.final_text) == ("completed", "well")


async def both_at_once() -> tuple[StatefulAgentLoop, str, Any, Any]:
    """A run that asks somebody while a leaf of it works until it is let go."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def works(request: LLMRequest) -> str:
        begun.set()
        await go_on.wait()
        return "worked"

    loop = kept(StatefulAgentLoop(llm=FunctionLLM(works), store=await open_store()))
    leaf = {"type": "agent", "id": "a", "input": "go", "spec": {"name": "a", "system_prompt": "P"}}
    root = {"type": "parallel", "id": "both", "branches": [leaf, {"type": "human", "id": "ask", "prompt": "Well?"}]}
    workflow = create_workflow({"name": "w", "root": root}, parent_loop=loop)
    running = asyncio.create_task(workflow.run())
    await begun.wait()
    (run,) = await list_workflows(loop, None)
    return loop, f"wf_{run['run_id']}", running, go_on


async def test_an_answer_to_a_run_under_way_is_heard_and_its_end_is_waited_for() -> None:
    loop, run, running, go_on = await both_at_once()
    (asked,) = ((await loop.get_pending(run)) or {})["pending_interactions"]
    answering = asyncio.create_task(loop.submit_input(run, asked["interaction_id"], "well"))
    while not (await loop.store.look(run)).waiting and asked["interaction_id"] in str(await loop.get_pending(run)):
        await asyncio.sleep(0.001)
    assert not answering.done()
    go_on.set()
    assert ((await running).status, (await answering).status) == ("completed", "completed")


async def test_who_does_not_wait_is_told_who_drives_the_run() -> None:
    loop, run, running, go_on = await both_at_once()
    (asked,) = ((await loop.get_pending(run)) or {})["pending_interactions"]
    loop.config.running = RunPolicy(on_busy="raise")
    with pytest.raises(SessionBusyError) as refused:
        await loop.submit_input(run, asked["interaction_id"], "well")
    assert (refused.value.holder, refused.value.expires_at > 0) == (loop.drivers.holder, True)
    go_on.set()
    assert (await running).status == "completed", "the answer was left all the same"


async def test_who_waited_for_a_run_that_was_cancelled_leaves_it_so() -> None:
    loop, run, running, _ = await both_at_once()
    (asked,) = ((await loop.get_pending(run)) or {})["pending_interactions"]
    answering = asyncio.create_task(loop.submit_input(run, asked["interaction_id"], "well"))
    while (await loop.store.look(run)).waiting:
        await asyncio.sleep(0.001)
    await loop.cancel(run)
    assert ((await running).status, (await answering).status) == ("cancelled", "cancelled")
    assert (await list_workflows(loop, None))[0]["status"] == "cancelled"


async def test_who_waits_for_a_run_when_the_loop_is_closed_is_told_so_and_begins_nothing() -> None:
    loop, run, running, _ = await both_at_once()
    waiting = asyncio.create_task(loop.resume(run))
    await asyncio.sleep(0)
    await loop.aclose(drain_timeout_s=0.01)
    with pytest.raises(RuntimeError, match="closed"):
        await waiting
    assert ((await running).status, len(loop.llm.requests)) == ("cancelled", 1)
