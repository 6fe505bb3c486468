"""Models that hosts write themselves: they try again on their own, or only stream, thoughts included."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from power_loop import (
    AgentLoopConfig,
    CancellationRequested,
    HookDirective,
    LLMError,
    LLMRequest,
    LLMResponse,
    LLMRetryPolicy,
    LLMService,
    LLMStreamChunk,
    tool,
)
from power_loop.contracts.model import LLMTokenUsage, ModelRestart


class Persistent:
    """Shows half an answer, fails, says so, and answers."""

    async def complete(self, request: LLMRequest, *, on_chunk_delta_text: Callable[[str], None], **_: Any) -> LLMResponse:
        on_chunk_delta_text("half an ")
        assert request.on_restart is not None
        request.on_restart(ModelRestart(LLMError("busy"), "mine", "mine", 1))
        on_chunk_delta_text("a whole one")
        return LLMResponse(content_text="a whole one", model="mine")


async def test_a_model_that_tries_again_by_itself_is_heard_to_do_so_and_what_it_showed_is_void(house: Any) -> None:
    result = await house.loop(llm=Persistent()).run("go")
    assert result.final_text == "a whole one"
    assert [told["text"] for told in house.told("stream_delta")] == ["half an ", "a whole one"]
    assert [told["aborted"] for told in house.told("stream_completed")] == [True, False]
    assert [told["error_type"] for told in house.told("llm_retry_attempted")] == ["LLMError"]
    assert "llm_fallback" not in house.types()


class Resigned(Persistent):
    """Says so as well, and ends with an error before it shows anything."""

    async def complete(self, request: LLMRequest, *, on_chunk_delta_text: Callable[[str], None], **_: Any) -> LLMResponse:
        assert request.on_restart is not None
        request.on_restart(ModelRestart(LLMError("busy"), "mine", "mine", 1))
        return LLMResponse(finish_reason="error")


async def test_an_attempt_that_was_announced_and_shows_nothing_begins_before_it_ends(house: Any) -> None:
    with pytest.raises(LLMError, match="ended its reply with an error"):
        await house.loop(llm=Resigned()).run("go")
    assert [told["attempt"] for told in house.told("llm_call_started")] == [1, 2]
    assert [(told["attempt"], told["success"]) for told in house.told("llm_call_completed")] == [(1, False), (2, False)]


class Thinking:
    """Can only stream."""

    async def stream(self, request: LLMRequest) -> AsyncIterator[LLMStreamChunk]:
        yield LLMStreamChunk(think="I ")
        yield LLMStreamChunk(think="wonder.")
        yield LLMStreamChunk("Yes.", is_final=True)


async def test_the_thoughts_of_a_model_that_only_streams_are_told_and_stored(house: Any) -> None:
    loop = house.loop(llm=Thinking())
    session = await loop.new_session()
    assert (await loop.send("go", session)).final_text == "Yes."
    assert [told["text"] for told in house.told("stream_think_delta")] == ["I ", "wonder."]
    assert await house.look("SELECT count(*) FROM pl_records WHERE kind = 'model_replied' AND body LIKE '%I wonder.%'") == [(1,)]


@tool(effects="pure")
def look() -> str:
    """Look."""
    return "a cat"


LOOK = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


class Streaming:
    """Can only stream, and says nothing whole."""

    def __init__(self, *replies: list[LLMStreamChunk]) -> None:
        self.replies = list(replies)

    async def stream(self, request: LLMRequest) -> AsyncIterator[LLMStreamChunk]:
        for chunk in self.replies.pop(0):
            yield chunk


class StreamingService(Streaming, LLMService):
    """The same as a service of ours."""


TEXT = [LLMStreamChunk("Hel"), LLMStreamChunk("lo", is_final=True, finish_reason="stop")]
CALL = [LLMStreamChunk("I look."), LLMStreamChunk(tool_calls=[LOOK], is_final=True, finish_reason="tool_calls")]
PIECES = [LLMStreamChunk(delta_tool_calls=[{"index": 0, **LOOK}]), LLMStreamChunk(is_final=True, finish_reason="tool_calls")]


@pytest.mark.parametrize("kind", [Streaming, StreamingService])
async def test_a_reply_is_what_its_chunks_make_up(house: Any, kind: type[Streaming]) -> None:
    result = await house.loop(llm=kind(CALL, TEXT), tools=[look]).run("go")
    assert (result.final_text, result.tool_calls, result.finish_reason) == ("Hello", 1, "stop")
    assert [told["output"] for told in house.told("tool_call_completed")] == ["a cat"]


@pytest.mark.parametrize("kind", [Streaming, StreamingService])
async def test_calls_in_pieces_alone_are_refused_by_name(house: Any, kind: type[Streaming]) -> None:
    with pytest.raises(LLMError, match=f"stream\\(\\) of {kind.__name__} gave calls in delta_tool_calls alone"):
        await house.loop(llm=kind(PIECES), tools=[look]).run("go")


class Whole(LLMService):
    """A service with `complete` alone, which tells nothing on the way."""

    async def complete(self, request: LLMRequest, **_: Any) -> LLMResponse:
        return LLMResponse(content_text=f"heard {request.messages[-1]['content']}", finish_reason="stop")


class Telling(Whole):
    """The same, word by word."""

    async def complete(self, request: LLMRequest, *, on_chunk_delta_text: Any = print, **_: Any) -> LLMResponse:
        for word in ("heard", " you"):
            on_chunk_delta_text(word)
        return await super().complete(request)


@pytest.mark.parametrize(("kind", "pieces"), [(Whole, ["heard you"]), (Telling, ["heard", " you"])])
async def test_a_service_with_complete_alone_streams(kind: type[LLMService], pieces: list[str]) -> None:
    assert [piece async for piece in kind().predict_stream("you")] == pieces
    *_, last = [chunk async for chunk in kind().stream(LLMRequest.from_prompt("you"))]
    assert last.is_final
    assert last.response is not None
    assert (last.response.text, last.finish_reason) == ("heard you", "stop")


class Passing(LLMService):
    """It leaves the reply to what it extends, which has none."""

    async def complete(self, request: LLMRequest, **told: Any) -> LLMResponse:
        return await super().complete(request, **told)


class PassingPieces(LLMService):
    """The same the other way round."""

    def stream(self, request: LLMRequest) -> AsyncIterator[LLMStreamChunk]:
        return super().stream(request)


@pytest.mark.parametrize("kind", [LLMService, Passing, PassingPieces])
async def test_a_service_with_neither_is_told_so(kind: type[LLMService]) -> None:
    with pytest.raises(TypeError, match=r"neither complete\(\) nor stream\(\)"):
        await kind().predict("hi")
    with pytest.raises(TypeError, match=r"neither complete\(\) nor stream\(\)"):
        _ = [piece async for piece in kind().predict_stream("hi")]


class Answers:
    """Gives what it was given, or raises it."""

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)

    async def complete(self, request: LLMRequest, **_: Any) -> LLMResponse:
        reply = self.replies.pop(0)
        if isinstance(reply, BaseException):
            raise reply
        return reply


MALFORMED = {
    "a call that is a number": LLMResponse(tool_calls=[5]),  # type: ignore[list-item]
    "a call without a shape": LLMResponse(tool_calls=[{"id": "c", "function": "f"}]),
    "no text": LLMResponse(content_text=b"bytes"),  # type: ignore[arg-type]
    "arguments that are no JSON": LLMResponse(tool_calls=[{"id": "c", "function": {"name": "f", "arguments": {"a": {1}}}}]),
    "usage that is none": LLMResponse(content_text="x", token_usage={"prompt": 1}),  # type: ignore[arg-type]
    "usage in words": LLMResponse(content_text="x", token_usage=LLMTokenUsage(prompt="1")),  # type: ignore[arg-type]
    "blocks that are no JSON": LLMResponse(content_text="x", provider_blocks=[object()]),
    "a stop that nobody asked for": CancellationRequested("mine"),
}


@pytest.mark.parametrize("what", MALFORMED)
async def test_what_is_no_reply_is_a_failure_of_the_model(house: Any, what: str) -> None:
    loop = house.loop(llm=Answers(MALFORMED[what], LLMResponse(content_text="fine")))
    session = await loop.new_session()
    with pytest.raises(LLMError):
        await loop.send("go", session)
    assert (await loop.send("again", session)).final_text == "fine"
    assert [told["success"] for told in house.told("llm_call_completed")] == [False, True]


async def test_names_that_are_numbers_are_taken_as_text_and_no_calls_for_none(house: Any) -> None:
    numbered = LLMResponse(content_text="fine", response_id=12345, model=7, tool_calls=None)  # type: ignore[arg-type]
    result = await house.loop(llm=Answers(numbered)).run("go")
    assert (result.status, result.final_text) == ("completed", "fine")
    assert [(told["response_id"], told["response_model"]) for told in house.told("llm_call_completed")] == [("12345", "7")]


@pytest.mark.parametrize("point", ["llm.before", "llm.after"])
async def test_a_malformed_reply_of_a_handler_names_the_handler(house: Any, point: str) -> None:
    def gives(ctx: Any) -> HookDirective | None:
        ctx.output = LLMResponse(tool_calls=["x"])  # type: ignore[list-item]
        return HookDirective.SHORT_CIRCUIT if point == "llm.before" else None

    with pytest.raises(TypeError, match=rf"a handler at {point} has tool_calls"):
        await house.loop("one", on={point: gives}).run("go")


@pytest.mark.parametrize("what", MALFORMED)
async def test_with_a_policy_what_is_no_reply_ends_the_send_as_degraded(house: Any, what: str) -> None:
    once = AgentLoopConfig(retry_policy=LLMRetryPolicy(max_attempts=1))
    result = await house.loop(llm=Answers(MALFORMED[what]), config=once).run("go")
    assert result.status == "degraded"
    assert result.error["code"].startswith("llm.")
