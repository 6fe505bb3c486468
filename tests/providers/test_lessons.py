"""What a refusal teaches: the same call in another form, at once, remembered for the model, and no attempt."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from power_loop.contracts.errors import LLMPermanentError
from power_loop.contracts.model import ModelCapabilities

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
FORMAT = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA, "strict": True}}
TOOL = {"type": "function", "function": {"name": "look", "description": "Look", "parameters": {"type": "object", "properties": {}}}}


async def test_a_refused_temperature_is_left_out_at_once_and_from_then_on(
    wire: Any, server: Any, h: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server.refuse(400, {"message": "`temperature` is deprecated for this model.", "param": "temperature"})
    llm = wire.llm(max_retries=0)
    with caplog.at_level(logging.WARNING, "power_loop"):
        for _ in range(2):
            assert (await llm.complete(h.ask(temperature=0.0, retry_in_transport=False))).text == "fine"
    assert ["temperature" in asked.body for asked in server.asked] == [True, False, False]
    assert wire.slept == []
    assert len(caplog.records) == 1


async def test_what_one_model_refused_another_is_still_asked(wire: Any, server: Any, h: Any) -> None:
    server.refuse(400, {"message": "unsupported: temperature"})
    llm = wire.llm()
    await llm.complete(h.ask(temperature=0.5))
    await llm.complete(h.ask(temperature=0.5, model="other"))
    assert "temperature" in server.asked[-1].body


async def test_the_cap_goes_by_its_other_name_where_the_first_is_refused(openai: Any, server: Any, h: Any) -> None:
    message = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    server.refuse(400, {"message": message, "param": "max_tokens", "code": "unsupported_parameter"})
    llm = openai.llm()
    for _ in range(2):
        await llm.complete(h.ask(max_tokens=50))
    caps = [(asked.body.get("max_tokens"), asked.body.get("max_completion_tokens")) for asked in server.asked]
    assert caps == [(50, None), (None, 50), (None, 50)]


async def test_a_cap_that_neither_name_saves_is_refused_for_good(openai: Any, server: Any, h: Any) -> None:
    server.refuse(400, {"message": "max_tokens is too large", "param": "max_tokens"})
    server.refuse(400, {"message": "max_completion_tokens is too large", "param": "max_completion_tokens"})
    with pytest.raises(LLMPermanentError):
        await openai.llm().complete(h.ask(max_tokens=10**9))
    assert len(server.asked) == 2


async def test_declared_capabilities_are_not_second_guessed(openai: Any, server: Any, h: Any) -> None:
    declared = ModelCapabilities(temperature=True, output_cap_field="max_completion_tokens", json_schema=True)
    for field in ("temperature", "max_completion_tokens", "response_format"):
        server.refuse(400, {"message": f"{field} is bad", "param": field})
        with pytest.raises(LLMPermanentError):
            await openai.llm(capabilities=declared).complete(h.ask(temperature=1.0, max_tokens=5, response_format=FORMAT))
    assert len(server.asked) == 3
    assert server.asked[0].body["max_completion_tokens"] == 5


async def test_a_model_declared_without_temperature_is_never_sent_one(wire: Any, h: Any) -> None:
    assert "temperature" not in await wire.sent(h.ask(temperature=0.3), capabilities=ModelCapabilities(temperature=False))


async def test_a_server_without_usage_in_streams_is_asked_without(openai: Any, server: Any, h: Any) -> None:
    server.refuse(400, {"message": "Unrecognized request argument supplied: stream_options"})
    assert (await openai.llm().complete(h.ask())).text == "fine"
    assert "stream_options" not in server.asked[1].body


async def test_anthropic_names_its_maximum_and_is_believed(anthropic: Any, server: Any, h: Any) -> None:
    server.refuse(400, {"message": "max_tokens: 64000 > 8192, which is the maximum allowed number of output tokens for m"})
    llm = anthropic.llm()
    for _ in range(2):
        await llm.complete(h.ask())
    assert [asked.body["max_tokens"] for asked in server.asked] == [64000, 8192, 8192]


# --- schemas: native, else a forced tool, else the prompt ---------------------------------------------


def answers_with(h: Any, asked: Any, text: str) -> Any:
    """A reply by the means that the request leaves."""
    names = [tool.get("name") or tool["function"]["name"] for tool in asked.body.get("tools", [])]
    if "chat" in asked.path:
        call = {"tool_calls": [{"index": 0, "id": "1", "function": {"name": "final_answer", "arguments": text}}]}
        return h.Answer(h.chat_stream(call if "final_answer" in names else {"content": text}))
    import json

    block = {"type": "tool_use", "id": "1", "name": "final_answer", "input": json.loads(text)}
    return h.Answer(h.messages_stream(block if "final_answer" in names else {"type": "text", "text": text}))


async def test_the_caller_sees_no_difference_between_the_ways_to_a_schema(wire: Any, server: Any, h: Any) -> None:
    format_refusal = (
        "response_format of type json_schema is not supported" if wire.name == "openai" else "output_config.format: schema is not supported"
    )
    document = '{"city": "Rome"}'
    server.answers.append(lambda asked: answers_with(h, asked, document))
    llm = wire.llm()
    native = await llm.complete(h.ask(response_format=FORMAT))
    server.refuse(400, {"message": format_refusal})
    heard: list[str] = []
    server.answers.append(lambda asked: answers_with(h, asked, document))
    by_tool = await llm.complete(h.ask(response_format=FORMAT), on_chunk_delta_text=heard.append)
    server.refuse(400, {"message": "tool_choice forces tool use, which is not supported here"})
    server.answers.append(lambda asked: answers_with(h, asked, document))
    by_prompt = await llm.complete(h.ask(response_format=FORMAT))
    for response in (native, by_tool, by_prompt):
        assert (response.content_text, response.tool_calls, response.finish_reason) == (document, [], "stop")
    assert "".join(heard) == document
    last = server.asked[-1].body
    assert "tools" not in last
    assert "additionalProperties" in str(last["messages" if wire.name == "openai" else "system"])


async def test_other_tools_stay_usable_beside_the_forced_answer(wire: Any, h: Any) -> None:
    body = await wire.sent(h.ask(response_format=FORMAT, tools=[TOOL]), capabilities=ModelCapabilities(json_schema=False))
    names = [tool.get("name") or tool["function"]["name"] for tool in body["tools"]]
    assert names == ["final_answer", "look"]
    assert body["tool_choice"] in ("required", {"type": "any"})


async def test_a_model_without_schema_and_tools_is_told_in_the_prompt(wire: Any, h: Any) -> None:
    body = await wire.sent(h.ask(response_format=FORMAT), capabilities=ModelCapabilities(json_schema=False, tools=False))
    assert "tools" not in body
    assert "one JSON document of this schema" in str(body)
