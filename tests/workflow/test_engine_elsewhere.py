"""Leaves with a store of their own: what they use is charged above the run, once; what they ask is asked by the run."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from times import time_passes

from power_loop import AgentLoopConfig, SessionStore, StatefulAgentLoop, ToolRegistry, UsageLimits, Worker, open_store, tool
from power_loop.contracts.agents import AgentSpec
from power_loop.contracts.children import leaf_key
from power_loop.contracts.model import LLMRequest
from power_loop.contracts.usage import Price
from power_loop.errors import ApprovalError, HumanInputRequired
from power_loop.testing import Died, DyingStore, FunctionLLM, ManualClock, ScriptedLLM, call, check_invariants, say
from power_loop.worker import ELSEWHERE_MS
from power_loop.workflow import (
    SubprocessExecutor,
    WorkerBootstrap,
    create_workflow,
    get_workflow,
    list_workflows,
    register_workflow_tools,
    resume_run,
    run_detached,
    run_spec_isolated,
)
from power_loop.workflow.ledger import Above


class Elsewhere:
    """An executor whose leaves run in this process, but on databases of their own, one for each machine."""

    def __init__(self, folder: Path, model: Any, *tools: Any) -> None:
        self.folder, self.model, self.tools, self.begun = folder, model, tools, list[str]()

    async def run_agent(
        self, spec: AgentSpec, user_input: str, *, parent_loop: Any, driver_sid: str, stop_event: Any = None
    ) -> Mapping[str, Any]:
        key = leaf_key(spec.metadata) or ""
        self.begun.append(key)
        boot = WorkerBootstrap(llm_factory=lambda: self.model, registry_factory=lambda: ToolRegistry(self.tools))
        path = str(self.folder / f"{key.replace('/', '_').replace(':', '_')}.db")
        # Through JSON, as it goes to any machine.
        sent = AgentSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
        return json.loads(json.dumps(await run_spec_isolated(sent, user_input, bootstrap=boot, db_path=path, key=key)))


def leaf(ident: str, **more: Any) -> dict[str, Any]:
    return {"type": "agent", "id": ident, "spec": {"name": ident, "system_prompt": "You work."}, **more}


def fan(count: int, width: int = 4) -> dict[str, Any]:
    items = {"type": "foreach", "id": "fan", "as": "n", "items": list(range(count)), "max_concurrency": width}
    return {"name": "fan", "root": {**items, "body": leaf("one", input="item {{n}}")}}


def answers(request: LLMRequest) -> Any:
    return say(f"<{request.messages[-1]['content']}>", prompt_tokens=10, completion_tokens=5)


@tool(effects="pure")
async def ask(what: str) -> str:
    """Ask somebody."""
    raise HumanInputRequired(what)


@tool(effects="once", needs_approval=True)
async def pay(whom: str) -> str:
    """Pay somebody."""
    return f"paid {whom}"


def asking(request: LLMRequest) -> Any:
    last = request.messages[-1]
    return call("ask", what="Which?") if last["role"] == "user" else say(f"it is {last['content']}")


def paying(request: LLMRequest) -> Any:
    last = request.messages[-1]
    return call("pay", whom="bob") if last["role"] == "user" else say(f"done: {last['content']}")


# --- people ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", ["the same", "another"])
async def test_a_question_of_a_leaf_elsewhere_is_asked_by_the_run_and_answered_from_any_process(tmp_path: Path, machine: str) -> None:
    store = await open_store()
    first = StatefulAgentLoop(llm=FunctionLLM(answers), store=store)
    executor = Elsewhere(tmp_path, FunctionLLM(asking), ask)
    waiting = await create_workflow({"name": "w", "root": leaf("a")}, parent_loop=first, executor=executor).run()
    assert waiting.status == "waiting_for_input", waiting.summary()
    await first.aclose()
    folder = tmp_path if machine == "the same" else tmp_path / "other"
    async with StatefulAgentLoop(llm=FunctionLLM(answers), store=store) as loop:
        (asked,) = (await get_workflow(loop, None, waiting.run_id))["waiting_for"]
        assert asked["prompt"] == "Which?"
        result = await loop.submit_input(f"wf_{waiting.run_id}", asked["interaction_id"], "blue")
        assert result.status == "pending_tools", "it was answered, and goes on where its leaves may run"
        done = await resume_run(loop, None, waiting.run_id, executor=Elsewhere(folder, FunctionLLM(asking), ask))
        assert (done.status, done.final) == ("completed", "it is blue"), done.summary()
        assert done.usage["calls"] == 2, "what it used before it waited counts once"
        assert not await check_invariants(store, at_rest=True)


@pytest.mark.parametrize("approved", [True, False])
async def test_an_approval_of_a_leaf_elsewhere_is_given_to_the_run_and_a_worker_with_its_executor_goes_on(
    tmp_path: Path, approved: bool
) -> None:
    store = await open_store()
    loop = StatefulAgentLoop(llm=FunctionLLM(answers), store=store)
    executor = Elsewhere(tmp_path, FunctionLLM(paying), pay)
    waiting = await create_workflow({"name": "w", "root": leaf("a")}, parent_loop=loop, executor=executor).run()
    run = f"wf_{waiting.run_id}"
    (approval,) = await loop.list_approvals(run)
    assert (approval.name, approval.arguments) == ("pay", {"whom": "bob"})
    with pytest.raises(ValueError, match="use approve"):
        await loop.submit_input(run, approval.interaction_id, "yes")
    with pytest.raises(ApprovalError):
        await loop.approve(run, approval.interaction_id, digest="of something else")
    decide = loop.approve if approved else loop.deny
    await decide(run, approval.interaction_id, digest=approval.digest)
    assert await Worker(loop).run_once() == 1
    assert (await list_workflows(loop, None))[0]["status"] == "waiting_for_input", "without its executor nothing of it runs"
    worker = Worker(loop, executor=executor)
    await loop.resume(run)
    await worker.run_once()
    found = await get_workflow(loop, None, waiting.run_id)
    text = "done: paid bob" if approved else "done: Denied: pay was not run."
    assert (found["status"], found["final"], found["usage"]["calls"]) == ("completed", text, 2)
    await loop.aclose()


async def test_a_run_that_a_worker_without_its_executor_saw_first_is_gone_on_with_by_one_that_has_it(tmp_path: Path) -> None:
    opened, clock = await open_store(), ManualClock()
    store = SessionStore(opened.database, opened.dialect, clock=clock)
    executor = Elsewhere(tmp_path, FunctionLLM(answers))
    dead = StatefulAgentLoop(llm=FunctionLLM(answers), store=store)
    parent = await dead.new_session()
    handle = await run_detached(create_workflow(fan(2), parent_loop=dead, executor=executor, parent_session_id=parent))
    handle.task.cancel()
    async with StatefulAgentLoop(llm=FunctionLLM(answers), store=store) as loop:
        assert await Worker(loop).run_once() == 1
        clock.jump(ELSEWHERE_MS / 1000 + 1)
        assert await Worker(loop, executor=executor).run_once() == 1
        assert [run["status"] for run in await list_workflows(loop, parent)] == ["completed"]
    await dead.aclose()


async def test_a_leaf_elsewhere_that_asks_again_waits_again(tmp_path: Path) -> None:
    def reply(request: LLMRequest) -> Any:
        heard = [each["content"] for each in request.messages if each["role"] == "tool"]
        return call("ask", what=f"{len(heard)}?") if len(heard) < 3 else say(" ".join(heard))

    executor = Elsewhere(tmp_path, FunctionLLM(reply), ask)
    async with StatefulAgentLoop(llm=FunctionLLM(answers), store=await open_store()) as loop:
        Worker(loop, executor=executor)
        result = await create_workflow({"name": "w", "root": leaf("a")}, parent_loop=loop, executor=executor).run()
        for number in range(3):
            (asked,) = (await get_workflow(loop, None, result.run_id))["waiting_for"]
            assert asked["prompt"] == f"{number}?"
            stands = await loop.submit_input(f"wf_{result.run_id}", asked["interaction_id"], f"answer {number}")
        assert (stands.status, stands.final_text) == ("completed", "answer 0 answer 1 answer 2")
        assert stands.usage["calls"] == 4


# --- accounts -------------------------------------------------------------------------------------


def author(spec: Any) -> ScriptedLLM:
    return ScriptedLLM([call("create_workflow", spec=spec), say("told", prompt_tokens=100, completion_tokens=1)])


async def ledgers(store: SessionStore) -> list[tuple[int, int, int]]:
    """(requests, input, output) of every ledger, and nothing is reserved any more."""
    assert not await store.database.read("SELECT 1 FROM pl_reservations")
    return [tuple(row) for row in await store.database.read("SELECT requests, input_tokens, output_tokens FROM pl_ledgers")]


async def a_parent(store: SessionStore, model: Any, executor: Any, **more: Any) -> StatefulAgentLoop:
    registry = ToolRegistry()
    loop = StatefulAgentLoop(llm=model, store=store, tool_registry=registry, **more)
    register_workflow_tools(registry, executor=executor)
    return loop


# acceptance: 144
async def test_what_leaves_elsewhere_use_is_charged_to_the_send_above_call_by_call_once(tmp_path: Path) -> None:
    store = await open_store()
    executor = Elsewhere(tmp_path, FunctionLLM(answers))
    loop = await a_parent(store, author(fan(5)), executor, config=AgentLoopConfig(limits=UsageLimits(total_tokens=10_000)))
    parent = await loop.new_session()
    result = await loop.send("go", parent)
    assert result.status == "completed"
    assert (result.usage["calls"], result.usage_own["calls"]) == (2 + 5, 2)
    [(requests, read, written)] = await ledgers(store)
    assert requests == 7
    assert (read + written) == result.usage["total_tokens"]
    stats, own = await loop.get_session_stats(parent, tree=True), await loop.get_session_stats(parent)
    assert stats is not None
    assert own is not None
    assert (stats.llm_calls, own.llm_calls) == (7, 2)
    assert not await check_invariants(store, at_rest=True)
    await loop.aclose()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_driver_that_dies_at_any_commit_charges_each_leaf_elsewhere_once(tmp_path: Path, when: Any) -> None:
    for at in range(2, 60):
        folder = tmp_path / str(at)
        opened, clock = await open_store(), ManualClock()
        store = SessionStore(opened.database, opened.dialect, clock=clock)
        executor, dying = Elsewhere(folder, FunctionLLM(answers)), DyingStore(store, at, when)
        limited = AgentLoopConfig(limits=UsageLimits(total_tokens=100_000))

        def model(request: LLMRequest) -> Any:
            asked = request.messages[-1]["role"] == "user"
            return call("create_workflow", spec=fan(3, 2)) if asked else say("told", prompt_tokens=7, completion_tokens=1)

        first = await a_parent(dying, FunctionLLM(model), executor, config=limited)
        try:
            parent = await first.new_session(session_id="parent")
            result = await first.send("go", parent, key="go")
        except Died:
            clock.jump(120)
            loop = await a_parent(store, FunctionLLM(model), executor, config=limited)
            if "parent" not in [row.session_id for row in await store.list_sessions()]:
                continue
            result = await loop.send("go", "parent", key="go")
            await loop.aclose()
        assert (result.status, result.final_text) == ("completed", "told"), at
        leaves = await store.database.read("SELECT calls, input_tokens, output_tokens FROM pl_charges")
        assert [tuple(row) for row in leaves] == [(1, 10, 5)] * 3, (at, leaves)
        assert not await store.database.read("SELECT 1 FROM pl_reservations"), at
        if not dying.dead:
            return
    raise AssertionError("the run never came to its end")


async def test_leaves_elsewhere_share_what_is_left_above_and_stop_when_nothing_is(tmp_path: Path) -> None:
    store = await open_store()
    executor = Elsewhere(tmp_path, FunctionLLM(answers))
    limits = AgentLoopConfig(limits=UsageLimits(requests=9))
    loop = await a_parent(store, author(fan(20)), executor, config=limits)
    result = await loop.send("go", await loop.new_session())
    assert result.status == "budget_exceeded"
    [(requests, _, _)] = await ledgers(store)
    assert requests == 9, "all of it is used, and no more"
    await loop.aclose()


async def test_a_leaf_elsewhere_that_used_up_its_share_goes_on_with_another(tmp_path: Path) -> None:
    def reply(request: LLMRequest) -> Any:
        heard = sum(each["role"] == "tool" for each in request.messages)
        patient = "item 0" in str(request.messages[0]["content"])
        return call("look", at=str(heard)) if patient and heard < 7 else say("seen")

    @tool(effects="pure")
    async def look(at: str) -> str:
        """Look there."""
        return "a view"

    store = await open_store()
    executor = Elsewhere(tmp_path, FunctionLLM(reply), look)
    loop = await a_parent(store, author(fan(4)), executor, config=AgentLoopConfig(limits=UsageLimits(requests=20)))
    result = await loop.send("go", await loop.new_session())
    assert (result.status, result.final_text) == ("completed", "told")
    assert len(executor.begun) > 4, "a share was too small for a leaf"
    assert (await ledgers(store))[0][0] == 2 + 8 + 3, "it went on where it was, and began nothing anew"
    await loop.aclose()


async def test_a_leaf_elsewhere_that_wants_more_while_the_others_hold_the_rest_waits_for_what_they_give_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing_left = asyncio.Event()
    share_of = Above.share

    async def share(above: Above, *args: Any) -> Any:
        given = await share_of(above, *args)
        if given is None:
            nothing_left.set()
        return given

    async def reply(request: LLMRequest) -> Any:
        if "item 0" not in str(request.messages[0]["content"]):
            await nothing_left.wait()
            return say("seen")
        return call("look") if len(request.messages) < 12 else say("seen")

    @tool(effects="pure")
    async def look() -> str:
        """Look."""
        return "a view"

    monkeypatch.setattr(Above, "share", share)
    store = await open_store()
    executor = Elsewhere(tmp_path, FunctionLLM(reply), look)
    loop = await a_parent(store, author(fan(4)), executor, config=AgentLoopConfig(limits=UsageLimits(requests=20)))
    parent = await loop.new_session()
    await loop.send("go", parent)
    (run,) = await list_workflows(loop, parent)
    assert run["status"] == "completed"
    assert [at for at in executor.begun if "[0:" in at] == executor.begun[:1] * 2
    await loop.aclose()


async def test_what_leaves_elsewhere_cost_is_told_by_the_prices_of_the_run(tmp_path: Path) -> None:
    store = await open_store()
    config = AgentLoopConfig(prices={"*": Price(1_000_000, 0)}, limits=UsageLimits(cost=10_000))
    loop = await a_parent(store, author(fan(2)), Elsewhere(tmp_path, FunctionLLM(answers)), config=config)
    parent = await loop.new_session()
    result = await loop.send("go", parent)
    assert result.status == "completed"
    [cost] = (await store.database.read("SELECT SUM(cost) FROM pl_charges"))[0]
    assert cost == 20
    (run,) = await list_workflows(loop, parent)
    assert (await get_workflow(loop, parent, run["run_id"], detail=True))["result"]["results"]["fan[0].one"]["usage"]["calls"] == 1
    await loop.aclose()


async def test_a_budget_of_money_stops_a_run(tmp_path: Path) -> None:
    config = AgentLoopConfig(prices={"*": Price(1_000_000, 0)})
    for executor in (None, Elsewhere(tmp_path, FunctionLLM(answers))):
        async with StatefulAgentLoop(llm=FunctionLLM(answers), store=await open_store(), config=config) as loop:
            spec = {**fan(9, 1), "budget": {"max_tokens": 10_000_000, "cost": 25}}
            result = await create_workflow(spec, parent_loop=loop, executor=executor).run()
            assert (result.status, result.usage["calls"], result.usage.cost) == ("budget_exceeded", 3, 30)
            again = await resume_run(loop, None, result.run_id, executor=executor)
            assert (again.status, again.usage["calls"]) == ("budget_exceeded", 3)


@pytest.mark.parametrize("prices", [None, {"another": Price(1, 1)}])
async def test_a_budget_of_money_without_a_price_is_refused_before_anything_runs(prices: Any) -> None:
    model = FunctionLLM(answers)
    async with StatefulAgentLoop(llm=model, store=await open_store(), config=AgentLoopConfig(prices=prices)) as loop:
        workflow = create_workflow({**fan(9, 1), "budget": {"max_tokens": 10_000_000, "cost": 25}}, parent_loop=loop)
        with pytest.raises(ValueError, match=r"needs a price for the model .* of the step 'one'"):
            await workflow.run()
        assert (model.requests, await list_workflows(loop, None)) == ([], [])


# acceptance: 108
async def test_what_a_worker_paid_for_before_it_was_killed_counts(tmp_path: Path) -> None:
    program = (
        "import asyncio, json, os, sys\n"
        "from power_loop import tool\n"
        "from power_loop.contracts.agents import AgentSpec\n"
        "from power_loop.testing import FunctionLLM, call\n"
        "from power_loop import ToolRegistry\n"
        "from power_loop.workflow import WorkerBootstrap, run_spec_isolated\n"
        "@tool(effects='pure')\n"
        "async def die() -> str:\n"
        "    'Die.'\n"
        "    os.kill(os.getpid(), 9)\n"
        "job = json.loads(sys.stdin.buffer.readline())\n"
        "boot = WorkerBootstrap(llm_factory=lambda: FunctionLLM(lambda _: call('die')), registry_factory=lambda: ToolRegistry([die]))\n"
        "spec, place = AgentSpec.from_dict(job['spec']), {'db_path': job['db_path'], 'key': job['key']}\n"
        "asyncio.run(run_spec_isolated(spec, job['input'], bootstrap=boot, **place))\n"
    )

    class Dying:
        def build(self, *, base_env: Mapping[str, str], **given: Any) -> Any:
            return [sys.executable, "-c", program], base_env

    store = await open_store()
    executor = SubprocessExecutor(bootstrap=WorkerBootstrap(llm_from_env=True), runs_dir=tmp_path, launcher=Dying())
    loop = await a_parent(
        store, author({"name": "w", "root": leaf("a")}), executor, config=AgentLoopConfig(limits=UsageLimits(requests=50))
    )
    result = await loop.send("go", await loop.new_session())
    assert (result.status, result.usage["calls"]) == ("completed", 2 + 1)
    assert (await ledgers(store))[0][0] == 3
    await loop.aclose()


async def test_a_leaf_that_was_too_slow_counts_too() -> None:
    async def reply(request: LLMRequest) -> Any:
        if request.messages[-1]["role"] == "tool":
            time_passes(600)
            await asyncio.Event().wait()
        return call("look")

    @tool(effects="pure")
    async def look() -> str:
        """Look."""
        return "a view"

    async with StatefulAgentLoop(llm=FunctionLLM(reply), store=await open_store(), tools=[look]) as loop:
        result = await create_workflow({"name": "w", "root": leaf("a", timeout_s=600)}, parent_loop=loop).run()
        assert (result.results["a"].status, result.usage["calls"]) == ("timeout", 2), "the call that was cut off by estimate"
