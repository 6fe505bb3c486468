"""Models for tests: strict about their script, and like a model otherwise."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from power_loop.contracts.errors import LLMError
from power_loop.contracts.llm_errors import is_permanent_llm_error
from power_loop.contracts.messages import estimate_tokens
from power_loop.contracts.model import LLMRequest, LLMResponse
from power_loop.testing import FunctionLLM, ScriptedLLM, call, calls, fail, hang, raw_call, respond, say


def ask(text: str = "hi", **fields: Any) -> LLMRequest:
    return LLMRequest([{"role": "user", "content": text}], **fields)


# acceptance: 154 (an unexpected request)
async def test_a_request_beyond_the_script_is_an_error() -> None:
    model = ScriptedLLM([say("one")])
    await model.complete(ask())
    with pytest.raises(AssertionError, match=r"1 steps, and this is request 2; it ends with .*surprise") as caught:
        await model.complete(ask("surprise"))
    assert is_permanent_llm_error(caught.value)
    with pytest.raises(AssertionError, match="1 requests came after"):
        model.assert_complete()


# acceptance: 154 (an unused step)
async def test_an_unused_step_is_an_error() -> None:
    model = ScriptedLLM([say("one"), say("two")])
    await model.complete(ask())
    with pytest.raises(AssertionError, match=r"1 of 2 steps were not used.*two"):
        model.assert_complete()
    with pytest.raises(AssertionError, match="not used"), ScriptedLLM([say("never")]):
        pass
    await model.complete(ask())
    model.assert_complete()


async def test_the_error_of_a_block_is_not_hidden_by_its_unused_steps() -> None:
    with pytest.raises(KeyError), ScriptedLLM([say("never")]):
        raise KeyError("the real reason")


async def test_a_script_that_is_not_strict_repeats_its_last_step() -> None:
    model = ScriptedLLM(["one", "two"], strict=False)
    assert [(await model.complete(ask())).text for _ in range(3)] == ["one", "two", "two"]
    ScriptedLLM(["unused"], strict=False).assert_complete()


async def test_a_script_can_be_written_on() -> None:
    model = ScriptedLLM()
    model.add("one", LLMResponse(content_text="two"))
    assert model.left == 2
    assert [(await model.complete(ask())).text for _ in range(2)] == ["one", "two"]


async def test_calls_have_ids_of_their_own_in_order() -> None:
    model = ScriptedLLM([calls(call("look", at=1), call("look", at=2), text="Looking."), raw_call("look", "{broken")])
    first, second = await model.complete(ask()), await model.complete(ask())
    assert [(each["id"], each["function"]["arguments"]) for each in first.tool_calls] == [("call_1", '{"at": 1}'), ("call_2", '{"at": 2}')]
    assert (first.text, first.finish_reason) == ("Looking.", "tool_calls")
    assert [(each["id"], each["function"]["arguments"]) for each in second.tool_calls] == [("call_3", "{broken")]


async def test_a_failure_comes_after_what_was_streamed() -> None:
    heard: list[str] = []
    with pytest.raises(LLMError, match="cut"):
        await ScriptedLLM([fail(LLMError("cut"), after="half a word")]).complete(ask(), on_chunk_delta_text=heard.append)
    assert heard == ["half", " a", " word"]
    with pytest.raises(ConnectionError):
        await ScriptedLLM([fail(ConnectionError)]).complete(ask())


async def test_a_call_that_hangs_ends_with_its_cancel() -> None:
    call_under_way = asyncio.create_task(ScriptedLLM([hang()]).complete(ask()))
    await asyncio.sleep(0)
    call_under_way.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call_under_way


async def test_a_function_answers_from_the_request() -> None:
    async def later(request: LLMRequest) -> str:
        return f"later {request.messages[-1]['content']}"

    model = ScriptedLLM([respond(lambda request: call("look", at=len(request.messages))), respond(later)])
    assert (await model.complete(ask())).tool_calls[0]["function"]["arguments"] == '{"at": 1}'
    assert (await model.complete(ask("you"))).text == "later you"
    assert (await FunctionLLM(lambda request: respond(later)).complete(ask("them"))).text == "later them"
    assert (await FunctionLLM(lambda request: say("x", prompt_tokens=3)).complete(ask())).token_usage.prompt == 3  # type: ignore[union-attr] # set by say


async def test_requests_are_kept_as_they_were() -> None:
    model = ScriptedLLM(["one"])
    request = ask("before", tools=[{"function": {"name": "look"}}])
    await model.complete(request)
    request.messages[0]["content"] = "after"
    request.messages.append({"role": "user", "content": "more"})
    assert model.requests[0].messages == [{"role": "user", "content": "before"}]
    forgetful = ScriptedLLM(["one"], keep_requests=False)
    await forgetful.complete(request)
    assert forgetful.requests == []


async def test_usage_is_the_same_every_time_and_can_be_set() -> None:
    reply = await ScriptedLLM([say("four words of text")]).complete(ask("a question"))
    assert reply.token_usage is not None
    assert reply.token_usage.prompt == estimate_tokens(ask("a question").messages)
    reply = await ScriptedLLM([say("x", prompt_tokens=100, completion_tokens=5, cached_tokens=80)]).complete(ask())
    assert reply.token_usage is not None
    assert reply.token_usage.for_call()[:3] == (100, 5, 80)


async def test_it_streams_like_a_model() -> None:
    heard: list[str] = []

    async def hear(piece: str) -> None:
        heard.append(piece)

    await ScriptedLLM([say("two words", think="hm hm")]).complete(ask(), on_chunk_delta_text=hear, on_chunk_think=hear)
    assert heard == ["hm", " hm", "two", " words"]
    chunks = [chunk async for chunk in ScriptedLLM([say("two words")]).stream(ask())]
    assert [chunk.delta_text for chunk in chunks] == ["two", " words", ""]
    assert chunks[-1].response is not None
    assert [piece async for piece in ScriptedLLM(["a b"]).predict_stream("?")] == ["a", " b"]
