"""Sub-agents whose call is answered without them: what they wait for is not asked any more, and what they were to do is not done."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import engines
import pytest
from loops import kept

from power_loop import (
    Approval,
    ApprovalError,
    HookDirective,
    LLMRequest,
    SessionStore,
    StatefulAgentLoop,
    StatefulResult,
    ToolRegistry,
    Worker,
    open_store,
    register_spawn_agent,
    tool,
)
from power_loop.store.memory import MemoryDatabase
from power_loop.testing import Died, DyingStore, FunctionLLM, ManualClock, call, calls, check_invariants, say
from power_loop.testing.scripted import Step
from power_loop.workflow import create_workflow, get_workflow, resume_run

pytestmark = pytest.mark.usefixtures("loops_closed")

HELPER = {"name": "helper", "system_prompt": "You help."}


class World:
    """A store, what was paid, and loops whose root has a sub-agent that wants to pay."""

    def __init__(self, store: SessionStore) -> None:
        self.store, self.paid, self.may_return = store, list[int](), asyncio.Event()

    def loop(self, store: Any = None) -> StatefulAgentLoop:
        @tool(needs_approval=True, effects="once")
        async def pay(n: int) -> str:
            """Pay."""
            self.paid.append(n)
            return "paid"

        @tool(effects="pure")
        async def linger() -> str:
            """Take a while."""
            await self.may_return.wait()
            return "done"

        registry = ToolRegistry([pay, linger])
        register_spawn_agent(registry)
        return kept(StatefulAgentLoop(llm=FunctionLLM(answer), store=store or self.store, tool_registry=registry))

    async def nothing_is_asked_or_done(self, loop: StatefulAgentLoop, root: str, asked: Approval) -> None:
        """Nobody sees, decides or does it any more."""
        assert await loop.list_approvals(root) == await loop.list_approvals(asked.session_id) == []
        for session_id in (root, asked.session_id):
            with pytest.raises(ApprovalError, match="nothing waits"):
                await loop.approve(session_id, asked.interaction_id, digest=asked.digest)
        while await Worker(loop).run_once():
            continue
        assert self.paid == []

    async def is_over(self, loop: StatefulAgentLoop, child: str) -> None:
        assert (await loop.get_messages(child))[-1]["content"] == "<aborted: nobody waits for it any more>"
        assert (await loop.doctor(child)).state == "idle"
        assert not await check_invariants(self.store, at_rest=True)


def answer(request: LLMRequest) -> Step:
    match request.messages[-1]["content"]:
        case "go":
            return calls(call("run_agent", spec=HELPER, input="child"), call("linger"))
        case "below":
            return call("run_agent", spec=HELPER, input="go")
        case "child":
            return call("pay", n=5)
        case _:
            return say("fine")


@pytest.fixture
async def world() -> World:
    return World(await open_store(":memory:"))


async def waiting(world: World, loop: StatefulAgentLoop, said: str = "go") -> tuple[str, Approval]:
    """A root whose sub-agent waits for an approval, and what it waits for."""
    world.may_return.set()
    root = await loop.new_session()
    assert (await loop.send(said, root)).status == "waiting_for_input"
    (asked,) = await loop.list_approvals(root)
    return root, asked


async def lingering(loop: StatefulAgentLoop) -> tuple[asyncio.Task[StatefulResult], str, Approval]:
    """The send of a root, under way beside a sub-agent that waits for an approval; the root; what is waited for."""
    root = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", root))
    while not (waits := await loop.list_approvals(root)):
        await asyncio.sleep(0)
    return sending, root, waits[0]


@pytest.mark.parametrize("engine", engines.ALL)
async def test_a_sub_agent_ends_with_the_call_that_is_aborted(engine: str, tmp_path: Path) -> None:
    async with engines.fresh(engine, tmp_path) as dsn:
        store = await open_store(dsn)
        world = World(store)
        loop = world.loop()
        root, asked = await waiting(world, loop)
        assert await loop.abort_pending(root) == 1
        await world.nothing_is_asked_or_done(loop, root, asked)
        await world.is_over(loop, asked.session_id)
        await loop.aclose()
        await store.close()


async def test_a_sub_agent_ends_with_the_call_that_a_new_send_heals(world: World) -> None:
    loop = world.loop()
    root, asked = await waiting(world, loop)
    assert (await loop.send("next", root, heal_pending=True)).status == "completed"
    await world.nothing_is_asked_or_done(loop, root, asked)
    await world.is_over(loop, asked.session_id)


async def test_those_two_levels_down_end_too(world: World) -> None:
    loop = world.loop()
    root, asked = await waiting(world, loop, "below")
    await loop.abort_pending(root)
    await world.nothing_is_asked_or_done(loop, root, asked)
    await world.is_over(loop, asked.session_id)


async def test_a_sub_agent_that_waits_ends_when_its_root_is_cancelled_while_another_call_runs(world: World) -> None:
    loop = world.loop()
    sending, root, asked = await lingering(loop)
    await loop.cancel(root)
    assert (await sending).status == "cancelled"
    await world.nothing_is_asked_or_done(loop, root, asked)
    await world.is_over(loop, asked.session_id)


async def test_a_root_that_is_cancelled_because_its_loop_closes_says_so_and_leaves_nobody_to_be_asked(world: World) -> None:
    loop = world.loop()
    sending, root, asked = await lingering(loop)
    await loop.aclose(drain_timeout_s=0)
    assert (await sending).status == "cancelled"
    await world.nothing_is_asked_or_done(world.loop(), root, asked)


async def test_a_sub_agent_that_waits_ends_when_a_hook_ends_the_send_of_its_root(world: World) -> None:
    loop = world.loop()
    loop.hooks.register("tool.after", lambda context: HookDirective.BREAK)
    sending, root, asked = await lingering(loop)
    world.may_return.set()
    assert (await sending).status == "completed"
    await world.nothing_is_asked_or_done(loop, root, asked)
    await world.is_over(loop, asked.session_id)


async def test_what_was_decided_before_is_not_done_after_the_call_was_aborted(world: World) -> None:
    loop = world.loop()
    root, asked = await waiting(world, loop)
    await loop.approve(root, asked.interaction_id, digest=asked.digest)
    await loop.abort_pending(root)
    while await Worker(loop).run_once():
        continue
    assert world.paid == []
    await world.is_over(loop, asked.session_id)


async def test_nothing_is_done_where_the_process_dies_between_the_answer_of_the_call_and_the_end_of_the_sub_agent(world: World) -> None:
    root, asked = await waiting(world, world.loop())
    with pytest.raises(Died):
        await world.loop(DyingStore(world.store, 2, "after")).abort_pending(root)
    loop = world.loop()
    await world.nothing_is_asked_or_done(loop, root, asked)
    assert (await loop.resume(asked.session_id)).status == "cancelled"
    await world.is_over(loop, asked.session_id)


@pytest.mark.parametrize(("said", "at"), [("go", n) for n in range(1, 8)] + [("below", n) for n in range(1, 13)])
async def test_sub_agents_end_wherever_the_process_died_before_the_cancel_of_their_root_is_heard(said: str, at: int) -> None:
    clock = ManualClock()
    world = World(SessionStore(MemoryDatabase.with_schema(), MemoryDatabase.dialect, clock=clock))
    world.may_return.set()
    loop = world.loop()
    root = await loop.new_session()
    with pytest.raises(Died):
        await world.loop(DyingStore(world.store, at)).send(said, root)
    assert await loop.cancel(root)
    clock.jump(60)  # past the leases of the dead
    assert (await loop.resume(root)).status == "cancelled"
    assert {(await loop.doctor(one)).state for one in await world.store.family(root)} == {"idle"}
    assert not await check_invariants(world.store, at_rest=True)


async def test_a_sub_agent_whose_driver_was_killed_ends_though_the_lease_runs_on(world: World) -> None:
    loop = world.loop()
    root, asked = await waiting(world, loop)
    await loop.approve(root, asked.interaction_id, digest=asked.digest)
    dying = world.loop(DyingStore(world.store, 1))
    with pytest.raises(Died):
        await dying.resume(asked.session_id)
    dying.drivers.lifeline.release(owes=True)
    await loop.abort_pending(root)
    await world.is_over(loop, asked.session_id)
    assert world.paid == []


async def waiting_leaf(world: World, loop: StatefulAgentLoop) -> tuple[str, Approval]:
    """A run whose leaf waits for an approval, and what it waits for."""
    leaf = {"type": "agent", "id": "a", "spec": {**HELPER, "tools": ["pay"]}, "input": "child"}
    run = await create_workflow({"name": "w", "root": leaf}, parent_loop=loop).run()
    (asked,) = await loop.list_approvals(f"wf_{run.run_id}")
    return run.run_id, asked


async def test_a_leaf_of_a_workflow_that_is_over_asks_nobody_until_that_goes_on(world: World) -> None:
    loop = world.loop()
    run_id, asked = await waiting_leaf(world, loop)
    assert await loop.cancel(f"wf_{run_id}")
    await world.nothing_is_asked_or_done(loop, f"wf_{run_id}", asked)
    await resume_run(loop, None, run_id)
    await loop.approve(f"wf_{run_id}", asked.interaction_id, digest=asked.digest)
    assert (await resume_run(loop, None, run_id)).status == "completed"
    assert world.paid == [5]


async def test_a_leaf_whose_step_ran_out_of_time_asks_nobody_though_its_workflow_goes_on() -> None:
    clock = ManualClock()
    world = World(SessionStore(MemoryDatabase.with_schema(), MemoryDatabase.dialect, clock=clock))
    loop = world.loop()
    leaf = {"type": "agent", "id": "a", "spec": {**HELPER, "tools": ["pay"]}, "input": "child"}
    timed = {"type": "sequence", "timeout_s": 60, "steps": [leaf]}
    lived_with = {"type": "parallel", "on_error": "continue", "branches": [timed]}
    spec = {"name": "w", "root": {"type": "sequence", "steps": [lived_with, {"type": "human", "id": "ask", "prompt": "Shall we?"}]}}
    run = await create_workflow(spec, parent_loop=loop).run()
    (asked,) = await loop.list_approvals(f"wf_{run.run_id}")
    clock.jump(61)
    assert (await resume_run(loop, None, run.run_id)).status == "waiting_for_input"
    assert [each["prompt"] for each in (await get_workflow(loop, None, run.run_id))["waiting_for"]] == ["Shall we?"]
    await world.nothing_is_asked_or_done(loop, f"wf_{run.run_id}", asked)


async def test_a_leaf_does_what_was_approved_once_its_cancelled_workflow_goes_on(world: World) -> None:
    loop = world.loop()
    run_id, asked = await waiting_leaf(world, loop)
    await loop.approve(f"wf_{run_id}", asked.interaction_id, digest=asked.digest)
    await loop.cancel(f"wf_{run_id}")
    await Worker(loop).run_once()
    assert world.paid == []
    assert (await resume_run(loop, None, run_id)).status == "completed"
    assert world.paid == [5]


@pytest.mark.parametrize("engine", engines.ALL)
async def test_a_sub_agent_whose_session_was_closed_while_it_waited_is_begun_anew_and_both_are_charged(engine: str, tmp_path: Path) -> None:
    async with engines.fresh(engine, tmp_path) as dsn:
        store = await open_store(dsn)
        world = World(store)
        loop = world.loop()
        root, asked = await waiting(world, loop, "below")
        for _ in range(2):
            spent = (await loop.budget(root))["spent"]
            assert await loop.close_session(asked.session_id) == 1
            assert (await loop.budget(root))["spent"] == spent
            assert (await loop.resume(root)).status == "waiting_for_input"
            (asked,) = await loop.list_approvals(root)
            assert (await loop.budget(root))["spent"]["requests"] == spent["requests"] + 1
        await loop.approve(root, asked.interaction_id, digest=asked.digest)
        assert (await loop.resume(root)).status == "completed"
        assert world.paid == [5]
        assert not await check_invariants(store, at_rest=True)
        await loop.aclose()
        await store.close()


async def test_a_sub_agent_that_was_kept_may_be_gone_on_with_by_its_host(world: World) -> None:
    loop = world.loop()
    root, asked = await waiting(world, loop)
    await loop.abort_pending(root)
    assert (await loop.send("child", asked.session_id)).status == "waiting_for_input"
    (again,) = await loop.list_approvals(asked.session_id)
    await loop.approve(asked.session_id, again.interaction_id, digest=again.digest)
    assert (await loop.resume(asked.session_id)).status == "completed"
    assert world.paid == [5]
