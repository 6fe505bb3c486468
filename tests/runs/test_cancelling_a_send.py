"""A cancel ends the send tidily and at once: whatever asked for it, whatever was under way."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from power_loop import AgentLoopConfig, CancellationToken, HookDirective, LLMRetryPolicy, RunPolicy, ToolPolicy, ToolRun, tool
from power_loop.context.pairing import check_pairs
from power_loop.testing import FunctionLLM, ScriptedLLM, call, calls, fail, hang, say

NO_GRACE = AgentLoopConfig(running=RunPolicy(cancel_grace_s=0.01))
# What a machine adds that has other things to do is no part of how long a thing takes: the quickest time counts.
TIMES = 3


class Asked:
    """A callable that says whether to stop."""

    def __init__(self) -> None:
        self.stops = False

    def __call__(self) -> bool:
        return self.stops


def token() -> tuple[Any, Callable[[], None]]:
    source = CancellationToken()
    return source, source.cancel


def thread_event() -> tuple[Any, Callable[[], None]]:
    source = threading.Event()
    return source, source.set


def async_event() -> tuple[Any, Callable[[], None]]:
    source = asyncio.Event()
    return source, source.set


def asked() -> tuple[Any, Callable[[], None]]:
    source = Asked()
    return source, lambda: setattr(source, "stops", True)


SOURCES = [token, thread_event, async_event, asked]


# acceptance: 72, 73
@pytest.mark.parametrize("source", SOURCES)
async def test_every_kind_of_stop_cuts_a_model_call_off(house: Any, source: Callable[[], tuple[Any, Callable[[], None]]]) -> None:
    took_s: list[float] = []
    loop = house.loop(*[hang(after="I was about to ")] * TIMES, say("fine"))
    session = await loop.new_session()
    for _ in range(TIMES):
        stop, pull = source()
        heard = house.types().count("stream_delta")
        sending = asyncio.create_task(loop.send("go", session, stop_event=stop))
        await house.until_told("stream_delta", heard + 1)
        began = time.monotonic()
        pull()
        result = await sending
        took_s.append(time.monotonic() - began)
    assert min(took_s) < 0.5
    assert (result.status, result.final_text, result.partial_text) == ("cancelled", "[cancelled by user]", "I was about to ")
    assert result.error is not None
    assert result.error["code"] == "cancelled"
    assert (await loop.send("again", session)).final_text == "fine"


# acceptance: 72 (before anything runs)
@pytest.mark.parametrize("source", SOURCES)
async def test_a_stop_pulled_before_the_send_pays_no_model(house: Any, source: Callable[[], tuple[Any, Callable[[], None]]]) -> None:
    stop, pull = source()
    pull()
    loop = house.loop()
    result = await loop.run("go", stop_event=stop)
    assert (result.status, loop.llm.requests, result.usage) == ("cancelled", [], {})


# acceptance: 73 (usage), 146 (cancelled calls)
async def test_a_cancelled_call_is_charged_by_estimate_and_its_text_is_not_stored(house: Any) -> None:
    loop = house.loop(hang(after="one two three"))
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("a question of some length", session))
    await house.until_told("stream_delta", 3)
    assert await loop.cancel(session)
    result = await sending
    assert result.usage["calls"] == 1
    assert min(result.usage["prompt_tokens"], result.usage["completion_tokens"]) > 0
    assert result.usage.estimated
    assert [message["content"] for message in await loop.get_messages(session)] == ["a question of some length"]
    (completed,) = house.told("llm_call_completed")
    assert (completed["success"], completed["error_type"], completed["estimated"]) == (False, "cancelled", True)
    assert [told["purpose"] for told in house.told("usage_updated")] == ["round"]


async def test_the_reason_of_a_cancel_is_told(house: Any) -> None:
    loop = house.loop(hang())
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await house.until_told("stream_started")
    await loop.cancel(session, reason="the user closed the tab")
    result = await sending
    assert result.final_text == "[cancelled: the user closed the tab]"
    assert house.told("loop_cancelled") == [{"reason": "the user closed the tab", "round_index": 0}]
    assert house.types()[-2:] == ["session_ended", "result"]


async def test_a_second_cancel_changes_nothing(house: Any) -> None:
    loop = house.loop(hang())
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await house.until_told("stream_started")
    assert await loop.cancel(session, reason="first")
    assert await loop.cancel(session, reason="second")
    assert (await sending).final_text == "[cancelled: first]"
    assert len(house.told("loop_cancelled")) == 1


async def test_a_session_at_rest_has_nothing_to_cancel(house: Any) -> None:
    loop = house.loop("one", "two")
    session = await loop.new_session()
    assert await loop.cancel(session) is False
    await loop.send("go", session)
    assert await loop.cancel(session) is False
    assert (await loop.send("and?", session)).status == "completed", "the cancel of before stops nothing later"


async def test_a_cancel_ends_the_wait_between_two_attempts(house: Any) -> None:
    async def wait_for_ever(seconds: float) -> None:
        await asyncio.Event().wait()

    house.clock.sleep = wait_for_ever
    loop = house.loop(fail(ConnectionError("reset")), config=AgentLoopConfig(retry_policy=LLMRetryPolicy()))
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await house.until(lambda: loop.llm.left == 0)
    await asyncio.sleep(0)
    await loop.cancel(session)
    assert (await sending).status == "cancelled"


class Wraps(ScriptedLLM):
    """A client that makes an error of its own of a cancellation."""

    async def complete(self, request: Any, **more: Any) -> Any:
        try:
            return await super().complete(request, **more)
        except asyncio.CancelledError as error:
            raise ConnectionError("the request was interrupted") from error


@pytest.mark.parametrize("policy", [None, LLMRetryPolicy()], ids=["no policy", "a policy"])
async def test_a_client_that_swallows_the_cancellation_is_not_asked_again(house: Any, policy: LLMRetryPolicy | None) -> None:
    loop = house.loop(llm=Wraps([hang()]), config=AgentLoopConfig(retry_policy=policy))
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await house.until_told("stream_started")
    await loop.cancel(session)
    assert (await sending).status == "cancelled"
    assert house.told("llm_retry_attempted") == []


# --- while tools run ---------------------------------------------------------------------------------


class Bench:
    """Tools that begin and do not end by themselves."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.cancelled: list[str] = []
        self.in_thread, self.go_on = threading.Event(), threading.Event()

    def tools(self) -> list[Any]:
        @tool(effects="once")
        async def write(at: str) -> str:
            """Write."""
            return await self.wait("write")

        @tool(effects="pure")
        async def read(at: str) -> str:
            """Read."""
            return await self.wait("read")

        @tool(effects="once")
        def stubborn(at: str) -> str:
            """Run in a thread, and finish when told to."""
            self.in_thread.set()
            self.go_on.wait(60)
            return "finished after all"

        return [write, read, stubborn]

    async def wait(self, name: str) -> str:
        self.begun.append(name)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        return "never"


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def outcomes(house: Any) -> dict[str, tuple[str, str]]:
    return {told["name"]: (told["outcome"], told["output"]) for told in house.told("tool_call_completed")}


