"""Against a third-party server that speaks both protocols."""

from __future__ import annotations

from typing import Any

import pytest

from power_loop.contracts.errors import LLMError
from power_loop.contracts.model import LLMRequest

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
USER = {"role": "user", "content": "Weather?"}


# acceptance: 164 (a real server)
async def test_a_round_of_tools_over_the_real_protocol(wire: Any, aimock: str) -> None:
    llm = wire.llm(aimock, model="m-tools")
    heard: list[str] = []
    first = await llm.complete(LLMRequest([USER], tools=[TOOL]), on_chunk_delta_text=heard.append)
    assert "".join(heard) == first.content_text == "Let me look. "
    assert first.think == "Two cities, two calls."
    assert [(each["id"], each["function"]["arguments"]) for each in first.tool_calls] == [
        ("call_a", '{"city":"Paris","unit":"celsius"}'), ("call_b", '{"city":"Rome","unit":"celsius"}'),
    ]  # fmt: skip
    assert first.finish_reason == "tool_calls"
    assert first.token_usage.for_call()[:2] == (123, 45)
    reply = {"role": "assistant", "content": first.text, "tool_calls": first.tool_calls, "provider_blocks": first.provider_blocks}
    results = [{"role": "tool", "tool_call_id": each["id"], "content": "20 °C"} for each in first.tool_calls]
    second = await llm.complete(LLMRequest([USER, reply, *results], tools=[TOOL]))
    assert (second.text, second.finish_reason) == ("It is 20 °C in Paris.", "stop")


async def test_real_refusals_are_understood(wire: Any, aimock: str) -> None:
    for model, status in (("m-429", 429), ("m-529", 529)):
        with pytest.raises(LLMError) as caught:
            await wire.llm(aimock, model=model, max_retries=0).complete(LLMRequest([USER]))
        assert caught.value.status_code == status
        assert caught.value.retry_after_s == (7 if status == 429 else None)


async def test_a_schema_is_taken_natively(wire: Any, aimock: str) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
    response_format = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": True}}
    reply = await wire.llm(aimock, model="m-schema").complete(LLMRequest([USER], response_format=response_format, parse_json=True))
    assert reply.json_data == {"city": "Paris"}
