"""Recorded wire streams: the same content is the same reply, whoever spoke and over whichever protocol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from power_loop.contracts.model import LLMResponse
from power_loop.providers.anthropic.stream import MessageReader
from power_loop.providers.openai.stream import ChatReader
from power_loop.providers.wire import DONE

RECORDED = Path(__file__).parent / "wire"

SAID = {
    "tools": (
        "Let me look. ",
        [("call_a", '{"city":"Paris","unit":"celsius"}'), ("call_b", '{"city":"Rome","unit":"celsius"}')],
        "tool_calls",
        (123, 45),
    ),
    "text": ("It is sunny in Paris: 20 °C, 日本語.", [], "stop", (10, 20)),
}


def replayed(name: str) -> LLMResponse:
    """The reply that the recorded stream ``name`` holds."""
    reader: Any = ChatReader() if "_chat_" in name else MessageReader()
    for line in (RECORDED / f"{name}.sse").read_text(encoding="utf-8").splitlines():
        if line.startswith("data: "):
            reader.feed(DONE if line == "data: [DONE]" else json.loads(line[6:]))
    assert reader.complete
    return reader.draft.response(answers_by_tool=False, parse_json=False)


# acceptance: 164
@pytest.mark.parametrize("wire", ["chat", "messages"])
@pytest.mark.parametrize("kind", SAID)
def test_both_wires_give_the_same_reply_for_the_same_content(kind: str, wire: str) -> None:
    text, calls, finish, tokens = SAID[kind]
    reply = replayed(f"aimock_{wire}_{kind}")
    assert reply.content_text == text
    assert [(call["id"], call["function"]["arguments"]) for call in reply.tool_calls] == calls
    assert reply.finish_reason == finish
    assert reply.token_usage is not None
    assert (reply.token_usage.prompt, reply.token_usage.completion) == tokens
    assert reply.think == ("Two cities, two calls." if kind == "tools" else "")


# acceptance: 164 (cached and reasoning tokens)
def test_cached_and_reasoning_tokens_of_a_chat_stream_are_counted() -> None:
    usage = replayed("aimock_chat_details").token_usage
    assert usage is not None
    assert (usage.prompt, usage.prompt_cached, usage.completion, usage.completion_reasoning) == (123, 100, 45, 12)


# acceptance: 164 (cached tokens of a real engine)
@pytest.mark.parametrize("wire", ["chat", "messages"])
def test_a_real_engine_is_understood_over_both_wires(wire: str) -> None:
    reply = replayed(f"llama_{wire}_tools")
    assert reply.finish_reason == "length"
    assert [call["function"]["name"] for call in reply.tool_calls][:1] == ["get_weather"]
    assert reply.token_usage is not None
    assert (reply.token_usage.prompt, reply.token_usage.prompt_cached, reply.token_usage.completion) == (437, 436, 90)
    assert reply.token_usage.for_call().cache_read == 436


def test_anthropic_counts_what_its_input_tokens_leave_out() -> None:
    reader = MessageReader()
    usage = {"input_tokens": 5, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20, "output_tokens": 1}
    reader.feed({"type": "message_start", "message": {"usage": usage}})
    reader.feed(
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 30, "output_tokens_details": {"thinking_tokens": 9}},
        }
    )
    reader.feed({"type": "message_stop"})
    counted = reader.draft.usage
    assert counted is not None
    assert counted.for_call() == (125, 30, 100, 20, 9, 1, None, False)


def test_a_server_that_counts_nothing_reports_no_usage() -> None:
    reader = MessageReader()
    reader.feed({"type": "message_start", "message": {"usage": {"input_tokens": 0, "output_tokens": 0}}})
    reader.feed({"type": "message_stop"})
    assert reader.draft.usage is None
    chat = ChatReader()
    chat.feed({"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 0, "completion_tokens": 0}})
    assert chat.draft.usage is None
