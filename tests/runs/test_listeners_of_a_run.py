"""Listeners of a run: slow or raising ones change nothing, unless the bus was told to raise."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from power_loop import AgentEventBus, AgentLoopConfig, LLMRetryPolicy
from power_loop.contracts import payloads
from power_loop.testing import call, fail, say

RETRY = AgentLoopConfig(retry_policy=LLMRetryPolicy())


class Wrong(Exception):
    """A listener's own."""


class Odd(BaseException):
    """A listener's own, and not an `Exception`: what a test framework raises, say."""


def add(a: int) -> str:
    """Add."""
    return f"sum {a}"


def raising(_: Any) -> None:
    raise Wrong("no")


def raising_oddly(_: Any) -> None:
    raise Odd("no")


SCRIPT = (call("add", a=1), fail(ConnectionError("cut"), after="half"), say("It is one."))


async def outcome(house: Any, listener: Any, bus: AgentEventBus | None = None) -> tuple[Any, list[str], list[Any]]:
    """What a run leaves with ``listener`` on its bus: the result, the records, the messages."""
    loop = house.loop(*SCRIPT, tools=[add], config=RETRY, event_bus=bus or AgentEventBus())
    if listener is not None:
        loop.event_bus.subscribe(None, listener, priority=-1)
    session = await loop.new_session()
    result = await loop.send("go", session)
    return (result.status, result.final_text, dict(result.usage)), await house.kinds(session), await loop.get_messages(session)


# acceptance: 58
@pytest.mark.parametrize("listener", [raising, raising_oddly])
async def test_a_listener_that_raises_changes_neither_outcome_nor_records(house: Any, listener: Any) -> None:
    assert await outcome(house, listener) == await outcome(house, None)


# acceptance: 57 (a listener that blocks, on the threaded bus)
async def test_a_listener_that_blocks_a_threaded_bus_changes_nothing_and_delays_nothing(house: Any) -> None:
    gate = threading.Event()
    bus = AgentEventBus(sync_dispatch="thread", queue_maxsize=5)
    undisturbed = await outcome(house, None)
    assert await outcome(house, lambda _: gate.wait(60), bus) == undisturbed, "it ends while the listener still sleeps over its first event"
    assert bus.dropped > 0
    gate.set()
    bus.shutdown()


# acceptance: 58 (an async one)
async def test_an_async_listener_that_raises_changes_nothing(house: Any) -> None:
    async def raises(_: Any) -> None:
        await asyncio.sleep(0)
        raise Wrong("no")

    assert await outcome(house, raises) == await outcome(house, None)


EVERY_TYPE = [
    *("session_started", "message_appended", "round_started", "llm_call_started", "stream_started", "stream_delta", "stream_completed"),
    *("llm_call_completed", "llm_retry_attempted", "usage_updated", "status_changed", "round_tools_present", "tool_call_started"),
    *("tool_call_completed", "round_completed"),
]


# acceptance: 58 (a bus that raises)
@pytest.mark.parametrize("listener", [raising, raising_oddly])
@pytest.mark.parametrize("type", EVERY_TYPE)
async def test_a_bus_that_raises_does_so_when_all_is_written_and_everyone_was_told(house: Any, type: str, listener: Any) -> None:
    bus = AgentEventBus(suppress_subscriber_errors=False)
    loop = house.loop(*SCRIPT, tools=[add], config=RETRY, event_bus=bus)
    late: list[str] = []
    bus.subscribe(type, listener, priority=-1)
    bus.subscribe(None, lambda event: late.append(str(event.type)), priority=9)
    session = await loop.new_session()
    with pytest.raises((Wrong, Odd)):
        await loop.send("go", session)
    bus.unsubscribe(listener)
    assert late == house.types(), "whoever stands behind the listener that raised hears all the same"
    assert late[-1] == "session_ended"
    rows = await house.look("SELECT MAX(seq) FROM pl_records WHERE session_id = ? AND role IS NOT NULL", session)
    assert max(event.payload["seq"] for event in house.heard if event.type == "message_appended") == rows[0][0]
    assert await house.holder(session) is None
    assert len(house.told("llm_retry_attempted")) in (0, 1), "a listener is no failing model"
    again = await loop.resume(session)
    assert again.status == "completed"


@pytest.mark.parametrize("type", ["session_ended", "result"])
async def test_a_listener_that_raises_at_the_end_comes_too_late_to_change_it(house: Any, type: str) -> None:
    bus = AgentEventBus(suppress_subscriber_errors=False)
    loop = house.loop("fine", event_bus=bus)
    bus.subscribe(type, raising)
    session = await loop.new_session()
    with pytest.raises(Wrong):
        await loop.send("go", session)
    assert house.told("session_ended") == [{"reason": "completed"}]
    assert (await house.kinds(session))[-1] == "send_ended"
    bus.unsubscribe(raising)
    assert (await loop.resume(session)).final_text == "fine", "the stored outcome"


# acceptance: 187 (no payload built without a listener)
async def test_nothing_is_built_for_a_type_that_nobody_listens_to(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    real = payloads.said

    def counting(type: str, fields: Mapping[str, Any]) -> Any:
        built.append(type)
        return real(type, fields)

    monkeypatch.setattr(payloads, "said", counting)
    bus = AgentEventBus()
    loop = house.loop(*SCRIPT, tools=[add], config=RETRY, event_bus=bus)
    bus.unsubscribe(house.heard.append)
    bus.subscribe("session_ended", lambda _: None)
    await loop.run("go")
    assert built == ["session_ended"]
