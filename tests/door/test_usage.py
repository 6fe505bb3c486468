"""Every model call is paid once and counted once: in the result, in the events, in the session's counters."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from power_loop import (
    AgentLoopConfig,
    ContextPolicy,
    HookDirective,
    LLMResponse,
    LLMRetryPolicy,
    LLMSummaryFold,
    LLMTokenUsage,
    Price,
    SessionStatsRow,
    Usage,
    UsageLimits,
    tool,
)
from power_loop.testing import FunctionLLM, ScriptedLLM, call, calls, fail, respond, say

NO_WAIT = LLMRetryPolicy(max_attempts=3, backoff_initial=0.0001, backoff_max=0.0001)
KEYS = {"prompt_tokens", "completion_tokens", "cache_read_tokens", "reasoning_tokens", "total_tokens", "calls"}


@tool(effects="pure")
def look(at: str) -> str:
    """Look at something."""
    return f"a {at}"


def sums(*pairs: tuple[int, int], cached: int = 0) -> dict[str, int]:
    prompt, completion = sum(p for p, _ in pairs), sum(c for _, c in pairs)
    return {
        "prompt_tokens": prompt, "completion_tokens": completion, "cache_read_tokens": cached, "reasoning_tokens": 0,
        "total_tokens": prompt + completion, "calls": len(pairs),
    }  # fmt: skip


def paid(step: Any, prompt: int, completion: int, **more: Any) -> Any:
    """``step``, with the provider's numbers."""
    return replace(step, prompt_tokens=prompt, completion_tokens=completion, **more)


# acceptance: 28 (tools)
async def test_usage_is_the_sum_over_all_replies_of_the_send(home: Any) -> None:
    loop = home.loop(
        paid(calls(call("look", at="x"), call("look", at="y")), 100, 7),
        paid(call("look", at="z"), 150, 5, cached_tokens=90),
        say("done", prompt_tokens=200, completion_tokens=3, cached_tokens=140),
        say("next", prompt_tokens=220, completion_tokens=2),
        tools=[look],
    )
    session = await loop.new_session()
    result = await loop.send("go", session)
    assert dict(result.usage) == sums((100, 7), (150, 5), (200, 3), cached=230)
    assert dict(result.usage_own) == dict(result.usage)
    assert result.tool_calls == result.usage.tool_calls == 3
    assert (result.usage.input_tokens, result.usage.output_tokens, result.usage.requests) == (450, 15, 3)
    assert dict((await loop.send("on", session)).usage) == sums((220, 2))


# acceptance: 28 (re-asks and the limit summary)
async def test_reasked_empty_replies_and_the_limit_summary_are_in_the_sum(home: Any) -> None:
    loop = home.loop(
        say("", prompt_tokens=10, completion_tokens=0),
        paid(call("look", at="x"), 20, 2),
        say("used up", prompt_tokens=30, completion_tokens=3),
        tools=[look],
    )
    result = await loop.run("go", max_rounds=2)
    assert result.status == "hit_round_limit"
    assert dict(result.usage) == sums((10, 0), (20, 2), (30, 3))


# acceptance: 28 (folds)
@pytest.mark.parametrize("inside", [True, False])
async def test_folds_are_in_the_sum_of_the_send_that_paid_for_them_or_in_the_statistics(home: Any, inside: bool) -> None:
    """A send whose request does not fit folds itself; else it is done after the result, and charged to the session alone."""
    fold = ContextPolicy(fold_strategy=LLMSummaryFold(keep_last_sends=1, trigger_ratio=1.0 if inside else 0.3), fold_target_ratio=0.3)
    config = AgentLoopConfig(context_tokens=450 if inside else 1000, context=fold)

    def answer(request: Any) -> Any:
        if request.reason == "fold":
            return say("<summary>short</summary>", prompt_tokens=1000, completion_tokens=11)
        return say("word " * 100, prompt_tokens=300, completion_tokens=2)

    loop = home.loop(llm=FunctionLLM(answer), config=config)
    session = await loop.new_session()
    results = [await loop.send("word " * 100, session) for _ in range(5)]
    # What is folded after the last send is heard by the next one.
    folds = sum(row.purpose == "fold" for row in await (await loop.ensure_store()).list_usage(session))
    assert folds > 0
    total = Usage()
    for result in results:
        total = total + result.usage
    assert dict(total) == sums(*[(300, 2)] * 5, *[(1000, 11)] * (folds if inside else 0))
    stats = await loop.get_session_stats(session)
    assert (stats.llm_calls, stats.prompt_tokens, stats.completion_tokens) == (5 + folds, 1500 + 1000 * folds, 10 + 11 * folds)


