"""Closing a loop waits for the sends in hand; closing a session leaves no row of it in any table."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from power_loop import (
    AgentLoopConfig,
    AgentSpec,
    HumanInputRequired,
    RunPolicy,
    SessionNotFoundError,
    StatefulAgentLoop,
    TimerRunner,
    ToolRun,
    Worker,
    open_store,
    run_agent_spec,
)
from power_loop.testing import ScriptedLLM, call, calls, respond, say
from power_loop.workflow import create_workflow, resume_detached, resume_run, run_detached


class Slow:
    """A model call that ends when the test says so."""

    def __init__(self, answer: Any = "done") -> None:
        self.begun, self.go_on, self._answer = asyncio.Event(), asyncio.Event(), answer

    async def __call__(self, request: Any) -> Any:
        self.begun.set()
        await self.go_on.wait()
        return self._answer


# acceptance: 20
@pytest.mark.parametrize("how", ["aclose", "async with"])
async def test_closing_waits_for_a_send_in_hand(home: Any, how: str) -> None:
    slow = Slow()
    loop = home.loop(respond(slow))
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await slow.begun.wait()
    closing = asyncio.create_task(loop.aclose() if how == "aclose" else loop.__aexit__(None, None, None))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not closing.done()
    slow.go_on.set()
    await closing
    assert sending.done()
    assert (await sending).final_text == "done"
    assert [m["content"] for m in await home.loop().get_messages(session)] == ["go", "done"]


# acceptance: 20 (what begins afterwards)
@pytest.mark.parametrize("verb", ["send", "follow_up", "resume", "submit_input", "enqueue", "stream", "run"])
@pytest.mark.parametrize("when", ["closed", "closing", "never used"])
async def test_work_begun_after_closing_is_refused(home: Any, verb: str, when: str) -> None:
    slow = Slow()
    loop = home.loop(respond(slow))
    session = "sess_any"
    tasks = []
    if when != "never used":
        session = await loop.new_session()
        tasks.append(asyncio.create_task(loop.send("go", session)))
        await slow.begun.wait()
    tasks.append(asyncio.create_task(loop.aclose()))
    await asyncio.sleep(0)
    if when != "closing":
        slow.go_on.set()
        await asyncio.gather(*tasks)
    with pytest.raises(RuntimeError, match=r"aclose\(\)"):
        await begin(loop, verb, session)
    slow.go_on.set()
    await asyncio.gather(*tasks)
    assert len(loop.llm.requests) <= 1


async def begin(loop: Any, verb: str, session: str) -> Any:
    match verb:
        case "resume":
            return await loop.resume(session)
        case "submit_input":
            return await loop.submit_input(session, "input_0", "x")
        case "stream":
            return [event async for event in loop.stream("x", session)]
        case _:
            return await getattr(loop, verb)("x", session)


WORKFLOW = {"name": "w", "input": "x", "root": {"type": "agent", "id": "a", "spec": {"name": "a", "system_prompt": "Answer."}}}


@pytest.mark.parametrize("what", ["sub-agent", "workflow", "detached", "resumed", "resumed detached"])
async def test_a_closed_loop_begins_no_sub_agent_and_no_workflow(what: str) -> None:
    store = await open_store()
    loop = StatefulAgentLoop(llm=ScriptedLLM(["done"]), store=store)
    session = await loop.new_session()
    run_id = (await create_workflow(WORKFLOW, parent_loop=loop, parent_session_id=session).run()).run_id
    sessions = await store.list_sessions()
    begun = {
        "sub-agent": lambda: run_agent_spec(AgentSpec("a", "Answer."), "x", parent_loop=loop),
        "workflow": lambda: create_workflow(WORKFLOW, parent_loop=loop).run(),
        "detached": lambda: run_detached(create_workflow(WORKFLOW, parent_loop=loop, parent_session_id=session)),
        "resumed": lambda: resume_run(loop, session, run_id),
        "resumed detached": lambda: resume_detached(loop, session, run_id),
    }
    await loop.aclose()
    with pytest.raises(RuntimeError, match=r"aclose\(\)"):
        await begun[what]()
    assert await store.list_sessions() == sessions
    await store.close()


async def test_a_worker_of_a_closed_loop_claims_nothing() -> None:
    store = await open_store()
    closed, other = (StatefulAgentLoop(llm=ScriptedLLM(["done"], strict=False), store=store) for _ in range(2))
    await closed.ensure_store()
    session = await other.new_session()
    await other.enqueue("x", session)
    await other.schedule_timer(session, delay_s=0, note="wake up")
    await closed.aclose()
    assert await Worker(closed).run_once() == 0
    await TimerRunner(closed).scan_once()
    assert await other.get_messages(session) == []
    await Worker(other).run_once()
    assert (await other.get_messages(session))[-1]["content"] == "done"
    await other.aclose()
    await store.close()


async def test_a_sub_agent_of_a_send_in_hand_is_begun_while_the_loop_waits_for_it(home: Any) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def ask_another(run: ToolRun) -> str:
        """Have somebody else answer."""
        asked.set()
        await go_on.wait()
        return (await run_agent_spec(AgentSpec("a", "Answer."), "x", parent_loop=run.loop)).final_text

    loop = home.loop(call("ask_another"), "from below", "done", tools=[ask_another])
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await asked.wait()
    closing = asyncio.create_task(loop.aclose())
    await asyncio.sleep(0)
    go_on.set()
    await closing
    assert (await sending).final_text == "done"
    assert "from below" in str(loop.llm.requests[-1].messages)


# acceptance: 20 (a send that waits in line)
async def test_a_send_that_was_accepted_before_closing_is_driven(home: Any) -> None:
    slow = Slow()
    loop = home.loop(respond(slow), "second")
    session = await loop.new_session()
    sends = [asyncio.create_task(loop.send(str(n), session)) for n in range(2)]
    await slow.begun.wait()
    closing = asyncio.create_task(loop.aclose())
    await asyncio.sleep(0)
    slow.go_on.set()
    assert [result.final_text for result in await asyncio.gather(*sends)] == ["done", "second"]
    await closing


async def test_closing_twice_or_at_once_or_unused_is_no_mistake(home: Any) -> None:
    loop = home.loop("a")
    await loop.run("x")
    await asyncio.gather(loop.aclose(), loop.aclose())
    await loop.aclose()
    await home.loop().aclose()
    async with home.loop("b") as other:
        await other.run("y")
        await other.aclose()


async def test_a_send_that_does_not_end_is_cut_off_when_the_time_to_drain_is_over(home: Any) -> None:
    slow = Slow()
    loop = home.loop(respond(slow), config=AgentLoopConfig(running=RunPolicy(cancel_grace_s=0.05)))
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await slow.begun.wait()
    await loop.aclose(drain_timeout_s=0.01)
    result = await sending
    assert (result.status, result.error["code"]) == ("cancelled", "cancelled")
    assert (await home.loop("next").send("and?", session)).final_text == "next"


async def test_sends_in_line_behind_one_that_is_cut_off_are_refused_and_nothing_of_them_is_begun(home: Any) -> None:
    slow = Slow()
    loop = home.loop(respond(slow), config=AgentLoopConfig(running=RunPolicy(cancel_grace_s=60)))
    session = await loop.new_session()
    first, *others = [asyncio.create_task(loop.send(str(n), session)) for n in range(3)]
    await slow.begun.wait()
    async with asyncio.timeout(30):
        await loop.aclose(drain_timeout_s=0.01)
        assert (await first).status == "cancelled"
        for other in others:
            with pytest.raises(RuntimeError, match="the loop was closed"):
                await other
    assert len(loop.llm.requests) == 1
    after = home.loop("next")
    assert ((await after.doctor(session)).state, [m["content"] for m in await after.get_messages(session)]) == ("idle", ["0"])
    assert (await after.send("and?", session)).final_text == "next"


async def test_a_send_that_waits_for_another_loop_keeps_no_closing_waiting(home: Any) -> None:
    slow = Slow()
    other = home.loop(respond(slow))
    session = await other.new_session()
    driving = asyncio.create_task(other.send("theirs", session))
    await slow.begun.wait()
    loop = home.loop(config=AgentLoopConfig(running=RunPolicy(cancel_grace_s=60)))
    waiting = asyncio.create_task(loop.send("ours", session))
    await in_line(other, session)
    async with asyncio.timeout(30):
        await loop.aclose(drain_timeout_s=0.01)
        with pytest.raises(RuntimeError, match="the loop was closed"):
            await waiting
    slow.go_on.set()
    assert (await driving).final_text == "done"
    assert [m["content"] for m in await other.get_messages(session)] == ["theirs", "done"]


async def in_line(loop: Any, session: str) -> None:
    """Somebody waits for the session."""
    store = await loop.ensure_store()
    while (await store.look(session)).first_ticket is None:
        await asyncio.sleep(0.001)


async def test_closing_one_loop_does_not_touch_another(home: Any) -> None:
    slow = Slow()
    one, two = home.loop("a"), home.loop(respond(slow), "c")
    session = await one.new_session()
    await one.send("x", session)
    sending = asyncio.create_task(two.send("y", session))
    await slow.begun.wait()
    await one.aclose()
    slow.go_on.set()
    assert (await sending).final_text == "done"
    assert (await two.send("z", session)).final_text == "c"


async def test_nothing_runs_on_after_closing(home: Any) -> None:
    before = set(threading.enumerate())
    loop = StatefulAgentLoop(llm=ScriptedLLM([call("work"), "done"]), **home.where, tools=[work])
    await loop.run("x")
    await loop.aclose()
    own = [thread for thread in set(threading.enumerate()) - before if "sqlite" not in thread.name]
    for thread in own:
        await asyncio.to_thread(thread.join, 10)
    assert not [thread.name for thread in own if thread.is_alive() and thread.name.startswith("power-loop")]
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


def work() -> str:
    """Work."""
    return "worked"


# acceptance: 51
async def test_two_loops_own_separate_hooks_and_buses(home: Any) -> None:
    one, two = home.loop("a"), home.loop("b")
    heard: list[str] = []
    one.hooks.register("llm.before", lambda ctx: heard.append("hook of one"))
    one.event_bus.subscribe("result", lambda event: heard.append("event of one"))
    await two.run("x")
    assert heard == []
    await one.run("x")
    assert heard == ["hook of one", "event of one"]
    assert one.hooks is not two.hooks
    assert one.event_bus is not two.event_bus


async def test_hooks_and_a_bus_that_are_given_are_shared(home: Any) -> None:
    first = home.loop("a")
    second = home.loop("b", hooks=first.hooks, event_bus=first.event_bus)
    heard: list[str] = []
    first.hooks.register("llm.before", lambda ctx: heard.append("hook"))
    first.event_bus.subscribe("result", lambda event: heard.append("event"))
    await second.run("x")
    assert heard == ["hook", "event"]


# --- sessions -----------------------------------------------------------------------------------------------------------


def ask() -> str:
    """Ask."""
    raise HumanInputRequired("May I?")


async def a_full_life(loop: Any, session: str) -> None:
    """Leave a trace of a session wherever one can be left."""
    await loop.send("one", session, key="a key", metadata={"x": 1})
    await loop.send("two", session)
    await loop.enqueue("three", session, key="left")
    store = await loop.ensure_store()
    await store.set_runtime_state(session, "state", {"x": 1})


# acceptance: 152 (at rest, waiting for someone)
@pytest.mark.parametrize("state", ["at rest", "waiting"])
async def test_closing_a_session_deletes_every_row_of_it_in_every_table(home: Any, state: str) -> None:
    loop = home.loop("a", calls(call("ask"), call("work")), *(["c"] if state == "at rest" else []), tools=[ask, work])
    other = await loop.new_session(session_id="the-other")
    session = await loop.new_session(session_id="the-one")
    before = await home.contents()
    await a_full_life(loop, session)
    if state == "at rest":
        await loop.abort_pending(session)
    assert sum(session in str(row) for rows in (await home.contents()).values() for row in rows) > 8
    assert await loop.close_session(session) == 1
    after = await home.contents()
    assert {name: [row for row in rows if session in map(str, row)] for name, rows in after.items()} == {name: [] for name in after}
    assert {name: rows for name, rows in after.items() if any(other in map(str, row) for row in rows)} == {
        name: [row for row in rows if session not in map(str, row)]
        for name, rows in before.items()
        if any(other in map(str, row) for row in rows)
    }
    for verb in (loop.send, loop.enqueue):
        with pytest.raises(SessionNotFoundError):
            await verb("x", session)


# acceptance: 152 (during a send)
@pytest.mark.parametrize("who", ["the same loop", "another loop"])
async def test_closing_a_session_during_a_send_ends_it_as_cancelled_first(home: Any, who: str) -> None:
    slow = Slow(call("work"))
    loop = home.loop(respond(slow), tools=[work])
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await slow.begun.wait()
    closer = loop if who == "the same loop" else home.loop()
    closing = asyncio.create_task(closer.close_session(session))
    if who == "another loop":  # it hears of the cancel between two deeds
        while not await closer.inbox(session):
            await asyncio.sleep(0)
        slow.go_on.set()
    assert await closing == 1
    assert (await sending).status == "cancelled"
    assert not [row for rows in (await home.contents()).values() for row in rows if session in map(str, row)]


@pytest.mark.parametrize("cascade", [True, False])
async def test_a_send_below_a_session_that_is_closed_is_cancelled_first_where_it_goes_along(home: Any, cascade: bool) -> None:
    slow = Slow()
    loop = home.loop(respond(slow))
    store, parent = await loop.ensure_store(), await loop.new_session()
    child = await store.create_session(parent_session_id=await store.create_session(parent_session_id=parent))
    sending = asyncio.create_task(loop.send("go", child))
    await slow.begun.wait()
    assert await loop.close_session(parent, cascade=cascade) == (3 if cascade else 1)
    slow.go_on.set()
    assert (await sending).status == ("cancelled" if cascade else "completed")


async def test_a_closed_id_may_be_used_again_and_begins_anew(home: Any) -> None:
    loop = home.loop("a", "b")
    await loop.new_session(session_id="again")
    await loop.send("x", "again")
    await loop.close_session("again")
    before = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 == before:  # an epoch begins at its creation time
        await asyncio.sleep(0)
    await loop.new_session(session_id="again")
    result = await loop.send("y", "again")
    assert (result.send_index, [m["content"] for m in loop.llm.requests[1].messages]) == (1, ["y"])


async def test_children_go_with_their_parent_or_become_roots(home: Any) -> None:
    loop = home.loop()
    store = await loop.ensure_store()
    parent = await loop.new_session()
    child = await store.create_session(parent_session_id=parent, kind="subagent")
    assert await loop.close_session(parent, cascade=False) == 1
    assert (await store.get_session(child)).parent_session_id is None
    parent = await loop.new_session()
    child = await store.create_session(parent_session_id=parent, kind="subagent")
    grandchild = await store.create_session(parent_session_id=child, kind="subagent")
    assert await loop.close_session(parent) == 3
    for gone in (parent, child, grandchild):
        with pytest.raises(SessionNotFoundError):
            await store.get_session(gone)


async def test_a_send_that_waits_for_a_session_that_is_closed_learns_that_it_is_gone(home: Any) -> None:
    slow = Slow()
    loop = home.loop(respond(slow), say("never"))
    session = await loop.new_session()
    sends = [asyncio.create_task(loop.send(str(n), session)) for n in range(2)]
    await slow.begun.wait()
    await loop.close_session(session)
    first, second = await asyncio.gather(*sends, return_exceptions=True)
    assert first.status == "cancelled"
    assert isinstance(second, SessionNotFoundError) or second.status in ("completed", "cancelled")
    assert not [row for rows in (await home.contents()).values() for row in rows if session in map(str, row)]


async def test_a_store_of_its_own_is_closed_with_the_loop_and_a_given_one_is_not() -> None:
    store = await open_store()
    shared, owner = (StatefulAgentLoop(llm=ScriptedLLM(), **how) for how in ({"store": store}, {"dsn": ":memory:"}))
    own = await owner.ensure_store()
    await shared.ensure_store()
    await owner.aclose()
    await shared.aclose()
    assert await store.list_sessions() == []
    with pytest.raises(Exception, match="closed"):
        await own.list_sessions()
    await store.close()
