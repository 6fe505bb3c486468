"""`loop.stream`: the events of a send as they happen, its text as it comes, its result last."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from power_loop import (
    AgentLoopConfig,
    CancellationToken,
    LLMError,
    LLMResponse,
    LLMRetryPolicy,
    LLMService,
    ToolRegistry,
    register_spawn_agent,
)
from power_loop.testing import FunctionLLM, call, fail, hang, say

RETRY = AgentLoopConfig(retry_policy=LLMRetryPolicy())


def add(a: int) -> str:
    """Add."""
    return f"sum {a}"


class Dictated(LLMService):
    """Says one word at a time, when it is told to."""

    def __init__(self) -> None:
        self.words: asyncio.Queue[str | None] = asyncio.Queue()

    async def complete(self, request: Any, *, on_chunk_delta_text: Any = None, **more: Any) -> LLMResponse:
        said: list[str] = []
        while (word := await self.words.get()) is not None:
            said.append(word)
            on_chunk_delta_text(word)
        return LLMResponse(raw_text="".join(said), content_text="".join(said), finish_reason="stop")


# acceptance: 132 (as they arrive)
async def test_deltas_are_seen_while_the_model_still_speaks(house: Any) -> None:
    model = Dictated()
    loop = house.loop(llm=model)
    events = loop.stream("go", await loop.new_session())
    seen = ""
    for word in ("One ", "by ", "one."):
        model.words.put_nowait(word)
        while not seen.endswith(word):
            seen += (await anext(events)).delta
    model.words.put_nowait(None)
    rest = [event async for event in events]
    assert (seen, rest[-1].type, rest[-1].result.final_text) == ("One by one.", "result", "One by one.")


def text_of_last_attempt(events: list[Any]) -> str:
    text = ""
    for event in events:
        text = "" if event.type == "stream_started" else text + (event.delta if event.type == "stream_delta" else "")
    return text


# acceptance: 132 (the deltas are the text), 134
@pytest.mark.parametrize(
    "script",
    [
        [say("plain words, and more of them")],
        [call("add", a=1), say("It is one.")],
        [fail(ConnectionError("cut"), after="half of an "), say("a whole answer")],
        [fail(ConnectionError("cut"), after="half"), fail(ConnectionError("cut"), after="half again"), say("whole", think="hm")],
    ],
    ids=["plain", "with a tool", "after a retry", "after two retries"],
)
async def test_the_deltas_of_the_last_attempt_are_the_final_text(house: Any, script: list[Any]) -> None:
    loop = house.loop(*script, tools=[add], config=RETRY)
    session = await loop.new_session()
    events = [event async for event in loop.stream("go", session)]
    assert events[0].type == "session_started"
    assert [event.type for event in events].count("result") == 1
    assert events[-1].type == "result"
    result = events[-1].result
    assert text_of_last_attempt(events) == result.final_text
    assert (await loop.get_messages(session))[-1]["content"] == result.final_text, "the last attempt's text alone is stored"


# acceptance: 134 (withdrawn)
async def test_what_a_broken_stream_showed_is_withdrawn(house: Any) -> None:
    loop = house.loop(fail(ConnectionError("cut"), after="half of an "), say("whole"), config=RETRY)
    session = await loop.new_session()
    events = [event async for event in loop.stream("go", session)]
    story = [(str(event.type), event.payload.get("aborted")) for event in events if event.type in ("stream_started", "stream_completed")]
    assert story == [("stream_started", None), ("stream_completed", True), ("stream_started", None), ("stream_completed", False)]
    shown = [event.delta for event in events if event.delta]
    assert "".join(shown) == "half of an whole"
    assert [message["content"] for message in await loop.get_messages(session)] == ["go", "whole"]


# acceptance: 134 (live after the break)
async def test_the_next_attempt_is_shown_as_it_comes_too(house: Any) -> None:
    class Breaks(Dictated):
        tries = 0

        async def complete(self, request: Any, **more: Any) -> LLMResponse:
            self.tries += 1
            if self.tries == 1:
                raise ConnectionError("cut")
            return await super().complete(request, **more)

    model = Breaks()
    loop = house.loop(llm=model, config=RETRY)
    events = loop.stream("go", await loop.new_session())
    model.words.put_nowait("live")
    async with asyncio.timeout(60):
        while (await anext(events)).delta != "live":
            continue
    model.words.put_nowait(None)
    assert [event async for event in events][-1].result.final_text == "live"


# acceptance: 132 (an error)
async def test_what_the_send_raises_is_raised_from_the_stream(house: Any) -> None:
    loop = house.loop(fail(ConnectionError("cut")))
    seen: list[str] = []
    session = await loop.new_session()

    async def consume(**settings: Any) -> None:
        async for event in loop.stream("go", session, **settings):
            seen.append(str(event.type))

    with pytest.raises(ValueError, match="max_rounds"):
        await consume(max_rounds=0)
    assert seen == [], "nothing was begun"
    with pytest.raises(LLMError):
        await consume()
    assert seen[-1] == "session_ended"


# acceptance: 132 (leaving early)
async def test_leaving_early_cancels_the_send(house: Any) -> None:
    loop = house.loop(hang(after="I would "), "fine")
    session = await loop.new_session()
    events = loop.stream("go", session)
    async for event in events:
        if event.delta:
            break
    await events.aclose()
    assert house.told("session_ended") == [{"reason": "cancelled"}]
    assert house.told("loop_cancelled")[0]["reason"] == "consumer left"
    assert await house.holder(session) is None
    assert (await loop.send("again", session)).final_text == "fine"


async def test_a_consumer_that_is_cancelled_again_and_again_still_ends_its_send_tidily(house: Any) -> None:
    """As a web framework does when its client is gone: it cancels until the task is over."""
    loop = house.loop(hang(after="I would "), "fine")
    session = await loop.new_session()

    async def consume() -> None:
        async for _ in loop.stream("go", session):
            continue

    consumer = asyncio.create_task(consume())
    await house.until_told("stream_delta")
    while not consumer.done():
        consumer.cancel()
        await asyncio.sleep(0)
    await house.until_told("result")
    assert house.told("loop_cancelled")[0]["reason"] == "consumer left"
    assert (await loop.send("again", session)).final_text == "fine"


# acceptance: 132 (unless detached)
async def test_a_detached_send_goes_on_without_its_consumer(house: Any) -> None:
    model = Dictated()
    loop = house.loop(llm=model)
    session = await loop.new_session()
    events = loop.stream("go", session, detach=True)
    model.words.put_nowait("To ")
    async for event in events:
        if event.delta:
            break
    await events.aclose()
    model.words.put_nowait("the end.")
    model.words.put_nowait(None)
    await house.until_told("result")
    assert (await loop.get_messages(session))[-1]["content"] == "To the end."


async def test_a_consumer_whose_task_is_cancelled_has_left(house: Any) -> None:
    loop = house.loop(hang(), "fine")
    session = await loop.new_session()

    async def consume() -> None:
        async for _ in loop.stream("go", session):
            continue

    consumer = asyncio.create_task(consume())
    await house.until_told("stream_started")
    consumer.cancel()
    await asyncio.gather(consumer, return_exceptions=True)
    await house.until_told("session_ended")
    assert house.told("session_ended") == [{"reason": "cancelled"}]
    assert (await loop.send("again", session)).final_text == "fine"


async def test_a_consumer_that_leaves_the_line_cancels_nobody_else(house: Any) -> None:
    loop = house.loop(hang(), "fine")
    session = await loop.new_session()
    first = asyncio.create_task(loop.send("first", session))
    await house.until_told("stream_started")

    async def consume() -> None:
        async for _ in loop.stream("second", session):
            continue

    second = asyncio.create_task(consume())
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    assert not first.done()
    await loop.cancel(session, reason="enough")
    assert (await first).final_text == "[cancelled: enough]"
    assert [message["content"] for message in await loop.get_messages(session)] == ["first"], "the second never began"


async def test_a_stream_keeps_the_callers_own_stop(house: Any) -> None:
    stop = CancellationToken()
    loop = house.loop(hang())
    events: list[Any] = []
    async for event in loop.stream("go", await loop.new_session(), stop_event=stop):
        events.append(event)
        if event.type == "stream_started":
            stop.cancel("the caller says so")
    assert events[-1].result.final_text == "[cancelled: the caller says so]"


async def test_a_stream_of_one_session_does_not_show_another(house: Any) -> None:
    loop = house.loop("one", "two")
    first, second = await loop.new_session(), await loop.new_session()
    shown: list[str | None] = []
    async for event in loop.stream("go", first):
        shown.append(event.session_id)
        if event.type == "session_started":
            await loop.send("meanwhile", second)
    assert set(shown) == {first}


# acceptance: 132 (the result is the last event)
async def test_the_result_is_the_last_event_although_a_fold_follows_the_send(house: Any) -> None:
    model = FunctionLLM(lambda request: say("so far") if request.reason == "fold" else say("word " * 500))
    loop = house.loop(llm=model, config=AgentLoopConfig(context_tokens=2_000))
    session = await loop.new_session()
    for _ in range(4):
        types = [event.type async for event in loop.stream("go on " * 300, session)]
        assert (types.count("result"), types[-1]) == (1, "result")
    assert any(request.reason == "fold" for request in model.requests)


async def test_the_events_of_sub_agents_are_in_the_stream_down_to_the_last_level(house: Any) -> None:
    def answer(request: Any) -> Any:
        level = str(request.system_prompt)[:1]
        if level == "2" or any(message["role"] == "tool" for message in request.messages):
            return say(f"done {level}")
        below = {"name": "below", "system_prompt": "2" if level == "1" else "1"}
        return call("run_agent", spec=below, input="go")

    registry = ToolRegistry()
    register_spawn_agent(registry)
    loop = house.loop(llm=FunctionLLM(answer), tool_registry=registry)
    session = await loop.new_session()
    events = [event async for event in loop.stream("go", session)]
    assert {event.depth for event in events if event.type == "stream_delta"} == {0, 1, 2}
    assert [event.session_id for event in events if event.type == "result"][-1] == events[-1].session_id == session


async def test_after_a_stream_nobody_listens_any_more(house: Any) -> None:
    loop = house.loop("one")
    loop.event_bus.unsubscribe(house.heard.append)
    async for _ in loop.stream("go", await loop.new_session()):
        assert not loop.event_bus.silent
    assert loop.event_bus.silent