# acceptance: 28 (retries), 146 (failed calls)
async def test_failed_attempts_are_charged_by_estimate_and_marked(home: Any) -> None:
    loop = home.loop(
        fail(ConnectionError("cut"), after="half an ans"), say("whole", prompt_tokens=50, completion_tokens=5),
        config=AgentLoopConfig(retry_policy=NO_WAIT),
    )  # fmt: skip
    session = await loop.new_session()
    result = await loop.send("question " * 20, session)
    assert result.usage["calls"] == 2
    assert result.usage.estimated
    failed, answered = await (await loop.ensure_store()).list_usage(session)
    assert (failed.estimated, answered.estimated) == (True, False)
    assert failed.prompt_tokens > 20
    assert failed.completion_tokens > 0
    assert result.usage["prompt_tokens"] == failed.prompt_tokens + 50
    assert result.usage["completion_tokens"] == failed.completion_tokens + 5


# acceptance: 146 (a reply without usage)
async def test_a_reply_without_numbers_is_estimated_and_never_given_those_of_another_call(home: Any) -> None:
    silent = LLMResponse(content_text="four words of text")
    loop = home.loop(say("x", prompt_tokens=100_000, completion_tokens=1), respond(lambda _: silent))
    session = await loop.new_session()
    await loop.send("one", session)
    result = await loop.send("two", session)
    assert result.usage.estimated
    assert 0 < result.usage["prompt_tokens"] < 1000
    assert 0 < result.usage["completion_tokens"] < 20


async def test_usage_is_empty_when_no_model_was_reached(home: Any) -> None:
    loop = home.loop()
    loop.hooks.register("round.start", lambda ctx: HookDirective.BREAK)
    result = await loop.run("go")
    assert (result.status, dict(result.usage), dict(result.usage_own)) == ("completed", {}, {})


# acceptance: 29
async def test_one_usage_event_per_model_call_with_its_numbers_and_purpose(home: Any) -> None:
    loop = home.loop(
        fail(ConnectionError("cut")), paid(call("look", at="x"), 20, 2), say("used up", prompt_tokens=30, completion_tokens=3),
        config=AgentLoopConfig(retry_policy=NO_WAIT), tools=[look],
    )  # fmt: skip
    heard: list[Any] = []
    loop.event_bus.subscribe("usage_updated", heard.append)
    session = await loop.new_session()
    result = await loop.send("go", session, max_rounds=1)
    assert [event.payload["purpose"] for event in heard] == ["round", "round", "limit_summary"]
    assert {event.session_id for event in heard} == {session}
    told = [event.payload["usage"] for event in heard]
    assert [(usage["prompt_tokens"], usage["completion_tokens"]) for usage in told[1:]] == [(20, 2), (30, 3)]
    assert {key: sum(usage[key] for usage in told) for key in KEYS} == dict(result.usage)


# acceptance: 29 (folds)
async def test_a_fold_tells_its_usage_as_one(home: Any) -> None:
    fold = ContextPolicy(fold_strategy=LLMSummaryFold(keep_last_sends=1), fold_target_ratio=0.3)
    answers = lambda request: say("short", prompt_tokens=7) if request.reason == "fold" else say("word " * 200)  # noqa: E731 (a short model)
    loop = home.loop(llm=FunctionLLM(answers), config=AgentLoopConfig(context_tokens=500, context=fold))
    heard: list[Any] = []
    loop.event_bus.subscribe("usage_updated", heard.append)
    session = await loop.new_session()
    for _ in range(3):
        await loop.send("go", session)
    folds = [event for event in heard if event.payload["purpose"] == "fold"]
    assert len(folds) == sum(request.reason == "fold" for request in loop.llm.requests) > 0
    assert folds[0].payload["usage"]["prompt_tokens"] == 7


# acceptance: 21
async def test_statistics_count_every_finished_send_once_and_all_its_parts(home: Any) -> None:
    loop = home.loop(paid(call("look", at="x"), 10, 1), say("a", prompt_tokens=20, completion_tokens=2), tools=[look])
    session = await loop.new_session()
    assert await loop.get_session_stats(session) is None
    assert await loop.list_session_stats() == []
    await loop.send("go", session)
    stats = await loop.get_session_stats(session)
    assert isinstance(stats, SessionStatsRow)
    assert stats[:8] == (session, 1, 2, 2, 1, 30, 3, 33)
    assert 0 < stats.first_send_at <= stats.last_send_at <= stats.updated_at
    assert await loop.list_session_stats() == [stats]


# acceptance: 21 (a send that is continued, one that failed)
async def test_a_send_counts_once_however_often_it_is_resumed_and_not_while_it_fails(home: Any) -> None:
    loop = home.loop(fail(ConnectionError("cut")), call("look", at="x"), say("used up"), say("done"), tools=[look])
    session = await loop.new_session()
    with pytest.raises(Exception, match="cut"):
        await loop.send("go", session, max_rounds=1)
    assert await loop.get_session_stats(session) is None
    for extra, finished in ((0, 1), (2, 1)):
        await loop.resume(session, extra_rounds=extra)
        assert (await loop.get_session_stats(session)).sends == finished
    stats = await loop.get_session_stats(session)
    assert (stats.sends, stats.rounds, stats.llm_calls, stats.tool_calls) == (1, 2, 4, 1)


