"""Several models as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from power_loop.contracts.errors import LLMError, LLMPermanentError
from power_loop.contracts.model import LLMRequest, LLMResponse, ModelCapabilities, ModelRestart
from power_loop.llm import FallbackLLM, RecordingLLM, ReplayLLM
from power_loop.testing import ScriptedLLM, fail, say

OVERLOADED = LLMError("overloaded", status_code=529)


def ask(**fields: Any) -> LLMRequest:
    return LLMRequest([{"role": "user", "content": "hi"}], **fields)


# acceptance: 156 (moves on, reply and usage)
@pytest.mark.parametrize("error", [OVERLOADED, LLMError("timeout"), LLMError("busy", status_code=503), ConnectionError("no route")])
async def test_the_next_model_answers_and_is_named(error: Exception) -> None:
    first, second = ScriptedLLM([fail(error)], model="a"), ScriptedLLM([say("here", prompt_tokens=7)], model="b")
    told: list[ModelRestart] = []
    response = await FallbackLLM(first, second).complete(ask(on_restart=told.append))
    assert (response.text, response.model) == ("here", "b")
    assert response.token_usage is not None
    assert response.token_usage.prompt == 7
    assert response.debug["fallbacks"] == [{"from_model": "a", "to_model": "b", "error_type": type(error).__name__}]
    assert [(event.from_model, event.to_model, event.error) for event in told] == [("a", "b", error)]


# acceptance: 156 (not for refused requests)
@pytest.mark.parametrize("error", [LLMPermanentError("no", status_code=400), LLMError("no", status_code=401)])
async def test_a_refused_request_is_refused(error: Exception) -> None:
    second = ScriptedLLM([])
    with pytest.raises(LLMError, match="no"):
        await FallbackLLM(ScriptedLLM([fail(error)]), second).complete(ask())
    assert second.requests == []


async def test_the_last_error_is_raised_when_nobody_answers() -> None:
    with pytest.raises(LLMError, match="second"):
        await FallbackLLM(ScriptedLLM([fail(OVERLOADED)]), ScriptedLLM([fail(LLMError("second"))])).complete(ask())


async def test_a_model_that_failed_rests() -> None:
    now = [0.0]
    first = ScriptedLLM([fail(OVERLOADED), say("back")], model="a")
    second = ScriptedLLM([say("one"), say("two")], model="b")
    both = FallbackLLM(first, second, cooldown_s=30, clock=lambda: now[0])
    replies = []
    for seconds in (0.0, 29.0, 31.0):
        now[0] = seconds
        replies.append((await both.complete(ask())).text)
    assert replies == ["one", "two", "back"]


async def test_a_resting_model_is_better_than_none() -> None:
    first = ScriptedLLM([fail(OVERLOADED), say("back")])
    second = ScriptedLLM([fail(OVERLOADED), fail(OVERLOADED)])
    both = FallbackLLM(first, second, clock=lambda: 0.0)
    with pytest.raises(LLMError):
        await both.complete(ask())
    assert (await both.complete(ask())).text == "back"


async def test_what_was_shown_is_not_followed_by_another_model() -> None:
    second = ScriptedLLM([])
    with pytest.raises(LLMError, match="overloaded"):
        await FallbackLLM(ScriptedLLM([fail(OVERLOADED, after="half a ")]), second).complete(ask(), on_chunk_delta_text=lambda _: None)
    assert second.requests == []


async def test_what_was_shown_and_taken_back_is() -> None:
    heard: list[str] = []
    both = FallbackLLM(ScriptedLLM([fail(OVERLOADED, after="half a ")]), ScriptedLLM([say("whole answer")]))
    await both.complete(ask(on_restart=lambda _: heard.clear()), on_chunk_delta_text=heard.append)
    assert heard == ["whole", " answer"]


async def test_a_stream_moves_on_like_a_call() -> None:
    both = FallbackLLM(ScriptedLLM([fail(OVERLOADED)], model="a"), ScriptedLLM([say("two words")], model="b"))
    chunks = [chunk async for chunk in both.stream(ask())]
    assert [chunk.delta_text for chunk in chunks] == ["two", " words", ""]
    assert chunks[-1].response is not None
    assert chunks[-1].response.model == "b"


async def test_a_model_named_in_the_request_is_the_first_ones() -> None:
    first, second = ScriptedLLM([fail(OVERLOADED)], model="a"), ScriptedLLM([say("x")], model="b")
    await FallbackLLM(first, second).complete(ask(model="a-large"))
    assert (first.requests[0].model, second.requests[0].model) == ("a-large", None)


async def test_over_the_wire_the_second_provider_answers(openai: Any, anthropic: Any, server: Any) -> None:
    server.refuse(529, {"type": "overloaded_error", "message": "overloaded"})
    response = await FallbackLLM(anthropic.llm(max_retries=0, model="claude"), openai.llm(model="gpt")).complete(ask())
    assert [asked.path for asked in server.asked] == ["/v1/messages", "/v1/chat/completions"]
    assert response.text == "fine"


class OfHost:
    """A model with nothing but ``complete``."""

    def __init__(self, answer: str | Exception) -> None:
        self.answer = answer

    async def complete(self, request: LLMRequest, **callbacks: Any) -> LLMResponse:
        if isinstance(self.answer, Exception):
            raise self.answer
        return LLMResponse(raw_text=self.answer, content_text=self.answer)


async def test_models_with_nothing_but_complete_are_full_citizens(tmp_path: Path) -> None:
    away, here, kept, asked = cast("list[Any]", [OfHost(ConnectionError("away")), OfHost("here"), OfHost("kept"), OfHost("asked")])
    both, recorded = FallbackLLM(away, here), RecordingLLM(kept, tmp_path / "calls.jsonl")
    assert (await both.complete(ask())).text == "here"
    assert [chunk.delta_text async for chunk in both.stream(ask())][:1] == ["here"]
    assert (await recorded.complete(ask())).text == "kept"
    live = ReplayLLM(tmp_path / "calls.jsonl", on_miss="live", live=asked)
    assert [(await live.complete(ask(max_tokens=limit))).text for limit in (None, 5)] == ["kept", "asked"]
    for model in (both, recorded, live):
        await model.close()


@pytest.mark.parametrize("model", ["openai:gpt", None])
def test_what_is_no_model_is_refused(model: Any) -> None:
    with pytest.raises(TypeError, match="awaitable complete"):
        FallbackLLM(model)


def test_what_is_sent_must_fit_every_model() -> None:
    small, large = ModelCapabilities(context_window=8_000), ModelCapabilities(context_window=200_000, image_input=False)
    both = FallbackLLM(ScriptedLLM([], capabilities=large), ScriptedLLM([], capabilities=small))
    assert both.capabilities == ModelCapabilities(context_window=8_000, image_input=False)
    with pytest.raises(ValueError, match="at least one"):
        FallbackLLM()