# acceptance: 38 (ended by cancel)
async def test_tools_under_way_are_cancelled_and_every_call_has_its_answer(house: Any, bench: Bench) -> None:
    loop = house.loop(calls(call("write", at="x"), call("read", at="y")), "fine", tools=bench.tools())
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await house.until(lambda: len(bench.begun) == 2)
    await loop.cancel(session, reason="enough")
    result = await sending
    assert (result.status, sorted(bench.cancelled)) == ("cancelled", ["read", "write"])
    told = await outcomes(house)
    assert told["read"] == ("aborted", "<aborted: enough>")
    assert told["write"][0] == "unknown"
    assert "<aborted: enough>" in told["write"][1]
    assert "may or may not have taken effect" in told["write"][1]
    check_pairs(await loop.get_messages(session))
    assert (await loop.send("again", session)).final_text == "fine"


async def test_a_handler_in_a_thread_that_ends_within_the_grace_has_its_result(house: Any, bench: Bench) -> None:
    loop = house.loop(call("stubborn", at="x"), tools=bench.tools())
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await asyncio.to_thread(bench.in_thread.wait, 60)
    await loop.cancel(session)
    bench.go_on.set()
    assert (await sending).status == "cancelled"
    assert (await outcomes(house))["stubborn"] == ("ok", "finished after all")


async def test_a_handler_in_a_thread_that_does_not_end_is_reported_unknown(house: Any, bench: Bench) -> None:
    loop = house.loop(call("stubborn", at="x"), "fine", tools=bench.tools(), config=NO_GRACE)
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await asyncio.to_thread(bench.in_thread.wait, 60)
    await loop.cancel(session)
    assert (await sending).status == "cancelled"
    outcome, text = (await outcomes(house))["stubborn"]
    assert (outcome, "still running" in text) == ("unknown", True)
    bench.go_on.set()
    assert (await loop.send("again", session)).final_text == "fine"


# acceptance: 38 (calls that wait for a place)
@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_calls_that_wait_for_a_place_do_not_begin_after_the_cancel(house: Any, kind: str) -> None:
    begun: list[int] = []
    one_began, go_on = threading.Event(), threading.Event()

    @tool(name="work", effects="once", parallel=True)
    async def work_async(n: int) -> str:
        """Work."""
        begun.append(n)
        one_began.set()
        await asyncio.Event().wait()
        return "never"

    @tool(name="work", effects="once", parallel=True)
    def work_sync(n: int) -> str:
        """Work."""
        begun.append(n)
        one_began.set()
        go_on.wait(60)
        return "done"

    config = AgentLoopConfig(tooling=ToolPolicy(concurrency=1))
    two = calls(call("work", n=1), call("work", n=2))
    loop = house.loop(two, tools=[work_async if kind == "async" else work_sync], config=config)
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await asyncio.to_thread(one_began.wait, 60)
    await loop.cancel(session)
    go_on.set()
    assert (await sending).status == "cancelled"
    assert begun == [1]
    assert [told["outcome"] for told in house.told("tool_call_completed")][-1] == "aborted", "it is known that the second never began"


