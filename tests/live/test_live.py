"""What real models must do: the same few claims over both wires, cheap enough to be asked before a release."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from power_loop import AgentLoopConfig, CancellationToken, LLMError, LLMRetryPolicy, LLMService, StatefulAgentLoop, tool

RETRIES = AgentLoopConfig(retry_policy=LLMRetryPolicy(max_attempts=2), max_tokens=300)


@dataclass
class Capital:
    """A capital and its country."""

    capital: str
    country: str


@tool(effects="pure")
def weather(city: str) -> str:
    """The weather in a city."""
    return f"{city}: sunny, 21 degrees"


@asynccontextmanager
async def loop_with(llm: LLMService, config: AgentLoopConfig | None = RETRIES) -> AsyncIterator[StatefulAgentLoop]:
    try:
        async with StatefulAgentLoop(llm=llm, dsn=":memory:", config=config) as loop:
            yield loop
    finally:
        await llm.close()


@pytest_asyncio.fixture
async def loop(endpoint: Any) -> AsyncIterator[StatefulAgentLoop]:
    async with loop_with(endpoint.llm()) as loop:
        yield loop


async def refusal(llm: LLMService) -> LLMError:
    """What a send raises where no retry policy makes a status of it."""
    async with loop_with(llm, config=None) as loop:
        with pytest.raises(LLMError) as caught:
            await loop.send("Hello", await loop.new_session())
    return caught.value


async def test_a_model_answers_and_remembers(loop: StatefulAgentLoop) -> None:
    session = await loop.new_session()
    first = await loop.send("My name is Ada. Say hello.", session)
    assert first.status == "completed", first.final_text
    second = await loop.send("What is my name? Answer with the name alone.", session)
    assert "Ada" in second.final_text


async def test_usage_is_what_the_provider_counted(loop: StatefulAgentLoop) -> None:
    result = await loop.send("Answer with one word: is water wet?", await loop.new_session())
    assert result.usage.requests == 1
    assert result.usage.input_tokens > 0
    assert result.usage.output_tokens > 0
    assert not result.usage.estimated, "counted by the provider, not by us"


async def test_a_streamed_answer_is_the_answer(loop: StatefulAgentLoop) -> None:
    session = await loop.new_session()
    deltas: list[str] = []
    result: Any = None
    async for event in loop.stream("Write a short poem of four lines about the sea.", session):
        if event.delta:
            deltas.append(event.delta)
        if event.type == "result":
            result = event.result
    assert len(deltas) > 1
    assert "".join(deltas) == result.final_text


async def test_a_tool_is_called_and_its_result_is_used(loop: StatefulAgentLoop) -> None:
    result = await loop.send("What is the weather in Rome? Use the tool.", await loop.new_session(), tools=[weather])
    assert (result.status, result.tool_calls) == ("completed", 1)
    assert "21" in result.final_text


async def test_a_typed_answer_is_a_value(loop: StatefulAgentLoop) -> None:
    result = await loop.send("Which city is the capital of Italy?", await loop.new_session(), output_type=Capital)
    assert result.output == Capital("Rome", "Italy")


async def test_a_cancelled_stream_stops_and_the_session_goes_on(loop: StatefulAgentLoop) -> None:
    session, stop = await loop.new_session(), CancellationToken()
    result: Any = None
    async for event in loop.stream("Count from 1 to 200, one number a line.", session, stop_event=stop):
        if event.delta:
            stop.cancel("that is enough")
        if event.type == "result":
            result = event.result
    assert result.status == "cancelled"
    assert "200" not in (result.partial_text or "")
    after = await loop.send("Answer with one word: is water wet?", session)
    assert after.status == "completed", after.final_text


async def test_a_wrong_key_is_refused_at_once(endpoint: Any) -> None:
    error = await refusal(endpoint.with_a_wrong_key())
    assert error.status_code in (401, 403)
    assert "wrong" not in str(error), "no key in a message"


async def test_an_unknown_model_is_named(endpoint: Any) -> None:
    error = await refusal(endpoint.of_no_model())
    assert error.status_code in (400, 404)
