"""Every model call is charged once, whatever became of it, with its own numbers or an estimate that says so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from power_loop import AgentLoopConfig, FallbackLLM, HookDirective, LLMError, LLMResponse, LLMRetryPolicy, LLMTokenUsage, UsageLimits
from power_loop.testing import ScriptedLLM, call, fail, hang, respond, say

RETRY = AgentLoopConfig(retry_policy=LLMRetryPolicy())


def add(a: int) -> str:
    """Add."""
    return f"sum {a}"


async def stats(house: Any, session: str) -> tuple[int, int, int]:
    return (await house.look("SELECT llm_calls, prompt_tokens, completion_tokens FROM pl_sessions WHERE session_id = ?", session))[0]


# acceptance: 29 (attempts), 146 (failed calls)
async def test_failed_attempts_are_charged_by_estimate_beside_the_numbers_of_the_one_that_answered(house: Any) -> None:
    script = (fail(ConnectionError("cut"), after="one two three four"), say("whole", prompt_tokens=1000, completion_tokens=10))
    loop = house.loop(*script, config=RETRY)
    result = await loop.run("a question")
    failed, answered = [told["usage"] for told in house.told("usage_updated")]
    assert (answered["prompt_tokens"], answered["completion_tokens"], answered["calls"]) == (1000, 10, 1)
    assert 0 < failed["prompt_tokens"] < 1000, "of its own request, not of the other call"
    assert failed["completion_tokens"] > 0, "what it had said by then"
    assert result.usage["prompt_tokens"] == 1000 + failed["prompt_tokens"]
    assert result.usage["calls"] == 2
    assert result.usage.estimated
    marks = [(told["success"], told["estimated"]) for told in house.told("llm_call_completed")]
    assert marks == [(False, True), (True, False)]
    assert await stats(house, result.session_id) == (2, result.usage["prompt_tokens"], result.usage["completion_tokens"])


# acceptance: 146 (no number from another call)
async def test_a_reply_without_numbers_between_two_with_numbers_has_an_estimate_of_its_own(house: Any) -> None:
    numbers = say("x", prompt_tokens=50_000, completion_tokens=9_000)
    bare = respond(lambda _: LLMResponse(raw_text="short", content_text="short"))
    loop = house.loop(numbers, bare, numbers)
    session = await loop.new_session()
    usages = [(await loop.send("go", session)).usage for _ in range(3)]
    assert [usage.estimated for usage in usages] == [False, True, False]
    assert usages[1]["prompt_tokens"] < 1000
    assert usages[1]["completion_tokens"] < 20
    assert (usages[0]["prompt_tokens"], usages[2]["prompt_tokens"]) == (50_000, 50_000)


@pytest.mark.parametrize(
    "nonsense",
    [
        {"prompt": 10, "completion": -5}, {"prompt": 2**70, "completion": 1}, {"prompt": 1, "completion": 1, "prompt_cached": -1},
        {"prompt": 1, "cost": float("nan")}, {"prompt": 1, "cost": -1.0}, {"prompt": 1, "cost": float("inf")},
        {"prompt": 1, "completion_reasoning": 1.5}, {"prompt": 1, "cost": "free"},
    ],
)  # fmt: skip
async def test_numbers_that_cannot_be_are_estimated_and_give_nothing_back(house: Any, nonsense: dict[str, Any]) -> None:
    usage = LLMTokenUsage(**nonsense)
    bare = respond(lambda _: LLMResponse(raw_text="short", content_text="short", token_usage=usage))
    result = await house.loop(bare, tools=[add]).run("go", limits=UsageLimits(total_tokens=10_000))
    assert (result.final_text, result.usage.estimated) == ("short", True)
    assert 0 < result.usage["prompt_tokens"] < 1000
    assert (await stats(house, result.session_id))[1] == result.usage["prompt_tokens"]


# acceptance: 146 (a sessions apart)
async def test_calls_that_run_at_once_keep_their_numbers_apart(house: Any) -> None:
    def answer(request: Any) -> Any:
        n = int(request.messages[-1]["content"])
        return say("ok", prompt_tokens=n, completion_tokens=1) if n % 2 else LLMResponse(raw_text="ok", content_text="ok")

    loop = house.loop(llm=ScriptedLLM([respond(answer)], strict=False))
    results = await asyncio.gather(*(loop.run(str(1000 + n)) for n in range(10)))
    for n, result in enumerate(results):
        assert result.usage.estimated is (n % 2 == 0)
        assert (result.usage["prompt_tokens"] == 1000 + n) is (n % 2 == 1)


# acceptance: 146 (a fallback)
async def test_a_model_that_was_given_up_is_charged_too(house: Any) -> None:
    first = ScriptedLLM([fail(LLMError("busy", status_code=529), after="half an answer")], model="first")
    second = ScriptedLLM([say("whole", prompt_tokens=100, completion_tokens=5)], model="second")
    result = await house.loop(llm=FallbackLLM(first, second)).run("go")
    assert result.usage["calls"] == 2
    assert result.usage["prompt_tokens"] > 100
    assert result.usage.estimated
    assert house.types().count("usage_updated") == 2
    rows = await house.look("SELECT kind FROM pl_records WHERE session_id = ? AND kind = 'call_charged'", result.session_id)
    assert len(rows) == 1


async def test_each_model_that_was_given_up_is_asked_and_charged_under_its_own_name(house: Any) -> None:
    given_up = [ScriptedLLM([fail(LLMError("busy", status_code=529))], model=name) for name in ("first", "second")]
    loop = house.loop(llm=FallbackLLM(*given_up, ScriptedLLM([say("whole")], model="third")))
    result = await loop.run("go")
    asked = [(told["attempt"], told["model"], told["success"]) for told in house.told("llm_call_completed")]
    assert asked == [(1, "first", False), (2, "second", False), (3, "third", True)]
    assert [told["model"] for told in house.told("llm_call_started")] == ["first", "second", "third"]
    assert set((await loop.budget(result.session_id))["by_model"]) == {"first", "second", "third"}


async def test_a_reply_that_its_model_calls_an_error_is_a_failed_attempt_with_its_own_numbers(house: Any) -> None:
    half = say("half an answer", finish_reason="error", prompt_tokens=100, completion_tokens=5)
    result = await house.loop(half, say("whole", prompt_tokens=100, completion_tokens=5), config=RETRY).run("go")
    assert (result.status, result.final_text, result.usage["calls"]) == ("completed", "whole", 2)
    assert (result.usage["prompt_tokens"], result.usage.estimated) == (200, False)
    assert [told["success"] for told in house.told("llm_call_completed")] == [False, True]


# acceptance: 146 (raised failures)
async def test_a_failure_that_is_raised_is_charged(house: Any) -> None:
    loop = house.loop(fail(ConnectionError("cut"), after="half"), "fine")
    session = await loop.new_session()
    with pytest.raises(LLMError):
        await loop.send("go", session)
    assert (await stats(house, session))[0] == 1
    result = await loop.resume(session)
    assert (result.usage["calls"], result.usage.estimated) == (2, True)


# acceptance: 29 (purposes)
async def test_each_call_is_told_with_its_purpose(house: Any) -> None:
    loop = house.loop(call("add", a=1), say("what was done"), tools=[add], config=AgentLoopConfig(max_rounds=1))
    result = await loop.run("go")
    assert [event.session_id for event in house.heard if event.type == "usage_updated"] == [result.session_id] * 2
    assert [told["purpose"] for told in house.told("usage_updated")] == ["round", "limit_summary"]
    assert sum(told["usage"]["total_tokens"] for told in house.told("usage_updated")) == result.usage["total_tokens"]


async def test_a_limit_summary_that_fails_is_charged_and_the_send_ends_all_the_same(house: Any) -> None:
    loop = house.loop(call("add", a=1), fail(ConnectionError("cut")), "fine", tools=[add], config=AgentLoopConfig(max_rounds=1))
    session = await loop.new_session()
    result = await loop.send("go", session)
    assert (result.status, result.usage["calls"]) == ("hit_round_limit", 2)
    assert result.error is not None
    assert (await loop.send("and?", session)).status == "completed"


async def test_a_summary_that_is_cut_off_ends_the_send_once(house: Any) -> None:
    loop = house.loop(call("add", a=1), hang(after="so far"), "fine", tools=[add], config=AgentLoopConfig(max_rounds=1))
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await house.until_told("stream_started", 2)
    await loop.cancel(session)
    result = await sending
    assert (result.status, len(house.told("session_ended"))) == ("cancelled", 1)
    assert (await loop.send("and?", session)).final_text == "fine"


@pytest.mark.parametrize("point", ["llm.before", "llm.after"])
async def test_a_handler_that_cancels_the_summary_cancels_the_send(house: Any, point: str) -> None:
    asked: list[Any] = []

    def cancels_the_second(ctx: Any) -> HookDirective | None:
        asked.append(ctx)
        return HookDirective.CANCEL if len(asked) == 2 else None

    once = AgentLoopConfig(max_rounds=1)
    loop = house.loop(call("add", a=1), say("what was done"), tools=[add], on={point: cancels_the_second}, config=once)
    assert (await loop.run("go")).status == "cancelled"
    assert (len(house.told("loop_cancelled")), [told["reason"] for told in house.told("session_ended")]) == (1, ["cancelled"])
