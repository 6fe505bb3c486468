"""How often a model is asked, and what a failure becomes: at the wire, over both protocols."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from power_loop.contracts.errors import ContextOverflow, LLMError, LLMPermanentError
from power_loop.contracts.llm_errors import is_permanent_llm_error, is_transient_llm_error
from power_loop.contracts.model import ModelRestart
from power_loop.providers.errors import retry_after_s


# acceptance: 70 (one attempt at the wire)
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 413, 422])
async def test_a_refused_request_is_made_exactly_once(wire: Any, server: Any, h: Any, status: int) -> None:
    server.refuse(status, {"type": "some_error", "message": "no"})
    with pytest.raises(LLMPermanentError) as caught:
        await wire.llm(max_retries=5).complete(h.ask())
    assert len(server.asked) == 1
    assert caught.value.status_code == status
    assert caught.value.provider == wire.name
    assert type(caught.value.__cause__).__module__.startswith(wire.name)
    assert is_permanent_llm_error(caught.value)


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 529])
async def test_a_transient_failure_is_tried_again(wire: Any, server: Any, h: Any, status: int) -> None:
    server.refuse(status, {"type": "some_error", "message": "later"})
    assert (await wire.llm().complete(h.ask())).text == "fine"
    assert len(server.asked) == 2
    assert len(wire.slept) == 1


# acceptance: 70 (attempts of the transport)
async def test_without_a_policy_above_the_transport_retries_with_growing_waits(wire: Any, server: Any, h: Any) -> None:
    for _ in range(4):
        server.refuse(503, {"message": "busy"})
    with pytest.raises(LLMError, match="busy") as caught:
        await wire.llm(max_retries=3).complete(h.ask())
    assert len(server.asked) == 4
    assert wire.slept == sorted(wire.slept)
    assert 0.4 <= wire.slept[0] <= 0.6
    assert is_transient_llm_error(caught.value)


async def test_with_a_policy_above_one_call_is_one_attempt(wire: Any, server: Any, h: Any) -> None:
    server.refuse(503, {"message": "busy"})
    with pytest.raises(LLMError):
        await wire.llm(max_retries=3).complete(h.ask(retry_in_transport=False))
    assert len(server.asked) == 1


@pytest.mark.parametrize("code", ["insufficient_quota", "billing_not_active"])
async def test_an_empty_account_is_not_asked_again(openai: Any, server: Any, h: Any, code: str) -> None:
    server.refuse(429, {"message": "you exceeded your current quota", "code": code})
    with pytest.raises(LLMPermanentError):
        await openai.llm().complete(h.ask())
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("wire_name", "error"),
    [
        ("openai", {"code": "context_length_exceeded", "message": "too long"}),
        ("openai", {"code": 400, "type": "exceed_context_size_error", "message": "request (18020 tokens) exceeds …"}),
        ("openai", {"message": "This model's maximum context length is 8192 tokens. However, you requested 9000"}),
        ("anthropic", {"type": "invalid_request_error", "message": "prompt is too long: 210000 tokens > 200000 maximum"}),
        (
            "anthropic",
            {"type": "invalid_request_error", "message": "input length and `max_tokens` exceed context limit: 197202 + 21333"},
        ),
        ("openai", {"message": "This model's maximum prompt length is 131072 but the request contains 537812 tokens."}),
    ],
)
async def test_a_request_over_the_context_is_an_overflow(
    openai: Any, anthropic: Any, server: Any, h: Any, wire_name: str, error: Any
) -> None:
    server.refuse(400, error)
    with pytest.raises(ContextOverflow):
        await (openai if wire_name == "openai" else anthropic).llm().complete(h.ask())
    assert len(server.asked) == 1


# --- Retry-After --------------------------------------------------------------------------


async def test_the_provider_says_how_long_to_wait(wire: Any, server: Any, h: Any) -> None:
    server.refuse(429, {"message": "slow down"}, **{"retry-after": "7"})
    await wire.llm().complete(h.ask())
    assert wire.slept == [7.0]


async def test_nobody_waits_longer_than_the_timeout(wire: Any, server: Any, h: Any) -> None:
    server.refuse(429, {"message": "slow down"}, **{"retry-after": "3600"})
    with pytest.raises(LLMError) as caught:
        await wire.llm(timeout_s=30).complete(h.ask())
    assert caught.value.retry_after_s == 3600
    assert wire.slept == []


def test_retry_after_is_seconds_milliseconds_or_a_date() -> None:
    now = datetime(2020, 1, 1, tzinfo=UTC)
    date = format_datetime(now + timedelta(seconds=12), usegmt=True)
    assert retry_after_s({"retry-after": "1.5"}, now=0) == 1.5
    assert retry_after_s({"retry-after-ms": "250", "retry-after": "9"}, now=0) == 0.25
    assert retry_after_s({"retry-after": date}, now=now.timestamp()) == 12
    assert retry_after_s({"retry-after": "soon"}, now=0) is None
    assert retry_after_s({}, now=0) is None


# --- broken streams -------------------------------------------------------------------------


# acceptance: 134 (a broken stream is a transient failure)
@pytest.mark.parametrize("how", ["cut", "ended"])
async def test_a_stream_that_breaks_midway_is_a_transient_failure_after_its_deltas(wire: Any, server: Any, h: Any, how: str) -> None:
    server.answers.append(lambda asked: h.Answer(h.text_pieces(asked, "one ", "two "), cut=how == "cut"))
    heard: list[str] = []
    with pytest.raises(LLMError) as caught:
        await wire.llm(max_retries=3).complete(h.ask(), on_chunk_delta_text=heard.append)
    assert heard == ["one ", "two "]
    assert is_transient_llm_error(caught.value)
    assert len(server.asked) == 1, "what was shown cannot be taken back here, so nobody asks again"


async def test_a_broken_stream_that_nobody_watched_is_asked_again(wire: Any, server: Any, h: Any) -> None:
    server.answers.append(lambda asked: h.Answer(h.text_pieces(asked, "one ", "two "), cut=True))
    assert (await wire.llm().complete(h.ask())).text == "fine"
    assert len(server.asked) == 2


async def test_whoever_can_take_deltas_back_is_told_before_the_call_begins_again(wire: Any, server: Any, h: Any) -> None:
    server.answers.append(lambda asked: h.Answer(h.text_pieces(asked, "one ", "two "), cut=True))
    heard: list[str] = []

    def restart(event: ModelRestart) -> None:
        assert (event.from_model, event.to_model, event.attempt) == ("m", "m", 1)
        heard.clear()

    response = await wire.llm().complete(h.ask(on_restart=restart), on_chunk_delta_text=heard.append)
    assert "".join(heard) == response.text == "fine"


@pytest.mark.parametrize(("error", "kind"), [("overloaded_error", LLMError), ("invalid_request_error", LLMPermanentError)])
async def test_an_error_inside_a_stream_is_that_error(wire: Any, server: Any, h: Any, error: str, kind: type[LLMError]) -> None:
    body = {"type": "error", "error": {"type": error, "message": "as it was"}}
    server.answers.append(lambda asked: h.Answer(h.text_pieces(asked, "one ") + h.events(body)))
    with pytest.raises(LLMError, match="as it was") as caught:
        await wire.llm(max_retries=0).complete(h.ask())
    assert type(caught.value) is kind


BAD = {"message": "upstream died", "code": 502}
FAILED: dict[str, tuple[dict[str, Any], str]] = {
    "the choice has an error": ({"choices": [{"message": {"content": "half"}, "finish_reason": "stop", "error": BAD}]}, "upstream died"),
    "it finished with an error": ({"choices": [{"message": {"content": "half"}, "finish_reason": "error"}]}, "ended in an error"),
    "no choice": ({"choices": []}, "holds no reply"),
    "something else": ({"detail": "not ready"}, "holds no reply"),
}


@pytest.mark.parametrize("how", FAILED)
async def test_an_answer_that_holds_an_error_or_no_reply_is_a_transient_failure(openai: Any, server: Any, h: Any, how: str) -> None:
    body, text = FAILED[how]
    server.answers.append(h.Answer(json.dumps(body).encode(), headers=h.JSON))
    with pytest.raises(LLMError, match=text) as caught:
        await openai.llm(max_retries=0).complete(h.ask())
    assert is_transient_llm_error(caught.value)


@pytest.mark.parametrize("body", [{"detail": "gone"}, {"code": 500, "msg": "upstream busy"}])
async def test_an_answer_that_is_no_message_is_a_transient_failure(anthropic: Any, server: Any, h: Any, body: dict[str, Any]) -> None:
    server.answers.append(h.Answer(json.dumps(body).encode(), headers=h.JSON))
    with pytest.raises(LLMError, match="holds no reply") as caught:
        await anthropic.llm(max_retries=0).complete(h.ask())
    assert is_transient_llm_error(caught.value)


@pytest.mark.parametrize("end", [{"finish_reason": "error"}, {"finish_reason": "stop", "error": BAD}])
async def test_a_stream_that_ends_in_an_error_is_a_transient_failure(openai: Any, server: Any, h: Any, end: dict[str, Any]) -> None:
    pieces = h.chat_stream({"content": "one "}, finish=None, done=False)
    server.answers.append(h.Answer(pieces + h.events({"choices": [{"index": 0, "delta": {}, **end}]}, b"[DONE]")))
    assert (await openai.llm().complete(h.ask())).text == "fine"
    assert len(server.asked) == 2


@pytest.mark.parametrize("junk", [b"{not json", b"[1, 2]", b'{"choices": [{"delta": {"tool_calls": [{"function": 5}]}}], "type": []}'])
async def test_what_is_no_protocol_at_all_is_a_transient_failure(wire: Any, server: Any, h: Any, junk: bytes) -> None:
    server.answers.append(h.Answer(h.events(junk)))
    with pytest.raises(LLMError) as caught:
        await wire.llm(max_retries=0).complete(h.ask())
    assert is_transient_llm_error(caught.value)


async def test_a_server_that_keeps_the_line_open_after_the_end_costs_little(wire: Any, server: Any, h: Any) -> None:
    server.answers.append(
        lambda asked: h.Answer(
            h.chat_stream({"content": "x"}) if "chat" in asked.path else h.messages_stream({"type": "text", "text": "x"}), hold=True
        )
    )
    started = time.monotonic()
    assert (await wire.llm().complete(h.ask())).text == "x"
    assert time.monotonic() - started < 30


async def test_silence_is_a_timeout_and_transient(wire: Any, server: Any, h: Any) -> None:
    server.answers.append(h.Answer(b"", hold=True))
    with pytest.raises(LLMError) as caught:
        await wire.llm(timeout_s=0.1, max_retries=0).complete(h.ask())
    assert is_transient_llm_error(caught.value)


async def test_nobody_listening_at_the_address_is_transient(wire: Any, h: Any) -> None:
    with pytest.raises(LLMError) as caught:
        await wire.llm("http://127.0.0.1:9", max_retries=0).complete(h.ask())
    assert is_transient_llm_error(caught.value)
    assert caught.value.__cause__ is not None


# --- cancelling ---------------------------------------------------------------------------------


async def test_cancelling_the_caller_closes_the_connection(wire: Any, server: Any, h: Any) -> None:
    server.answers.append(lambda asked: h.Answer(h.text_pieces(asked, "one "), hold=True))
    heard = asyncio.Event()
    call = asyncio.create_task(wire.llm().complete(h.ask(), on_chunk_delta_text=lambda _: heard.set()))
    await heard.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await server.client_left.wait()
    assert len(server.asked) == 1


async def test_cancelling_before_the_answer_closes_the_connection(wire: Any, server: Any, h: Any) -> None:
    server.answers.append(h.Answer(b"", hold=True))
    call = asyncio.create_task(wire.llm().complete(h.ask()))
    await server.held.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await server.client_left.wait()


async def test_leaving_a_stream_early_closes_the_connection(wire: Any, server: Any, h: Any) -> None:
    server.answers.append(lambda asked: h.Answer(h.text_pieces(asked, "one ", "two "), hold=True))
    stream = wire.llm().stream(h.ask())
    assert (await anext(stream)).delta_text == "one "
    await stream.aclose()
    await server.client_left.wait()


# --- continuing a broken reply ------------------------------------------------------------------------


async def test_a_text_reply_is_continued_where_that_is_switched_on(openai: Any, server: Any, h: Any) -> None:
    server.answers.append(lambda asked: h.Answer(h.text_pieces(asked, "one ", "two "), cut=True))
    server.answers.append(h.Answer(h.chat_stream({"content": "three"})))
    heard: list[str] = []
    response = await openai.llm(stream_resume_on_error=True).complete(h.ask(), on_chunk_delta_text=heard.append)
    assert response.content_text == "".join(heard) == "one two three"
    assert server.asked[1].body["messages"][-2] == {"role": "assistant", "content": "one two "}


@pytest.mark.parametrize("told", [{"prompt_tokens": 50, "completion_tokens": 5, "total_tokens": 55}, None])
async def test_a_continued_reply_is_described_and_charged_as_a_whole(openai: Any, server: Any, h: Any, told: dict[str, int] | None) -> None:
    beginning = h.chat_stream({"reasoning": "I count. "}, {"content": '{"one": 1, '}, finish=None, done=False)
    server.answers.append(h.Answer(beginning, cut=True))
    server.answers.append(h.Answer(h.chat_stream({"reasoning": "On."}, {"content": '"two": 2}'}, usage=told)))
    request = h.ask("count " * 100, parse_json=True)
    response = await openai.llm(stream_resume_on_error=True).complete(request)
    assert (response.json_data, response.parse_error) == ({"one": 1, "two": 2}, None)
    assert (response.raw_message["content"], response.think) == ('{"one": 1, "two": 2}', "I count. On.")
    usage = response.token_usage
    assert usage is not None
    assert usage.estimated
    assert usage.input_tokens > (50 if told else 200) + 90, "the words were sent twice"
    assert usage.output_tokens > 5
    assert usage.total == (usage.input_tokens + usage.output_tokens if told else None)


async def test_a_reply_with_calls_is_not_continued(openai: Any, server: Any, h: Any) -> None:
    call = {"content": "x", "tool_calls": [{"index": 0, "id": "1", "function": {"name": "a", "arguments": "{"}}]}
    server.answers.append(h.Answer(h.chat_stream(call, finish=None, done=False), cut=True))
    with pytest.raises(LLMError):
        await openai.llm(stream_resume_on_error=True).complete(h.ask(), on_chunk_delta_text=lambda _: None)
    assert len(server.asked) == 1


async def test_a_document_that_the_server_holds_to_its_format_is_not_continued(openai: Any, server: Any, h: Any) -> None:
    server.answers.append(h.Answer(h.chat_stream({"content": '{"one": 1, '}, finish=None, done=False), cut=True))
    with pytest.raises(LLMError):
        await openai.llm(stream_resume_on_error=True).complete(
            h.ask(response_format={"type": "json_object"}), on_chunk_delta_text=lambda _: None
        )
    assert len(server.asked) == 1


async def test_a_server_that_asks_to_wait_is_not_asked_to_go_on_at_once(openai: Any, server: Any, h: Any) -> None:
    server.answers.append(lambda asked: h.Answer(h.text_pieces(asked, "one ", "two "), cut=True))
    server.answers.append(h.Answer(b"{}", status=429, headers={"retry-after": "7"}))
    with pytest.raises(LLMError) as raised:
        await openai.llm(stream_resume_on_error=True).complete(h.ask(), on_chunk_delta_text=lambda _: None)
    assert (raised.value.status_code, raised.value.retry_after_s, len(server.asked)) == (429, 7.0, 2)
