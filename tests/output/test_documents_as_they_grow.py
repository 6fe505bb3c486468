"""`stream_output`: the document while the model writes it."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from power_loop import AgentLoopConfig, LLMResponse, LLMRetryPolicy, LLMService, StatefulAgentLoop
from power_loop.contracts.store import Head
from power_loop.errors import LLMError
from power_loop.runtime.bus import AgentEventBus
from power_loop.runtime.partial import Partial
from power_loop.runtime.session import Session
from power_loop.runtime.tell import Teller
from power_loop.testing import ScriptedLLM, fail, say

TEXT = 'Here: {"name": "Rome", "tags": ["old", "big"], "people": 3}'
VALUE = {"name": "Rome", "tags": ["old", "big"], "people": 3}


class Letters(LLMService):
    """Says its texts letter by letter."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)

    async def complete(self, request: Any, **callbacks: Any) -> LLMResponse:
        text = self.texts.pop(0)
        for letter in text:
            callbacks["on_chunk_delta_text"](letter)
        return LLMResponse(content_text=text)


def grows(values: list[Any]) -> bool:
    return all(json.dumps(one) != json.dumps(other) for one, other in pairwise(values))


async def test_the_stream_shows_the_document_as_far_as_it_is_written() -> None:
    async with StatefulAgentLoop(llm=Letters(TEXT), dsn=":memory:") as loop:
        session = await loop.new_session()
        events = [event async for event in loop.stream("go", session, output_type={"type": "object"})]
    partial = [event.partial for event in events if event.type == "stream_output"]
    assert partial[:3] == [{}, {"name": ""}, {"name": "R"}]
    assert {"name": "Rome", "tags": ["old", "b"]} in partial
    assert partial[-1] == VALUE == events[-1].result.output
    assert grows(partial)
    assert all(event.partial is None for event in events if event.type != "stream_output")


async def test_values_that_are_sent_inside_of_an_object_are_shown_without_it() -> None:
    async with StatefulAgentLoop(llm=Letters('{"value": [1, 2, 3]}'), dsn=":memory:") as loop:
        session = await loop.new_session()
        events = [event async for event in loop.stream("go", session, output_type=list[int])]
    assert [event.partial for event in events if event.type == "stream_output"] == [[], [1], [1, 2], [1, 2, 3]]


async def test_a_long_document_is_looked_at_ever_more_rarely_and_to_its_end() -> None:
    value = {"items": [{"n": n} for n in range(2000)]}
    async with StatefulAgentLoop(llm=Letters(json.dumps(value)), dsn=":memory:") as loop:
        session = await loop.new_session()
        events = [event async for event in loop.stream("go", session, output_type={"type": "object"})]
    partial = [event.partial for event in events if event.type == "stream_output"]
    assert len(partial) < 500
    assert partial[-1] == value


async def test_every_attempt_begins_anew() -> None:
    llm = ScriptedLLM([fail(LLMError("overloaded", status_code=529), after='{"a": [1'), say('{"a": [2]}')])
    config = AgentLoopConfig(retry_policy=LLMRetryPolicy(backoff_initial=0.001))
    told: list[Any] = []
    async with StatefulAgentLoop(llm=llm, dsn=":memory:", config=config) as loop:
        for type in ("stream_started", "stream_output", "stream_completed"):
            loop.event_bus.subscribe(type, lambda event: told.append((str(event.type), event.partial)))
        await loop.run("go", output_type={"type": "object"})
    start, end = ("stream_started", None), ("stream_completed", None)
    first, second = ({}, {"a": []}), ({}, {"a": [2]})
    assert told == [start, *(("stream_output", value) for value in first), end, start, *(("stream_output", value) for value in second), end]


async def test_nobody_listens_and_nothing_is_read() -> None:
    looks: list[str] = []

    class Form:
        response_format = None

        def stored(self) -> dict[str, Any]:
            return {}

        def read(self, text: str) -> Any:
            return text

        def so_far(self, text: str) -> Any:
            looks.append(text)

    partial = Partial(Form(), Teller(AgentEventBus(), Session(Head("s")), 0, 1, int))
    partial.hear("{")
    partial.look()
    assert looks == []
