"""`Task.cancel` is a crash that we notice: nothing is answered for the model, the lease comes back, the session goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from power_loop import AgentLoopConfig, LLMRetryPolicy, SessionPendingError, tool
from power_loop.context.pairing import check_pairs
from power_loop.testing import FunctionLLM, call, calls, fail, hang, say

# More steps of the event loop than any send below takes.
MANY_STEPS = 400


def add(a: int) -> str:
    """Add."""
    return f"sum {a}"


@tool(effects="idempotent", parallel=True)
async def fetch(at: str) -> str:
    """Fetch."""
    await asyncio.sleep(0)
    return f"page {at}"


ROUND = (calls(call("fetch", at="x"), call("fetch", at="y")), say("done"))


def one_round() -> FunctionLLM:
    """A model that asks for two pages and is done when it has them."""
    return FunctionLLM(lambda request: "done" if request.messages[-1]["role"] == "tool" else ROUND[0])


async def cancelled_after(steps: int, work: Any) -> bool:
    """Cancel ``work`` after so many steps of the event loop; whether it was cut off."""
    task = asyncio.create_task(work)
    for _ in range(steps):
        await asyncio.sleep(0)
    was_done = task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    if was_done:
        return False
    assert task.cancelled() or task.exception() is None
    return task.cancelled()


def paired(house: Any) -> bool:
    """Each run that was begun was ended once, and the other way round."""
    types = [type for type in house.types() if type in ("session_started", "session_ended")]
    return types == ["session_started", "session_ended"] * (len(types) // 2)


# acceptance: 39 (send, on a database with real awaits), 59 (the task was cancelled)
@pytest.mark.parametrize("handlers", [False, True], ids=["no handlers", "handlers"])
async def test_a_send_cancelled_at_any_await_can_be_resumed(house: Any, handlers: bool) -> None:
    async def looks(ctx: Any) -> None:
        await asyncio.sleep(0)

    points = ("message.append", "session.start", "round.start", "tool.before", "tool.after", "complete.decide", "session.end")
    on = dict.fromkeys(points, looks) if handlers else None
    for steps in range(MANY_STEPS):
        house.heard.clear()
        loop = house.loop(*ROUND, tools=[fetch], on=on)
        session = await loop.new_session()
        cut = await cancelled_after(steps, loop.send("go", session))
        assert await house.holder(session) is None, f"the lease is given back after {steps} steps"
        assert paired(house), (steps, house.types())
        if not cut:
            assert (await loop.get_messages(session))[-1]["content"] == "done"
            break
        said = await loop.get_messages(session)
        cold = house.loop(llm=one_round(), tools=[fetch])
        result = await (cold.resume(session) if said else cold.send("go", session))
        assert result.status == "completed", steps
        messages = await cold.get_messages(session)
        check_pairs(messages)
        assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool", "assistant"], steps
    else:
        raise AssertionError("the send never came to its end")


# acceptance: 39 (resume, follow_up, abort_pending)
@pytest.mark.parametrize("verb", ["resume", "abort_pending", "follow_up", "heal"])
async def test_other_verbs_cancelled_at_any_await_leave_a_session_that_works(house: Any, verb: str) -> None:
    for steps in range(MANY_STEPS):
        house.heard.clear()
        loop = house.loop(llm=FunctionLLM(lambda _: "done"), tools=[fetch])
        session = await loop.new_session()
        await left_with_open_calls(house, session)
        if verb == "follow_up":
            await loop.abort_pending(session)
        cut = await cancelled_after(steps, work_of(verb, loop, session))
        assert await house.holder(session) is None, steps
        assert (await house.loop("done", tools=[fetch]).send("and then?", session, heal_pending=True)).status == "completed"
        check_pairs(await loop.get_messages(session))
        if not cut:
            break
    else:
        raise AssertionError("it never came to its end")


def work_of(verb: str, loop: Any, session: str) -> Any:
    match verb:
        case "heal":
            return loop.send("more", session, heal_pending=True)
        case "follow_up":
            return loop.follow_up("more", session)
        case _:
            return getattr(loop, verb)(session)


async def left_with_open_calls(house: Any, session: str) -> None:
    """A run that was cut off while its tools ran."""
    loop = house.loop(ROUND[0], tools=[stuck("fetch")])
    sending = asyncio.create_task(loop.send("go", session))
    await house.until_told("tool_call_started", 2)
    await asyncio.sleep(0)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)


def stuck(name: str, effects: Any = "idempotent") -> Any:
    @tool(name=name, effects=effects, parallel=True)
    async def never(at: str) -> str:
        """Never end."""
        await asyncio.Event().wait()
        return "never"

    return never


# acceptance: 33 (the task was cancelled), 59
async def test_open_calls_stay_pending_and_nothing_is_answered_for_them(house: Any) -> None:
    loop = house.loop("never", tools=[add])
    session = await loop.new_session()
    await left_with_open_calls(house, session)
    assert house.told("session_ended") == [{"reason": "cancelled"}]
    assert house.told("tool_call_completed") == []
    with pytest.raises(SessionPendingError) as caught:
        await loop.send("more", session)
    assert len(caught.value.pending_tool_calls) == 2
    assert (caught.value.session_id, caught.value.assistant_seq) == (session, 2)


# acceptance: 36
async def test_resume_runs_the_open_calls_once_each(house: Any) -> None:
    ran: list[str] = []

    @tool(effects="idempotent", parallel=True)
    async def fetch(at: str) -> str:
        """Fetch."""
        ran.append(at)
        return at

    loop = house.loop("done", tools=[fetch])
    session = await loop.new_session()
    await left_with_open_calls(house, session)
    result = await loop.resume(session)
    assert (result.status, sorted(ran), result.rounds) == ("completed", ["x", "y"], 2)


async def test_a_begun_call_that_may_not_be_repeated_is_unknown_after_the_cut(house: Any) -> None:
    cut, cold = house.loop(call("pay", at="x"), tools=[stuck("pay", "once")]), house.loop("done", tools=[stuck("pay", "once")])
    session = await cut.new_session()
    sending = asyncio.create_task(cut.send("go", session))
    await house.until_told("tool_call_started")
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    pending = await cold.get_pending(session)
    assert pending is not None
    assert pending["unknown_call_ids"] == pending["tool_call_ids"]
    assert (await cold.resume(session)).final_text == "done"
    assert [told["outcome"] for told in house.told("tool_call_completed")] == ["unknown"]


async def test_what_neighbours_found_out_before_the_cut_is_kept(house: Any) -> None:
    ran: list[str] = []

    @tool(effects="once", parallel=True)
    async def quick(at: str) -> str:
        """Be quick."""
        ran.append(at)
        return "quick result"

    loop = house.loop(calls(call("quick", at="x"), call("slow", at="y")), tools=[quick, stuck("slow")])
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await house.until_told("tool_call_completed")
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)

    @tool(name="slow", effects="idempotent")
    async def slow(at: str) -> str:
        """Be slow."""
        return "slow result"

    cold = house.loop("done", tools=[quick, slow])
    await cold.resume(session)
    results = [message["content"] for message in await cold.get_messages(session) if message["role"] == "tool"]
    assert results == ["quick result", "slow result"]
    assert ran == ["x"]


# acceptance: 146 (a task that was cancelled)
async def test_a_model_call_that_the_task_left_is_charged(house: Any) -> None:
    loop = house.loop(hang(after="half"))
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await house.until_told("stream_delta")
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert await house.kinds(session) == ["user_said", "call_charged", "send_rested"]
    assert [told["error_type"] for told in house.told("llm_call_completed")] == ["cancelled"]
    cold = house.loop("whole")
    result = await cold.resume(session)
    assert (result.final_text, result.usage["calls"]) == ("whole", 2)


async def test_a_limit_that_the_caller_set_is_the_callers(house: Any) -> None:
    loop = house.loop(hang(), "fine")
    session = await loop.new_session()

    async def end_when_called(limit: asyncio.Timeout, calls: int) -> None:
        await house.until_told("stream_started", calls)
        limit.reschedule(0)

    for times, verb in enumerate((lambda: loop.send("go", session), lambda: house.loop(hang()).resume(session)), 1):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as limit:
                await asyncio.gather(verb(), end_when_called(limit, times))
    assert (await loop.resume(session)).final_text == "fine"


@pytest.mark.parametrize("first", ["token", "task"])
async def test_a_cut_of_ours_and_a_cancel_of_the_callers_at_once_let_the_callers_through(house: Any, first: str) -> None:
    loop = house.loop(hang(), "fine")
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await house.until_told("stream_started")
    if first == "token":
        await loop.cancel(session)
        sending.cancel()
    else:
        sending.cancel()
        await loop.cancel(session)
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert await house.holder(session) is None
    assert (await loop.send("again", session)).final_text == "fine"


async def test_a_cut_of_ours_inside_a_limit_of_the_callers_leaves_the_limit_alone(house: Any) -> None:
    loop = house.loop(hang())
    session = await loop.new_session()

    async def cancel_soon() -> None:
        await house.until_told("stream_started")
        await loop.cancel(session)

    async with asyncio.timeout(30) as limit, asyncio.TaskGroup() as group:
        group.create_task(cancel_soon())
        result = await loop.send("go", session)
    assert (result.status, limit.expired()) == ("cancelled", False)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_task_cancelled_twice_still_gives_the_lease_back(house: Any) -> None:
    loop = house.loop(hang())
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await house.until_told("stream_started")
    for _ in range(20):
        sending.cancel()
        await asyncio.sleep(0)
    await asyncio.gather(sending, return_exceptions=True)
    assert sending.cancelled()
    assert await house.holder(session) is None
    assert house.types().count("session_ended") == 1


async def test_a_cancel_during_the_wait_of_a_retry_passes_at_once(house: Any) -> None:
    async def wait_for_ever(seconds: float) -> None:
        await asyncio.Event().wait()

    house.clock.sleep = wait_for_ever
    loop = house.loop(fail(ConnectionError("reset")), config=AgentLoopConfig(retry_policy=LLMRetryPolicy()))
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await house.until(lambda: loop.llm.left == 0)
    await asyncio.sleep(0)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert await house.kinds(session) == ["user_said", "call_charged", "send_rested"]


async def test_a_caller_cancelled_in_line_leaves_no_trace(house: Any) -> None:
    loop = house.loop(hang(), "fine")
    session = await loop.new_session()
    first = asyncio.create_task(loop.send("first", session))
    await house.until_told("stream_started")
    second = asyncio.create_task(loop.send("second", session))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    await loop.cancel(session)
    assert (await first).status == "cancelled"
    assert [message["content"] for message in await loop.get_messages(session)] == ["first"]


# acceptance: 39 (on a file)
async def test_on_a_file_a_cancelled_send_leaves_the_store_usable(file_loop: Any) -> None:
    for steps in range(60):
        loop = await file_loop(llm=one_round(), tools=[fetch])
        session = await loop.new_session()
        await cancelled_after(steps, loop.send("go", session))
        said = await loop.get_messages(session)
        result = await (loop.resume(session) if said else loop.send("go", session))
        assert result.status == "completed"
        check_pairs(await loop.get_messages(session))
