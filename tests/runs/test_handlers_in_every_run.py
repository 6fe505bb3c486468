"""Hooks hold on every way that a session is driven; one that raises fails closed, and a later run asks again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from power_loop import (
    AgentLoopConfig,
    CompleteDecideCtx,
    ContextPolicy,
    HookDirective,
    LlmBeforeCtx,
    LLMResponse,
    LLMSummaryFold,
    SessionPendingError,
    StatefulResult,
    ToolPolicy,
    tool,
)
from power_loop.context.pairing import check_pairs
from power_loop.testing import FunctionLLM, ScriptedLLM, call, calls, say

SKIP, BREAK, CANCEL, SHORT_CIRCUIT = HookDirective.SKIP, HookDirective.BREAK, HookDirective.CANCEL, HookDirective.SHORT_CIRCUIT
TWO = calls(call("add", a=1), call("add", a=2))
POINTS = (
    *("message.append", "session.start", "round.start", "llm.before", "llm.after", "round.decide", "tools.batch.before"),
    *("tool.before", "tool.after", "tools.batch.after", "round.end", "complete.decide", "session.end"),
)


class Till:
    """A tool that counts, and a model that calls it twice and then is done."""

    def __init__(self) -> None:
        self.added: list[int] = []
        self.asked = 0

    def tools(self, effects: Any = "idempotent") -> list[Any]:
        @tool(effects=effects)
        def add(a: int) -> str:
            """Add."""
            self.added.append(a)
            return f"sum {a}"

        return [add]

    def model(self) -> FunctionLLM:
        def answer(request: Any) -> Any:
            self.asked += 1
            return say("done") if request.messages[-1]["role"] == "tool" else TWO

        return FunctionLLM(answer)


@pytest.fixture
def till() -> Till:
    return Till()


def once(act: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A handler that acts the first time only."""
    asked: list[int] = []

    def handler(ctx: Any) -> Any:
        asked.append(1)
        return act(ctx) if len(asked) == 1 else None

    return handler


