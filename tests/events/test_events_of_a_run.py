"""What a listener hears of a run of a loop: typed, numbered, in order, and never at the run's cost."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from power_loop.contracts.events import AgentEvent
from power_loop.contracts.payloads import payload_class
from power_loop.loop import StatefulAgentLoop
from power_loop.runtime.bus import AgentEventBus
from power_loop.testing import ScriptedLLM, call, say


def add(a: int) -> str:
    """Add up."""
    return f"sum {a}"


def loop_in(folder: Path, *script: Any, bus: AgentEventBus | None = None) -> StatefulAgentLoop:
    return StatefulAgentLoop(llm=ScriptedLLM(script), dsn=str(folder / "app.db"), tools=[add], event_bus=bus)


async def events_of_a_tool_round(folder: Path) -> list[AgentEvent]:
    heard: list[AgentEvent] = []
    async with loop_in(folder, call("add", a=1), say("It is one.", think="hm")) as loop:
        loop.event_bus.subscribe(None, heard.append)
        await loop.run("go")
    return heard


# acceptance: 53
async def test_every_event_of_a_run_is_typed_and_numbered(tmp_path: Path) -> None:
    heard = await events_of_a_tool_round(tmp_path)
    assert {str(event.type) for event in heard} >= {
        *("session_started", "message_appended", "round_started", "llm_call_started", "llm_call_completed", "stream_delta"),
        *("stream_started", "stream_completed", "tool_call_started", "tool_call_completed", "usage_updated", "status_changed"),
        *("round_tools_present", "round_completed", "session_ended", "result"),
    }
    for event in heard:
        assert type(event.data) is payload_class(event.type, event.payload.get("kind"))
        assert event.session_id is not None
        assert event.send_index == 1
    assert [event.seq for event in heard] == sorted({event.seq for event in heard})
    assert [event.mono for event in heard] == sorted(event.mono for event in heard)


# acceptance: 53 (over threads)
async def test_numbers_increase_over_the_sessions_of_several_threads(tmp_path: Path) -> None:
    bus, heard = AgentEventBus(), list[AgentEvent]()
    bus.subscribe(None, heard.append)
    loops = [loop_in(tmp_path / name, say("one"), bus=bus) for name in "ab"]

    def run(loop: StatefulAgentLoop) -> None:
        loop.run_sync("go")
        loop.close()

    for name in "ab":
        (tmp_path / name).mkdir()
    threads = [threading.Thread(target=run, args=(loop,)) for loop in loops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({event.session_id for event in heard}) == 2
    assert len({event.seq for event in heard}) == len(heard)
    for session in {event.session_id for event in heard}:
        own = [event.seq for event in heard if event.session_id == session]
        assert own == sorted(own)


async def test_a_run_tells_its_events_in_the_documented_order(tmp_path: Path) -> None:
    heard = [str(event.type) for event in await events_of_a_tool_round(tmp_path)]
    assert heard[0] == "session_started"
    assert heard[-2:] == ["session_ended", "result"]
    assert heard.count("session_started") == heard.count("session_ended") == heard.count("result") == 1
    first_round = heard[heard.index("round_started") : heard.index("round_completed")]
    expected = ["round_started", "llm_call_started", "stream_started", "stream_completed", "llm_call_completed", "tool_call_started"]
    assert [type for type in first_round if type in expected] == expected
    assert heard.index("tool_call_started") < heard.index("tool_call_completed") < heard.index("round_completed")


async def test_record_events_come_in_record_order_and_say_where_watch_goes_on(tmp_path: Path) -> None:
    heard = await events_of_a_tool_round(tmp_path)
    durable = [event for event in heard if event.record_seq is not None]
    assert [event.record_seq for event in durable] == sorted(event.record_seq or 0 for event in durable)
    assert all(str(event.cursor).startswith(f"{event.record_seq}.") for event in durable)
    assert {str(event.type) for event in heard if event.record_seq is None}.isdisjoint({"message_appended", "usage_updated"})


async def test_deltas_stand_between_their_start_and_completion(tmp_path: Path) -> None:
    heard = await events_of_a_tool_round(tmp_path)
    types = [str(event.type) for event in heard]
    last_start = len(types) - 1 - types[::-1].index("stream_started")
    last_end = len(types) - 1 - types[::-1].index("stream_completed")
    deltas = [n for n, type in enumerate(types) if type in ("stream_delta", "stream_think_delta")]
    assert all(last_start < n < last_end for n in deltas)
    assert "".join(heard[n].delta for n in deltas if not heard[n].payload["is_think"]) == "It is one."


# acceptance: 58 (in a run)
@pytest.mark.usefixtures("caplog")
async def test_a_raising_subscriber_does_not_disturb_a_run(tmp_path: Path) -> None:
    def raises(_: AgentEvent) -> None:
        raise ValueError("no")

    async with loop_in(tmp_path, call("add", a=1), say("done")) as loop:
        loop.event_bus.subscribe(None, raises)
        result = await loop.run("go")
        assert result.status == "completed"
        assert loop.event_bus.errors > 10


async def test_the_last_event_of_a_stream_carries_the_result_also_from_a_threaded_bus(tmp_path: Path) -> None:
    bus = AgentEventBus(sync_dispatch="thread")
    async with loop_in(tmp_path, say("hello"), bus=bus) as loop:
        events = [event async for event in loop.stream("go", await loop.new_session())]
    bus.shutdown()
    assert events[-1].result.final_text == "hello"


async def test_every_event_of_a_run_can_be_stored_and_read_back(tmp_path: Path) -> None:
    for event in await events_of_a_tool_round(tmp_path):
        again = AgentEvent.from_dict(event.to_dict())
        assert again == event
        assert again.data == event.data


async def test_events_of_a_round_say_which_one(tmp_path: Path) -> None:
    heard = await events_of_a_tool_round(tmp_path)
    told = {"round_started", "llm_call_started", "llm_call_completed", "round_completed"}
    for event in heard:
        if event.type in told:
            assert event.round_index == event.payload["round_index"], event
    for type in told:
        assert [event.payload["round_index"] for event in heard if event.type == type] == [0, 1], type


async def test_a_message_is_told_as_get_messages_shows_it(tmp_path: Path) -> None:
    heard: list[AgentEvent] = []
    async with loop_in(tmp_path, call("add", a=1), say("done")) as loop:
        loop.event_bus.subscribe("message_appended", heard.append)
        result = await loop.run("go")
        stored = await loop.get_messages(result.session_id)
    told = [event.payload for event in heard]
    for name in ("role", "content", "tool_calls", "tool_call_id"):
        assert [message.get(name) or None for message in stored] == [payload[name] or None for payload in told], name