async def test_a_handler_that_ends_by_itself_when_its_token_is_pulled_has_its_result(house: Any) -> None:
    async def tidy(run: ToolRun) -> str:
        """Wait for the cancel."""
        waits.set()
        return f"put away: {await run.cancel.wait()}"

    waits, stop = asyncio.Event(), CancellationToken()
    loop = house.loop(call("tidy"), tools=[tidy])
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session, stop_event=stop))
    await waits.wait()
    stop.cancel("enough")
    assert (await sending).status == "cancelled"
    assert (await loop.get_messages(session))[2]["content"] == "put away: enough"


async def test_the_token_in_a_tools_hands_is_pulled(house: Any) -> None:
    heard: list[str] = []

    @tool(effects="pure")
    async def listen(run: ToolRun) -> str:
        """Wait for the stop."""
        assert run.cancel is not None
        run.cancel.on_cancel(heard.append)
        await asyncio.Event().wait()
        return "never"

    loop = house.loop(call("listen"), tools=[listen])
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await house.until_told("tool_call_started")
    await asyncio.sleep(0)
    await loop.cancel(session, reason="stop now")
    await sending
    assert heard == ["stop now"]


# --- between rounds and at the end -----------------------------------------------------------------------


@pytest.mark.parametrize("point", ["round.start", "round.end", "llm.before", "llm.after", "tool.before", "tool.after", "session.start"])
async def test_a_cancel_while_a_handler_is_asked_ends_the_send_at_the_next_step(house: Any, point: str) -> None:
    def add(a: int) -> str:
        """Add."""
        return f"sum {a}"

    async def cancels(ctx: Any) -> None:
        await loop.cancel(ctx.session_id, reason="from a handler")

    loop = house.loop(call("add", a=1), say("done"), say("done"), tools=[add], on={point: cancels})
    session = await loop.new_session()
    result = await loop.send("go", session)
    assert (result.status, result.final_text) == ("cancelled", "[cancelled: from a handler]")
    check_pairs(await loop.get_messages(session))
    loop.hooks.clear()
    assert (await loop.send("again", session)).status == "completed"


async def test_a_cancel_that_races_the_last_commit_leaves_one_outcome_and_stops_nothing_later(house: Any) -> None:
    """At each step of the event loop of a plain send: it completes or is cancelled, and the next one is its own."""
    for steps in range(60):
        loop = house.loop("answer", "next")
        session = await loop.new_session()
        house.heard.clear()
        sending = asyncio.create_task(loop.send("go", session))
        for _ in range(steps):
            await asyncio.sleep(0)
        await loop.cancel(session)
        result = await sending
        assert result.status in ("completed", "cancelled")
        assert house.told("session_ended") == [{"reason": result.status}], steps
        assert await house.holder(session) is None
        again = await loop.send("again", session)
        assert (again.status, again.send_index) == ("completed", 2), steps


# acceptance: 72 (through the store)
async def test_a_cancel_from_another_loop_on_the_same_database_is_heard(house: Any) -> None:
    def add(a: int) -> str:
        """Add."""
        return f"sum {a}"

    other = house.loop()

    async def cancels(ctx: Any) -> None:
        assert await other.cancel(ctx.session_id, reason="from next door")

    loop = house.loop(call("add", a=1), say("never"), tools=[add], on={"tool.before": cancels})
    result = await loop.run("go")
    assert (result.status, result.final_text) == ("cancelled", "[cancelled: from next door]")


# acceptance: 38 (a stale cancel)
async def test_a_cancel_that_came_through_the_store_too_late_does_not_stop_the_next_send(house: Any) -> None:
    other = house.loop()

    async def cancels(ctx: Any) -> None:
        await other.cancel(ctx.session_id)

    loop = house.loop("one", "two", on={"session.end": cancels})
    session = await loop.new_session()
    assert (await loop.send("go", session)).status == "completed"
    loop.hooks.clear()
    assert (await loop.send("again", session)).final_text == "two"


async def test_a_model_that_is_a_plain_function_is_cancelled_too(house: Any) -> None:
    async def think(_: Any) -> str:
        await asyncio.Event().wait()
        return "never"

    loop = house.loop(llm=FunctionLLM(think))
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await house.until_told("stream_started")
    await loop.cancel(session)
    assert (await sending).status == "cancelled"


async def test_a_handler_that_fails_because_it_is_cut_off_is_not_tried_again(house: Any) -> None:
    tries: list[int] = []
    begun = asyncio.Event()

    @tool
    async def pay(amount: int) -> str:
        """Pay."""
        tries.append(amount)
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise ConnectionError("connection lost") from None  # as clients do
        return "paid"

    loop = house.loop(call("pay", amount=1), "fine", tools=[pay], on={"tool.error": lambda ctx: HookDirective.SHORT_CIRCUIT})
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await begun.wait()
    await loop.cancel(session)
    assert ((await sending).status, tries) == ("cancelled", [1])
    assert "connection lost" in (await loop.get_messages(session))[-1]["content"]
    assert (await loop.send("and?", session)).final_text == "fine"