async def ways(house: Any, till: Till, on: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """The ways to drive a session whose two calls are still to be run, or asked for."""
    loop = house.loop(llm=till.model(), tools=till.tools(), on=on)

    async def send() -> StatefulResult:
        return await loop.send("go", await loop.new_session())

    async def follow_up() -> Any:
        return await loop.follow_up("go", await loop.new_session())

    async def resume() -> StatefulResult:
        without = house.loop(TWO)
        session = await without.new_session()
        assert (await without.send("go", session)).status == "pending_tools"
        return await loop.resume(session)

    async def stream() -> StatefulResult:
        events = [event async for event in loop.stream("go", await loop.new_session())]
        return events[-1].result

    return {"send": send, "follow_up": follow_up, "resume": resume, "stream": stream}


WAYS = ["send", "follow_up", "resume", "stream"]


# acceptance: 49 (on every way)
@pytest.mark.parametrize("way", WAYS)
async def test_a_veto_holds_on_every_way(house: Any, till: Till, way: str) -> None:
    def veto(ctx: Any) -> HookDirective:
        ctx.output = "not on my watch"
        return SKIP

    result = await (await ways(house, till, {"tool.before": veto}))[way]()
    assert (result.status, till.added, result.tool_calls) == ("completed", [], 0)
    messages = await house.loop().get_messages(result.session_id)
    assert [message["content"] for message in messages if message["role"] == "tool"] == ["not on my watch"] * 2


class Diary:
    """Recalls one thing."""

    async def recall(self, **_: Any) -> list[dict[str, Any]]:
        return [{"role": "user", "content": "You like ships."}]

    async def remember(self, **_: Any) -> None:
        return


ELSEWHERE = ("tool.error", "memory.recalled", "timer.fire", "compact.before", "compact.after")


# acceptance: 38 (at points that not every send passes)
@pytest.mark.parametrize("directive", [SKIP, BREAK, CANCEL])
@pytest.mark.parametrize("point", ELSEWHERE)
async def test_a_plain_send_works_after_a_directive_at_a_rare_point(house: Any, point: str, directive: HookDirective) -> None:
    asked: list[Any] = []

    @tool(effects="idempotent")
    def sink(ship: int) -> str:
        """Sink a ship."""
        raise RuntimeError(f"{ship} is unsinkable")

    def answer(request: Any) -> Any:
        if request.reason == "fold":
            return say("<summary>ships</summary>")
        if "go" in [message["content"] for message in request.messages[-2:]]:  # what is recalled comes last
            return calls(call("sink", ship=1), call("sink", ship=2))
        return say("ships " * 400)

    config = AgentLoopConfig(context=ContextPolicy(fold_strategy=LLMSummaryFold(keep_last_sends=1)), context_tokens=3500, max_tokens=500)
    config.memory = Diary()
    on = {point: lambda ctx: asked.append(ctx) or directive}
    loop = house.loop(llm=FunctionLLM(answer), tools=[sink], config=config, on=on)
    session = await loop.new_session()
    for text in ("of ships", "of more ships", "of big ships", "of small ships", "go"):
        await loop.schedule_timer(session, delay_s=0, note="ahoy")
        await (await loop.ensure_store()).fire_due()
        result = await loop.send(text, session)
        assert result.status in ("completed", "cancelled")
        assert await loop.get_pending(session) is None
    assert asked, "the point was passed"
    check_pairs(await loop.get_messages(session, include_compacted=True))
    assert (await house.loop("fine").send("and now?", session)).final_text == "fine"


# acceptance: 48 (every point, on every way)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("directive", [SKIP, BREAK, CANCEL, SHORT_CIRCUIT])
async def test_no_directive_leaves_a_call_without_its_result(house: Any, till: Till, way: str, directive: HookDirective) -> None:
    def act(ctx: Any) -> HookDirective:
        if isinstance(ctx, LlmBeforeCtx):
            ctx.output = LLMResponse(raw_text="given", content_text="given")
        elif isinstance(ctx, CompleteDecideCtx):
            ctx.message = "go on"
        return directive

    for point in POINTS:
        result = await (await ways(house, till, {point: once(act)}))[way]()
        assert result.status in ("completed", "cancelled"), point
        loop = house.loop("fine")
        check_pairs(await loop.get_messages(result.session_id))
        assert await loop.get_pending(result.session_id) is None, point
        assert (await loop.send("and now?", result.session_id)).final_text == "fine", point


# --- a handler that raises --------------------------------------------------------------------------------


class Wrong(Exception):
    """A handler's own."""


def raising(error: Exception) -> Callable[[Any], Any]:
    def act(_: Any) -> None:
        raise error

    return once(act)


# acceptance: 48 (what a raising handler guards does not happen)
@pytest.mark.parametrize("point", POINTS)
async def test_a_raising_handler_fails_closed_and_resume_asks_again(house: Any, till: Till, point: str) -> None:
    error, asked = Wrong("no"), list[str]()
    loop = house.loop(llm=till.model(), tools=till.tools(), on={point: raising(error)})
    loop.hooks.register(point, lambda ctx: asked.append(point))
    session = await loop.new_session()
    with pytest.raises(Wrong) as caught:
        await loop.send("go", session)
    assert caught.value is error
    if point != "tool.after":  # which is asked for each call
        assert asked == [], "handlers behind the one that raised are not called"
    assert await house.holder(session) is None
    guarded = POINTS.index(point) < POINTS.index("tool.after")
    assert (till.added == []) is guarded
    if point == "message.append":
        assert await loop.get_messages(session) == []
        assert (await loop.send("go", session)).final_text == "done"
        return
    result = await loop.resume(session)
    assert (result.status, result.final_text, result.send_index) == ("completed", "done", 1)
    if point != "tools.batch.after":  # the results stand: there is nothing to ask about
        assert asked, "the later run asks again"
    messages = await loop.get_messages(session)
    check_pairs(messages)
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool", "assistant"]
    assert set(till.added) == {1, 2}


@pytest.mark.parametrize("point", ["round.decide", "tools.batch.before", "tool.before"])
async def test_calls_behind_a_raising_handler_stay_open(house: Any, till: Till, point: str) -> None:
    loop = house.loop(llm=till.model(), tools=till.tools("once"), on={point: raising(Wrong("no"))})
    session = await loop.new_session()
    with pytest.raises(Wrong):
        await loop.send("go", session)
    pending = await loop.get_pending(session)
    assert pending is not None
    assert (len(pending["tool_calls"]), pending["unknown_call_ids"]) == (2, [])
    with pytest.raises(SessionPendingError):
        await loop.send("more", session)
    assert (await loop.resume(session)).status == "completed"
    assert sorted(till.added) == [1, 2], "each ran once"


async def test_a_second_call_that_a_handler_balks_at_keeps_the_first_from_running(house: Any, till: Till) -> None:
    def balks(ctx: Any) -> None:
        if ctx.tool_args == {"a": 2} and not till.asked > 1:
            till.asked = 9
            raise Wrong("no")

    loop = house.loop(llm=till.model(), tools=till.tools("once"), on={"tool.before": balks})
    session = await loop.new_session()
    with pytest.raises(Wrong):
        await loop.send("go", session)
    assert len((await loop.get_pending(session) or {})["tool_calls"]) == 2 - len(till.added)
    assert (await loop.resume(session)).status == "completed"
    assert till.added == [1, 2]


async def test_a_handler_that_raises_after_a_paid_reply_leaves_it_charged(house: Any, till: Till) -> None:
    loop = house.loop(llm=till.model(), tools=till.tools(), on={"llm.after": raising(Wrong("no"))})
    session = await loop.new_session()
    with pytest.raises(Wrong):
        await loop.send("go", session)
    assert await house.kinds(session) == ["user_said", "call_charged", "send_ended"]
    assert len(house.told("usage_updated")) == 1


@pytest.mark.parametrize("effects", ["once", "idempotent"])
async def test_a_handler_that_raises_about_a_failed_tool_leaves_the_call_open(house: Any, effects: Any) -> None:
    @tool(effects=effects)
    def breaks() -> str:
        """Break."""
        raise OSError("no disk")

    loop = house.loop(call("breaks"), "done", tools=[breaks], on={"tool.error": raising(Wrong("no"))})
    session = await loop.new_session()
    with pytest.raises(Wrong):
        await loop.send("go", session)
    pending = await loop.get_pending(session)
    assert pending is not None
    assert len(pending["unknown_call_ids"]) == (effects == "once"), "it ran, and what it found out was lost"
    assert (await loop.resume(session)).final_text == "done"


async def test_a_reply_that_a_handler_gives_costs_nothing_and_one_that_it_changes_costs_what_it_did(house: Any) -> None:
    given = LLMResponse(raw_text="cached", content_text="cached")

    def short(ctx: Any) -> HookDirective:
        ctx.output = given
        return SHORT_CIRCUIT

    def replaces(ctx: Any) -> None:
        ctx.output = given

    free = await house.loop(on={"llm.before": short}).run("go")
    assert (free.final_text, free.usage, house.told("usage_updated")) == ("cached", {}, [])
    paid = await house.loop(say("long answer", prompt_tokens=70, completion_tokens=7), on={"llm.after": replaces}).run("go")
    assert (paid.final_text, paid.usage["total_tokens"], paid.usage.estimated) == ("cached", 77, False)


# acceptance: 48 (a fold)
@pytest.mark.parametrize("act", ["skip", "raise"])
async def test_a_fold_that_a_handler_does_not_want_does_not_happen(house: Any, act: str) -> None:
    summary = ScriptedLLM(["<summary>ships</summary>"], strict=False)
    context = ContextPolicy(fold_strategy=LLMSummaryFold(keep_last_sends=1, summary_llm=summary))
    seen: list[Any] = []

    def handler(ctx: Any) -> Any:
        seen.append(len(ctx.messages))
        if act == "raise":
            raise Wrong("no")
        return SKIP

    loop = house.loop(*["ships " * 400] * 9, config=AgentLoopConfig(context=context, context_tokens=2000, max_tokens=500))
    loop.hooks.register("compact.before", handler)
    session = await loop.new_session()
    raised = 0
    for _ in range(6):
        try:
            await loop.send("of ships, please", session)
        except Wrong:
            raised += 1
    assert seen
    assert summary.requests == []
    assert (raised > 0) is (act == "raise")
    loop.hooks.clear()
    assert (await loop.send("and more", session)).status == "completed"
    assert len(summary.requests) == 1


# acceptance: 48 (what a handler at compact.after is told)
async def test_a_handler_hears_of_a_fold(house: Any) -> None:
    summary = ScriptedLLM(["<summary>ships</summary>"], strict=False)
    context = ContextPolicy(fold_strategy=LLMSummaryFold(keep_last_sends=1, summary_llm=summary))
    told: list[tuple[int, int, bool]] = []

    def after(ctx: Any) -> None:
        told.append((ctx.messages_before_count, ctx.messages_after_count, any("ships" in str(message) for message in ctx.messages)))

    loop = house.loop(*["ships " * 400] * 5, config=AgentLoopConfig(context=context, context_tokens=2000, max_tokens=500))
    loop.hooks.register("compact.after", after)
    session = await loop.new_session()
    for _ in range(5):
        await loop.send("of ships, please", session)
    assert told
    assert told[0][0] > told[0][1]
    assert told[0][2]


# --- directives that meet calls which wait for a place ------------------------------------------------------


# acceptance: 48 (tool.after)
async def test_ending_the_run_after_a_tool_lets_running_calls_finish_and_begins_no_other(house: Any) -> None:
    begun: list[int] = []

    @tool(effects="pure", parallel=True)
    async def work(n: int) -> str:
        """Work."""
        begun.append(n)
        if n == 2:
            await house.until_told("tool_call_completed")
        return f"did {n}"

    def ends(ctx: Any) -> HookDirective | None:
        return BREAK if ctx.tool_args == {"n": 1} else None

    config = AgentLoopConfig(tooling=ToolPolicy(concurrency=2))
    loop = house.loop(calls(*(call("work", n=n) for n in (1, 2, 3, 4))), tools=[work], config=config, on={"tool.after": ends})
    result = await loop.run("go")
    assert (result.status, begun) == ("completed", [1, 2])
    outputs = [message["content"] for message in await loop.get_messages(result.session_id) if message["role"] == "tool"]
    assert outputs[:2] == ["did 1", "did 2"]
    assert all(text.startswith("[skipped") for text in outputs[2:])


async def test_rewritten_arguments_stand_when_the_run_is_cut_off_and_nobody_is_asked_again(house: Any) -> None:
    ran: list[int] = []
    asked: list[int] = []

    @tool(effects="idempotent")
    async def work(n: int) -> str:
        """Work."""
        ran.append(n)
        if len(ran) == 1:
            await asyncio.Event().wait()
        return f"did {n}"

    def rewrite(ctx: Any) -> None:
        asked.append(1)
        ctx.tool_args = {"n": ctx.tool_args["n"] * 10}

    loop = house.loop(call("work", n=1), "done", tools=[work], on={"tool.before": rewrite})
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await house.until(lambda: ran)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    cold = house.loop("done", tools=[work], on={"tool.before": rewrite})
    assert (await cold.resume(session)).final_text == "done"
    assert (ran, asked) == ([10, 10], [1])
