"""Limits are data: the round that crosses one finishes, nothing is left open, and the next send works."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from power_loop import AgentLoopConfig, Price, UsageLimits, tool
from power_loop.context.pairing import check_pairs
from power_loop.testing import FunctionLLM, ScriptedLLM, call, calls, fail, hang, respond, say


@tool(effects="pure")
def look(at: str) -> str:
    """Look at something."""
    return f"a {at}"


TWO = calls(call("look", at="x"), call("look", at="y"), text="Let me look.")
COSTLY = replace(TWO, prompt_tokens=90, completion_tokens=20)

LIMITS = {
    "total_tokens": UsageLimits(total_tokens=100),
    "input_tokens": UsageLimits(input_tokens=90),
    "output_tokens": UsageLimits(output_tokens=20),
    "requests": UsageLimits(requests=1),
    "tool_calls": UsageLimits(tool_calls=2),
    "cost": UsageLimits(cost=0.0001),
}
PRICES = {"scripted": Price(1.0, 1.0)}


# acceptance: 30, 145 (tokens, requests, tool calls, cost)
@pytest.mark.parametrize("limit", LIMITS)
async def test_the_round_that_crosses_a_limit_completes_and_no_further_call_is_made(home: Any, limit: str) -> None:
    loop = home.loop(COSTLY, "and so on", tools=[look], config=AgentLoopConfig(prices=PRICES))
    session = await loop.new_session()
    result = await loop.send("go", session, limits=LIMITS[limit])
    assert (result.status, result.final_text, result.rounds, result.tool_calls) == ("budget_exceeded", "[budget_exceeded]", 1, 2)
    assert len(loop.llm.requests) == 1
    messages = await loop.get_messages(session)
    check_pairs(messages)
    assert [m["content"] for m in messages if m["role"] == "tool"] == ["a x", "a y"]
    assert (await loop.send("more", session)).status == "completed"


# acceptance: 30 (from the configuration, by its flat name)
async def test_the_configurations_cap_holds_and_a_call_may_set_another(home: Any) -> None:
    config = AgentLoopConfig(max_tokens_per_run=100)
    loop = home.loop(COSTLY, COSTLY, "done", COSTLY, tools=[look], config=config)
    session = await loop.new_session()
    assert (await loop.send("a", session)).status == "budget_exceeded"
    assert (await loop.send("b", session, limits=UsageLimits(total_tokens=1000))).status == "completed"
    assert (await loop.send("c", session, limits=UsageLimits(requests=9))).status == "budget_exceeded", "field by field"


async def test_a_first_answer_above_the_limit_is_an_answer(home: Any) -> None:
    loop = home.loop(say("expensive", prompt_tokens=1000, completion_tokens=1000))
    result = await loop.run("go", limits=UsageLimits(total_tokens=10))
    assert (result.status, result.final_text) == ("completed", "expensive")


# acceptance: 30 (resume)
async def test_a_resume_may_bring_a_higher_limit(home: Any) -> None:
    loop = home.loop(COSTLY, "done", tools=[look])
    session = await loop.new_session()
    await loop.send("go", session, limits=UsageLimits(requests=1))
    again = await loop.resume(session)
    assert (again.status, len(loop.llm.requests)) == ("budget_exceeded", 1), "the limit of the send still holds"
    more = await loop.resume(session, limits=UsageLimits(requests=5))
    assert (more.status, more.final_text, more.usage["calls"]) == ("completed", "done", 2)


# acceptance: 31
@pytest.mark.parametrize("limit", ["total_tokens", "requests"])
async def test_the_crossing_is_published_once_and_names_the_limit(home: Any, limit: str) -> None:
    loop = home.loop(COSTLY, "next", tools=[look])
    heard: list[Any] = []
    loop.event_bus.subscribe("status_changed", heard.append)
    session = await loop.new_session()
    await loop.send("go", session, limits=LIMITS[limit])
    told = [event.payload for event in heard if event.payload["kind"] == "budget_exceeded"]
    assert [payload["limit"] for payload in told] == [limit]
    heard.clear()
    await loop.send("more", session)
    assert "budget_exceeded" not in [event.payload["kind"] for event in heard]


def stuck_at(word: str, step: Any) -> FunctionLLM:
    """A model that does ``step`` when it is told ``word``, and answers everything else."""
    return FunctionLLM(lambda request: step if request.messages[-1]["content"] == word else "next")


# acceptance: 145 (seconds)
async def test_the_time_limit_cuts_a_model_call_off_and_leaves_a_sendable_session(home: Any) -> None:
    loop = home.loop(llm=stuck_at("go", hang(after="so f")))
    session = await loop.new_session()
    result = await loop.send("go", session, limits=UsageLimits(seconds=0.05))
    assert (result.status, result.final_text) == ("budget_exceeded", "[budget_exceeded]")
    assert (await loop.send("more", session)).final_text == "next"


# acceptance: 145 (seconds, inside tools), 38 (a time limit)
async def test_the_time_limit_answers_the_calls_that_it_cut_off(home: Any) -> None:
    async def slow() -> str:
        """Never return."""
        await asyncio.Event().wait()
        return ""

    loop = home.loop(llm=stuck_at("go", calls(call("slow"), call("slow"))), tools=[slow])
    session = await loop.new_session()
    result = await loop.send("go", session, limits=UsageLimits(seconds=0.05))
    assert result.status == "budget_exceeded"
    check_pairs(await loop.get_messages(session))
    assert await loop.get_pending(session) is None
    assert (await loop.send("more", session)).status == "completed"


# acceptance: 32
async def test_a_run_makes_max_rounds_rounds_and_one_summary_call_that_is_stored(home: Any) -> None:
    loop = home.loop(TWO, TWO, TWO, say("We looked thrice."), "next", tools=[look])
    session = await loop.new_session()
    result = await loop.send("go", session, max_rounds=3)
    assert (result.status, result.final_text, result.rounds) == ("hit_round_limit", "[hit_round_limit]\nWe looked thrice.", 3)
    first, *_, last = loop.llm.requests
    assert last.tool_choice == "none"
    assert (last.tools, last.system_prompt) == (first.tools, first.system_prompt), "the same prefix"
    assert last.messages[:-1] == (await loop.get_messages(session))[:-1]
    assert (await loop.get_messages(session))[-1] == {"role": "assistant", "content": "We looked thrice.", "name": "limit_summary"}
    assert (await loop.send("more", session)).final_text == "next"
    assert "We looked thrice." in [m["content"] for m in loop.llm.requests[-1].messages]
    assert last.messages[-1] not in loop.llm.requests[-1].messages, "the request for a summary is ephemeral"


# acceptance: 32 (a summary that asks for tools)
async def test_calls_in_the_summary_are_dropped(home: Any) -> None:
    loop = home.loop(TWO, calls(call("look", at="z"), text="One more!"), "next", tools=[look])
    session = await loop.new_session()
    result = await loop.send("go", session, max_rounds=1)
    assert (result.status, result.tool_calls, result.pending_tool_calls) == ("hit_round_limit", 2, [])
    assert result.final_text == "[hit_round_limit]\nOne more!"
    check_pairs(await loop.get_messages(session))
    assert (await loop.send("more", session)).status == "completed"


# acceptance: 32 (a summary that fails)
async def test_a_summary_that_fails_leaves_the_status_as_it_is(home: Any) -> None:
    def fails(request: Any) -> str:
        raise ConnectionError("cut")

    loop = home.loop(TWO, respond(fails), "next", tools=[look])
    session = await loop.new_session()
    result = await loop.send("go", session, max_rounds=1)
    assert (result.status, result.rounds) == ("hit_round_limit", 1)
    assert (await loop.send("more", session)).final_text == "next"


# acceptance: 32 (continued)
async def test_extra_rounds_continue_the_send_without_its_summary(home: Any) -> None:
    loop = home.loop(TWO, say("Not done."), call("look", at="z"), say("Done."), tools=[look])
    session = await loop.new_session()
    await loop.send("go", session, max_rounds=1)
    result = await loop.resume(session, extra_rounds=2)
    assert (result.status, result.final_text, result.send_index) == ("completed", "Done.", 1)
    assert result.usage["calls"] == 4
    assert "Not done." not in [m["content"] for m in loop.llm.requests[2].messages]


async def test_a_resume_that_adds_no_rounds_pays_for_no_other_summary(home: Any) -> None:
    loop = home.loop(TWO, say("Not done."), "more", tools=[look])
    session = await loop.new_session()
    first = await loop.send("go", session, max_rounds=1)
    again = await loop.resume(session)
    assert (again.status, again.final_text, again.rounds) == (first.status, first.final_text, 0)
    assert len(loop.llm.requests) == 2
    assert (await loop.resume(session, extra_rounds=1)).final_text == "more"


async def test_a_resume_makes_up_for_a_summary_that_failed(home: Any) -> None:
    loop = home.loop(TWO, fail(ConnectionError("cut")), say("Not done."), tools=[look])
    session = await loop.new_session()
    first = await loop.send("go", session, max_rounds=1)
    again = await loop.resume(session)
    assert (first.status, first.error is None, again.status, again.error) == ("hit_round_limit", False, "hit_round_limit", None)
    assert again.final_text == "[hit_round_limit]\nNot done."


async def test_the_limit_of_the_configuration_applies_to_each_send_anew(home: Any) -> None:
    script = [call("look", at="x"), "used up"]
    loop = home.loop(*script, *script, tools=[look], config=AgentLoopConfig(max_rounds=1))
    session = await loop.new_session()
    assert [(await loop.send("go", session)).status for _ in range(2)] == ["hit_round_limit"] * 2


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "3"])
async def test_a_nonsense_number_of_rounds_is_refused_before_anything_is_written(home: Any, wrong: Any) -> None:
    loop = home.loop()
    session = await loop.new_session()
    before = await home.contents()
    with pytest.raises((ValueError, TypeError), match="max_rounds"):
        await loop.send("go", session, max_rounds=wrong)
    assert await home.contents() == before


@pytest.mark.parametrize("wrong", [{"total_tokens": 5}, 5, "5"])
async def test_limits_that_are_no_usage_limits_are_refused_before_anything_is_written(home: Any, wrong: Any) -> None:
    loop = home.loop()
    session = await loop.new_session()
    before = await home.contents()
    with pytest.raises(TypeError, match="limits"):
        await loop.send("go", session, limits=wrong)
    with pytest.raises(TypeError, match="limits"):
        await loop.resume(session, limits=wrong)
    assert await home.contents() == before


@pytest.mark.parametrize("field", LIMITS)
@pytest.mark.parametrize("value", [0, -1, True, "5", float("nan")])
def test_nonsense_limits_cannot_be_made(field: str, value: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=field):
        UsageLimits(**{field: value})


async def test_a_tool_round_at_the_limit_of_a_strict_script_makes_exactly_one_more_call(home: Any) -> None:
    with ScriptedLLM([TWO, "summary"]) as model:
        await home.loop(llm=model, tools=[look]).run("go", max_rounds=1)
