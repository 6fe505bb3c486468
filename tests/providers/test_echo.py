"""The model that lives offline."""

from __future__ import annotations

from typing import Any

from power_loop.llm import EchoLLM, LLMRequest

LOOK = {"type": "function", "function": {"name": "look", "description": "Look", "parameters": {"type": "object", "properties": {}}}}


def ask(text: str, **fields: Any) -> LLMRequest:
    return LLMRequest([{"role": "user", "content": text}], **fields)


async def test_it_says_what_it_heard_word_by_word() -> None:
    heard: list[str] = []
    reply = await EchoLLM().complete(ask("hello  world\n"), on_chunk_delta_text=heard.append)
    assert "".join(heard) == reply.text == "echo: hello  world\n"
    assert len(heard) > 2
    assert reply.token_usage is not None
    assert reply.token_usage.estimated


async def test_it_calls_a_tool_that_is_offered_when_told_to() -> None:
    text = 'Please:\ncall look {"at": "the sky"}\ncall look\ncall other {}'
    reply = await EchoLLM().complete(ask(text, tools=[LOOK]))
    assert [call["function"]["arguments"] for call in reply.tool_calls] == ['{"at": "the sky"}', "{}"]
    assert len({call["id"] for call in reply.tool_calls}) == 2
    assert reply.finish_reason == "tool_calls"
    assert (await EchoLLM().complete(ask("call look {}"))).tool_calls == []
    assert (await EchoLLM().complete(ask("call look {}", tools=[LOOK], tool_choice="none"))).tool_calls == []


async def test_it_says_what_the_tool_said() -> None:
    rows = [{"role": "user", "content": "call look {}"}, {"role": "tool", "tool_call_id": "1", "content": "blue"}]
    assert (await EchoLLM().complete(LLMRequest(rows, tools=[LOOK]))).text == "echo: blue"


async def test_it_can_be_slow() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    await EchoLLM("fixed", sleep_s=1.5, sleep=sleep).complete(ask("x"))
    assert slept == [1.5]