# acceptance: 21 (each counter in the batch of its record)
async def test_counters_never_run_ahead_of_or_behind_their_records(home: Any) -> None:
    loop = home.loop(calls(call("peek"), call("peek")), call("peek"), say("done"), llm=None)
    seen: list[tuple[int, ...]] = []

    async def peek() -> str:
        """Read the counters and the log, as another process might."""
        database = (await loop.ensure_store()).database
        kinds = ("model_replied", "model_replied", "tool_returned", "send_ended")
        sums = ", ".join(f"(SELECT COUNT(*) FROM pl_records WHERE kind = '{kind}')" for kind in kinds)
        # One statement, hence one moment: the other call of the round may return meanwhile.
        (row,) = await database.read(f"SELECT rounds, llm_calls, tool_calls, sends, {sums} FROM pl_sessions")
        seen.append(row)
        return "seen"

    await loop.run("go", tools=[peek])
    assert len(seen) == 3
    assert all(each[:4] == each[4:] for each in seen), seen


# acceptance: 21 (the listing)
async def test_the_listing_shows_the_most_recently_active_session_first(home: Any) -> None:
    loop = home.loop(llm=ScriptedLLM(["ok"], strict=False))
    sessions = [await loop.new_session() for _ in range(3)]
    for session in (*sessions, sessions[0]):
        before = time.time_ns() // 1_000_000
        while time.time_ns() // 1_000_000 == before:  # the next millisecond
            await asyncio.sleep(0)
        await loop.send("x", session)
    assert [row.session_id for row in await loop.list_session_stats()] == [sessions[0], sessions[2], sessions[1]]


async def test_a_price_table_gives_every_call_its_cost(home: Any) -> None:
    prices = {"gpt-*": Price(100.0, 100.0), "gpt-small": Price(1.0, 10.0, cache_read=0.1)}
    loop = home.loop(
        llm=ScriptedLLM([say("a", prompt_tokens=1_000_000, completion_tokens=100_000, cached_tokens=500_000)], model="gpt-small"),
        config=AgentLoopConfig(prices=prices),
    )
    session = await loop.new_session()
    result = await loop.send("go", session)
    assert result.usage.cost == pytest.approx(0.5 * 1.0 + 0.5 * 0.1 + 0.1 * 10)
    assert (await loop.get_session_stats(session)).cost == pytest.approx(1.55)
    assert [row.cost for row in await (await loop.ensure_store()).list_usage(session)] == [pytest.approx(1.55)]


async def test_without_a_price_there_is_no_cost(home: Any) -> None:
    loop = home.loop("a", config=AgentLoopConfig(prices={"other": Price(1, 1)}))
    assert (await loop.run("go")).usage.cost is None


async def test_the_price_of_the_model_that_answered_counts(home: Any) -> None:
    answered = LLMResponse(content_text="x", model="dear")
    loop = home.loop(respond(lambda _: answered), config=AgentLoopConfig(prices={"dear": Price(1e6, 1e6), "scripted": Price(1, 1)}))
    result = await loop.run("go")
    assert result.usage.cost == pytest.approx(result.usage["total_tokens"])


async def test_a_dated_name_without_a_price_costs_what_was_asked_for(home: Any) -> None:
    answered = LLMResponse(content_text="x", model="scripted-2026-08-06")
    loop = home.loop(respond(lambda _: answered), config=AgentLoopConfig(prices={"scripted": Price(1e6, 1e6)}))
    result = await loop.run("go")
    assert result.usage.cost == pytest.approx(result.usage["total_tokens"])


async def test_where_only_the_whole_is_counted_what_is_no_output_is_input(home: Any) -> None:
    answered = LLMResponse(content_text="x", token_usage=LLMTokenUsage(total=500))
    result = await home.loop(respond(lambda _: answered)).run("go")
    assert (result.usage["prompt_tokens"], result.usage["total_tokens"], result.usage.estimated) == (500, 500, False)


# acceptance: 145 (an unpriced model)
@pytest.mark.parametrize("prices", [None, {"other": Price(1, 1)}])
async def test_a_cost_limit_on_an_unpriced_model_is_refused_before_anything_is_written(home: Any, prices: Any) -> None:
    loop = home.loop(config=AgentLoopConfig(prices=prices))
    session = await loop.new_session()
    before = await home.contents()
    with pytest.raises(ValueError, match=r"price.*scripted"):
        await loop.send("go", session, limits=UsageLimits(cost=1.0))
    assert await home.contents() == before
    assert loop.llm.requests == []
