"""A model writes workflows: problems come back as text, runs are found again, and none runs inside of another."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from loops import kept

from power_loop import SessionStore, StatefulAgentLoop, UsageLimits, Worker, open_store
from power_loop.contracts.model import LLMRequest, LLMResponse
from power_loop.testing import Died, DyingStore, FunctionLLM, ManualClock, call, say
from power_loop.tools.toolbox import ToolRegistry
from power_loop.workflow import get_workflow, in_workflow, list_workflows, register_workflow_tools

pytestmark = pytest.mark.usefixtures("loops_closed")


def leaf(ident: str, **more: Any) -> dict[str, Any]:
    return {"type": "agent", "id": ident, "spec": {"name": ident, "system_prompt": "You are a leaf.", **more}}


def loop_of(store: SessionStore, leads: list[Any], leaves: Any = None) -> StatefulAgentLoop:
    """The leader says ``leads``, one after the other; leaves answer as ``leaves`` does."""

    def reply(request: LLMRequest) -> Any:
        if "You are a leaf." in str(request.system_prompt):
            return leaves(request) if leaves is not None else "leafy"
        return leads.pop(0)

    registry = ToolRegistry()
    register_workflow_tools(registry)
    return kept(StatefulAgentLoop(llm=FunctionLLM(reply), store=store, tool_registry=registry))


def results(messages: list[dict[str, Any]]) -> list[str]:
    return [str(each["content"]) for each in messages if each["role"] == "tool"]


# acceptance: 107
async def test_a_model_repairs_its_workflow_from_the_problems_and_reads_the_result() -> None:
    store = await open_store()
    broken = {"name": "w", "root": {"type": "agent", "spec": {"name": "a"}}, "extra": 1}
    sound = {"name": "w", "root": leaf("a")}
    loop = loop_of(store, [call("create_workflow", spec=broken), call("create_workflow", spec=sound), say("done")])
    session = await loop.new_session()
    assert (await loop.send("go", session)).final_text == "done"
    first, second = results(await loop.get_messages(session))
    assert "was not run" in first
    assert all(place in first for place in ("extra", "root.id", "system_prompt"))
    assert "ended: completed]\nleafy" in second
    assert [run["status"] for run in await list_workflows(loop, session)] == ["completed"]


# acceptance: 107
async def test_a_workflow_inside_a_workflow_is_refused_with_a_text() -> None:
    store, seen = await open_store(), list[str]()

    def leaves(request: LLMRequest) -> Any:
        last = request.messages[-1]
        assert in_workflow()
        if last["role"] == "tool":
            seen.append(str(last["content"]))
            return say("alone then")
        return call("create_workflow", spec={"name": "inner", "root": leaf("b")})

    loop = loop_of(store, [call("create_workflow", spec={"name": "outer", "root": leaf("a")}), say("done")], leaves)
    session = await loop.new_session()
    await loop.send("go", session)
    assert "inside a workflow is refused" in seen[0]
    assert "alone then" in results(await loop.get_messages(session))[0]
    assert not in_workflow()


async def test_a_detached_workflow_is_announced_and_its_end_heard() -> None:
    store = await open_store()
    steps = [call("create_workflow", spec={"name": "w", "root": leaf("a")}, detached=True), say("started"), say("heard")]
    loop = loop_of(store, steps)
    session = await loop.new_session()
    await loop.send("go", session)
    while (await list_workflows(loop, session))[0]["status"] != "completed":
        await asyncio.sleep(0.01)
    await Worker(loop).run_once()
    (run,) = await list_workflows(loop, session)
    assert run["run_id"] in results(await loop.get_messages(session))[0]
    assert not steps


async def test_a_workflow_that_waits_for_a_person_tells_its_parent_when_it_ends() -> None:
    store = await open_store()
    gate = {"name": "gate", "root": {"type": "human", "id": "ask", "prompt": "Shall we?"}}
    steps = [call("create_workflow", spec=gate), call("workflow_status"), say("waiting"), say("heard")]
    loop = loop_of(store, steps)
    session = await loop.new_session()
    await loop.send("go", session)
    first, second = results(await loop.get_messages(session))
    assert "waits for a person" in first
    assert "gate: waiting_for_input" in second
    (run,) = await list_workflows(loop, session)
    (asked,) = (await get_workflow(loop, session, run["run_id"]))["waiting_for"]
    await loop.submit_input(run["session_id"], asked["interaction_id"], "yes")
    await Worker(loop).run_once()
    assert not steps
    assert "completed]\nyes" in str((await loop.get_messages(session))[-2]["content"])


async def test_the_status_of_an_unknown_run_is_a_text() -> None:
    loop = loop_of(await open_store(), [call("workflow_status", run_id="nope"), call("workflow_status"), say("ok")])
    session = await loop.new_session()
    await loop.send("go", session)
    first, second = results(await loop.get_messages(session))
    assert "there is no run 'nope'" in first
    assert second == "There are no workflows in this conversation."


async def test_a_call_that_died_with_its_process_finds_its_run() -> None:
    opened, clock = await open_store(), ManualClock()
    store = SessionStore(opened.database, opened.dialect, clock=clock)
    for at in range(7, 100, 3):
        dying = DyingStore(store, at)
        paid: list[str] = []

        def reply(request: LLMRequest, paid: list[str] = paid) -> Any:
            if "You are a leaf." in str(request.system_prompt):
                paid.append("leaf")
                return "leafy"
            last = request.messages[-1]
            return call("create_workflow", spec={"name": "w", "root": leaf("a")}) if last["role"] == "user" else say("done")

        registry = ToolRegistry()
        register_workflow_tools(registry)
        first = StatefulAgentLoop(llm=FunctionLLM(reply), store=dying, tool_registry=registry)
        session = await first.new_session()
        with suppress(Died):
            await first.send("go", session)
        clock.jump(60)
        loop = loop_of(store, [])
        loop._llm = FunctionLLM(reply)  # the same model in another process
        result = await loop.resume(session)
        assert (result.status, paid) == ("completed", ["leaf"]), at
        assert [run["status"] for run in await list_workflows(loop, session)] == ["completed"]
        if not dying.dead:
            return


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_call_that_died_with_its_process_has_begun_its_detached_run_or_begins_it(when: Any) -> None:
    spec = {"name": "w", "root": leaf("a")}
    for at in range(2, 100):
        opened, clock = await open_store(), ManualClock()
        store = SessionStore(opened.database, opened.dialect, clock=clock)
        dying = DyingStore(store, at, when)

        def reply(request: LLMRequest) -> Any:
            if "You are a leaf." in str(request.system_prompt):
                return "leafy"
            last = request.messages[-1]
            return call("create_workflow", spec=spec, detached=True) if last["content"] == "go" else say("done")

        first, second, loop = (answering_loop(each, reply) for each in (dying, store, store))
        session = await loop.new_session()
        with suppress(Died):
            await first.send("go", session, key="k")
        clock.jump(60)
        await second.send("go", session, key="k")
        await second.aclose(drain_timeout_s=0)
        for _ in range(4):
            clock.jump(60)
            await Worker(loop).run_once()
        assert [run["status"] for run in await list_workflows(loop, session)] == ["completed"], at
        heard = str(await loop.get_messages(session))
        assert heard.count("ended: completed") == 1, at
        if not dying.dead:
            return
    raise AssertionError("the call never came to its end")


def answering_loop(store: SessionStore, reply: Any) -> StatefulAgentLoop:
    registry = ToolRegistry()
    register_workflow_tools(registry)
    return kept(StatefulAgentLoop(llm=FunctionLLM(reply), store=store, tool_registry=registry))


def counting_loop(store: SessionStore, leads: list[Any]) -> StatefulAgentLoop:
    """Each call of a model costs 10 and 5 tokens."""

    def reply(request: LLMRequest) -> LLMResponse | Any:
        if "You are a leaf." in str(request.system_prompt):
            return say("leafy", prompt_tokens=10, completion_tokens=5)
        return leads.pop(0)

    registry = ToolRegistry()
    register_workflow_tools(registry)
    return kept(StatefulAgentLoop(llm=FunctionLLM(reply), store=store, tool_registry=registry))


ITEMS = {"name": "w", "root": {"type": "foreach", "id": "f", "as": "n", "items": list(range(9)), "parallel": False, "body": leaf("a")}}


async def test_what_leaves_use_is_in_the_bill_of_the_send_that_began_them() -> None:
    loop = counting_loop(await open_store(), [call("create_workflow", spec=ITEMS), say("done")])
    session = await loop.new_session()
    result = await loop.send("go", session)
    assert result.final_text == "done"
    assert (result.usage["calls"], result.usage_own["calls"]) == (11, 2)


async def test_the_limits_of_the_send_above_stop_the_run() -> None:
    store = await open_store()
    loop = counting_loop(store, [call("create_workflow", spec=ITEMS), say("done")])
    session = await loop.new_session()
    result = await loop.send("go", session, limits=UsageLimits(requests=5))
    assert result.status == "budget_exceeded"
    assert result.usage["calls"] <= 5
    (run,) = await list_workflows(loop, session)
    assert run["status"] == "budget_exceeded"
    found = await get_workflow(loop, session, run["run_id"])
    assert 0 < found["progress"]["root.body"]["completed"] < 5
