"""`ToolRun.enqueue`: what a handler leaves for sessions stands there with the call's result, or not at all."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from power_loop import (
    AgentHooks,
    AgentLoopConfig,
    CancellationToken,
    HookDirective,
    HumanInputRequired,
    ModelRetry,
    RunPolicy,
    SessionLeaseLost,
    SessionNotFoundError,
    StatefulAgentLoop,
)
from power_loop.contracts.store import Statement
from power_loop.contracts.tool import ToolRun
from power_loop.store.sql_store import SessionStore, open_store
from power_loop.testing import Died, DyingStore, ScriptedLLM, call, calls, check_invariants, say
from power_loop.tools.define import tool

STOLEN = "UPDATE pl_sessions SET epoch = epoch + 1, holder = NULL, lease_until = 0 WHERE session_id = ?"


@pytest.fixture
async def store():
    store = await open_store(":memory:")
    yield store
    assert await check_invariants(store) == []
    await store.close()


@tool(effects="idempotent")
async def tell(run: ToolRun, text: str, session: str) -> str:
    """Leave a text for a session."""
    await run.enqueue(text, session)
    await run.enqueue(f"{text}!", session)
    return "left"


def agent(store: Any, *script: Any, tools: Any = (tell,), **more: Any) -> StatefulAgentLoop:
    config = AgentLoopConfig(running=RunPolicy(lease_ttl_s=0.1))  # a dead holder's lease is soon over
    return StatefulAgentLoop(llm=ScriptedLLM(script, strict=False), store=store, tools=list(tools), config=config, **more)


async def words(store: SessionStore, session: str) -> list[Any]:
    return [getattr(item.record, "content", None) for item in await store.inbox(session)]


def follow_ups(*texts: str) -> str:
    return "\n".join(f"<follow_up>\n{text}\n</follow_up>" for text in texts)


async def test_what_a_tool_leaves_is_heard_by_the_session_it_is_for(store: SessionStore):
    here, there = await store.create_session(), await store.create_session()
    seen: list[Any] = []
    async with agent(store, call("tell", text="hi", session=there), say("done"), say("heard")) as loop:
        loop.event_bus.subscribe("follow_up_queued", lambda event: seen.append((event.session_id, event.payload["queue_depth"])))
        assert (await loop.send("go", here)).status == "completed"
        assert await words(store, there) == ["hi", "hi!"]
        assert seen == [(there, 2), (there, 2)]
        await loop.resume(there)
    assert [message.content for message in await store.load_all_messages(there)] == [follow_ups("hi", "hi!"), "heard"]


async def test_what_a_tool_leaves_for_its_own_session_is_heard_before_the_send_ends(store: SessionStore):
    session = await store.create_session()
    async with agent(store, call("tell", text="and this", session=session), say("done")) as loop:
        result = await loop.send("go", session)
    assert result.status == "completed"
    assert await words(store, session) == []
    assert [m.content for m in await store.load_all_messages(session) if m.role == "user"] == ["go", follow_ups("and this", "and this!")]


async def test_calls_side_by_side_leave_their_own_words_with_their_own_results(store: SessionStore):
    here, there = await store.create_session(), await store.create_session()
    script = [calls(call("tell", text="a", session=there), call("tell", text="b", session=there)), say("done")]
    async with agent(store, *script) as loop:
        await loop.send("go", here)
    assert sorted(await words(store, there)) == ["a", "a!", "b", "b!"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", range(1, 7))
async def test_wherever_the_process_dies_the_words_and_the_result_are_stored_together(store: SessionStore, at: int, when: Any):
    here, there = await store.create_session(), await store.create_session()
    script = [call("tell", text="hi", session=there), say("done")]
    dying = DyingStore(store, at=at, when=when)
    async with agent(dying, *script) as loop:
        try:
            await loop.send("go", here)
        except Died:
            pass
    results = [message for message in await store.load_all_messages(here) if message.role == "tool"]
    assert await words(store, there) == (["hi", "hi!"] if results else [])
    rest = script[sum(message.role == "assistant" for message in await store.load_all_messages(here)) :]
    async with agent(store, *rest) as loop:
        await (loop.resume(here) if (await store.look(here)).head else loop.send("go", here))
    assert await words(store, there) == ["hi", "hi!"]


async def test_a_word_for_a_session_that_is_not_there_is_refused_at_once(store: SessionStore):
    here = await store.create_session()
    async with agent(store, call("tell", text="hi", session="nobody"), say("done")) as loop:
        await loop.send("go", here)
        (result,) = [message for message in await loop.get_messages(here) if message["role"] == "tool"]
    assert result["content"].startswith("Error: SessionNotFoundError")


async def test_a_session_that_is_deleted_meanwhile_costs_the_send_nothing(store: SessionStore):
    here, there = await store.create_session(), await store.create_session()

    @tool
    async def tell_and_delete(run: ToolRun) -> str:
        """Leave a word for a session that is gone by then."""
        await run.enqueue("hi", there)
        await store.close_session(there)
        return "left"

    async with agent(store, call("tell_and_delete"), say("done"), tools=[tell_and_delete]) as loop:
        assert (await loop.send("go", here)).status == "completed"
    with pytest.raises(SessionNotFoundError):
        await store.look(there)


async def test_every_step_of_a_call_that_asks_leaves_its_words_with_the_question_or_the_result(store: SessionStore):
    here, there = await store.create_session(), await store.create_session()

    @tool(effects="idempotent")
    async def ask(run: ToolRun) -> str:
        """Leave a word, ask, and leave another one."""
        if not run.answered:
            await run.enqueue("asking", there)
            raise HumanInputRequired("Sure?", state={})
        await run.enqueue(f"heard {run.answered[0]['answer']}", there)
        return "left"

    async with agent(store, call("ask"), say("done"), tools=[ask]) as loop:
        result = await loop.send("go", here)
        assert result.status == "waiting_for_input"
        assert await words(store, there) == ["asking"]
        await loop.submit_input(here, result.pending_interactions[0]["interaction_id"], "yes")
        await loop.resume(here)
    assert await words(store, there) == ["asking", "heard yes"]


@pytest.mark.parametrize("asks", [True, False])
async def test_what_the_rule_for_approvals_leaves_stands_with_the_question_and_the_handlers_words_behind_it(
    store: SessionStore, asks: bool
):
    here, there = await store.create_session(), await store.create_session()

    async def rule(run: ToolRun, arguments: Any) -> bool:
        await run.enqueue("look at this", there)
        return asks

    @tool(effects="idempotent", needs_approval=rule)
    async def pay(run: ToolRun) -> str:
        """Pay."""
        await run.enqueue("paid", there)
        return "paid"

    async with agent(store, call("pay"), say("done"), tools=[pay]) as loop:
        result = await loop.send("go", here)
        if asks:
            assert result.status == "waiting_for_input"
            assert await words(store, there) == ["look at this"]
            (approval,) = await loop.list_approvals(here)
            await loop.approve(here, approval.interaction_id, digest=approval.digest)
            result = await loop.resume(here)
    assert result.status == "completed"
    assert await words(store, there) == ["look at this", "paid"]


async def test_a_call_that_fails_leaves_what_it_left_before(store: SessionStore):
    here, there = await store.create_session(), await store.create_session()

    @tool
    async def fail(run: ToolRun, softly: bool) -> str:
        """Leave a word, then fail."""
        await run.enqueue("hi", there)
        raise ModelRetry("again") if softly else ValueError("no")

    async with agent(store, calls(call("fail", softly=True), call("fail", softly=False)), say("done"), tools=[fail]) as loop:
        await loop.send("go", here)
    assert await words(store, there) == ["hi", "hi"]


async def test_a_call_that_is_cancelled_leaves_nothing(store: SessionStore):
    here, there = await store.create_session(), await store.create_session()
    begun, token = asyncio.Event(), CancellationToken()

    @tool
    async def wait(run: ToolRun) -> str:
        """Leave a word, then wait."""
        await run.enqueue("hi", there)
        begun.set()
        await asyncio.Event().wait()
        return "never"

    async with agent(store, call("wait"), say("done"), tools=[wait]) as loop:
        sending = asyncio.create_task(loop.send("go", here, stop_event=token))
        await begun.wait()
        token.cancel("enough")
        assert (await sending).status == "cancelled"
    assert await words(store, there) == []


async def test_a_second_try_that_a_handler_asked_for_leaves_the_words_once(store: SessionStore):
    here, there = await store.create_session(), await store.create_session()
    hooks = AgentHooks()
    hooks.register("tool.error", lambda ctx: HookDirective.SHORT_CIRCUIT)

    async def rule(run: ToolRun, arguments: Any) -> bool:
        await run.enqueue("look at this", there)
        return False

    @tool(needs_approval=rule)
    async def flaky(run: ToolRun) -> str:
        """Leave a word, and work at the second try."""
        await run.enqueue("hi", there)
        if run.attempt == 1:
            raise OSError("away")
        return "left"

    async with agent(store, call("flaky"), say("done"), tools=[flaky], hooks=hooks) as loop:
        await loop.send("go", here)
    assert await words(store, there) == ["look at this", "hi"]


@pytest.mark.parametrize("leaves", [True, False])
async def test_a_result_that_came_too_late_is_not_taken_without_its_words(store: SessionStore, leaves: bool):
    here, there = await store.create_session(), await store.create_session()

    @tool(effects="once")
    async def work(run: ToolRun) -> str:
        """Leave a word, and lose the lease."""
        if leaves:
            await run.enqueue("hi", there)
        await store.database.write([Statement(STOLEN, (here,))])
        return "left"

    async with agent(store, call("work"), say("done"), tools=[work]) as loop:
        with pytest.raises(SessionLeaseLost):
            await loop.send("go", here)
        await loop.resume(here)
    [result] = [message for message in await store.load_all_messages(here) if message.role == "tool"]
    assert ("may or may not have taken effect" in result.content) is leaves
    assert await words(store, there) == []


async def test_what_a_reconcile_function_leaves_stands_with_what_it_found(store: SessionStore):
    here, there = await store.create_session(), await store.create_session()

    async def reconcile(run: ToolRun, arguments: Any) -> str:
        await run.enqueue("hi", there)
        return "it worked"

    @tool(effects="once", reconcile=reconcile)
    async def work() -> str:
        """Lose the lease."""
        await store.database.write([Statement(STOLEN, (here,))])
        raise OSError("gone")

    async with agent(store, call("work"), say("done"), tools=[work]) as loop:
        with pytest.raises(SessionLeaseLost):
            await loop.send("go", here)
        await loop.resume(here)
    assert await words(store, there) == ["hi"]


async def test_a_word_for_an_archived_session_is_refused_at_once(store: SessionStore):
    here, there = await store.create_session(), await store.create_session()
    await store.archive_session(there)
    async with agent(store, call("tell", text="hi", session=there), say("done")) as loop:
        await loop.send("go", here)
        (result,) = [message for message in await loop.get_messages(here) if message["role"] == "tool"]
    assert result["content"].startswith("Error: SessionArchivedError")


async def test_outside_of_a_loop_there_is_nowhere_to_leave_a_word():
    with pytest.raises(RuntimeError, match="running loop"):
        await ToolRun().enqueue("hi", "s")
