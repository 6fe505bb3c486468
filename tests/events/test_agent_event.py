"""The event: numbered once, told as data, and read back as it was."""

from __future__ import annotations

import dataclasses
import json
import pickle
import threading
from typing import Any

import pytest

from power_loop.contracts.events import AgentEvent, AgentEventType, BaseEventPayload
from power_loop.contracts.outcome import StatefulResult
from power_loop.contracts.payload_classes import ResultPayload, StreamDeltaPayload, UsageUpdatedPayload
from power_loop.contracts.payloads import PAYLOADS, STATUS_PAYLOADS, payload_class, payload_for, restored, said
from power_loop.contracts.usage import CallUsage, Usage

# (type, kind): every payload that this package can publish.
EVERY_PAYLOAD = sorted({*PAYLOADS.values(), *STATUS_PAYLOADS.values()}, key=lambda each: each.__name__)
EVERY_KIND = [(str(type), None) for type in AgentEventType] + [("status_changed", kind) for kind in STATUS_PAYLOADS]
VALUES: dict[str, Any] = {"str": "x", "int": 3, "float": 0.5, "bool": True, "None": None}
RESULT = StatefulResult("s1", "completed", "hello", usage=Usage.of(CallUsage(3, 4, calls=1)), send_index=2, send_id="s1/2")


def example_of(type: str, kind: str | None = None) -> BaseEventPayload:
    """A payload whose fields all differ from their defaults."""
    if type == "result":
        return payload_for(type, result=RESULT)
    chosen = payload_class(type, kind)
    assert chosen is not None
    fields = {each.name: an_example(str(each.type)) for each in dataclasses.fields(chosen) if each.name != "kind"}
    if kind is not None:
        fields["kind"] = kind
    return chosen(**fields)


def an_example(annotation: str) -> Any:
    if annotation.startswith("list"):
        return [{"id": "c1", "items": [1, 2]}]
    if annotation.startswith("Mapping"):
        return {"prompt_tokens": 5}
    return VALUES.get(annotation.split(" |")[0], "words")


# acceptance: 55
@pytest.mark.parametrize(("type", "kind"), EVERY_KIND)
def test_a_payload_tells_exactly_its_public_fields(type: str, kind: str | None) -> None:
    payload = example_of(type, kind)
    assert list(payload.to_dict()) == [each.name for each in dataclasses.fields(payload)]
    assert all(getattr(payload, name) == value for name, value in payload.to_dict().items())


# acceptance: 55
@pytest.mark.parametrize(("type", "kind"), EVERY_KIND)
def test_an_event_with_typed_data_shows_the_same_dict(type: str, kind: str | None) -> None:
    payload = example_of(type, kind)
    assert AgentEvent(type, data=payload).payload == payload.to_dict()


@pytest.mark.parametrize("payload_type", EVERY_PAYLOAD, ids=lambda each: each.__name__)
def test_every_field_of_a_payload_has_a_default(payload_type: type[BaseEventPayload]) -> None:
    assert set(payload_type().to_dict()) == {each.name for each in dataclasses.fields(payload_type)}


def test_every_type_has_the_payload_that_its_name_says() -> None:
    assert set(PAYLOADS) == set(AgentEventType)
    for type, payload in PAYLOADS.items():
        if type != "stream_think_delta":  # shares the payload of its twin
            assert payload.__name__ == "".join(word.capitalize() for word in type.split("_")) + "Payload"


def test_a_member_is_named_after_its_value() -> None:
    assert all(member.name.lower() == member.value for member in AgentEventType)


@pytest.mark.parametrize("kind", STATUS_PAYLOADS)
def test_a_status_is_told_by_the_class_of_its_kind(kind: str) -> None:
    payload = payload_for("status_changed", kind=kind)
    assert type(payload) is STATUS_PAYLOADS[kind]
    assert payload.to_dict()["kind"] == kind


def test_private_fields_are_not_told() -> None:
    @dataclasses.dataclass
    class Own(BaseEventPayload):
        shown: int = 1
        _hidden: int = 2

    assert Own().to_dict() == {"shown": 1}


def test_a_field_that_the_type_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match="colour"):
        payload_for("round_started", colour="red")
    with pytest.raises(TypeError, match="colour"):
        said("round_started", {"colour": "red"})
    with pytest.raises(ValueError, match="my_own"):
        payload_for("my_own", colour="red")


# acceptance: 56
@pytest.mark.parametrize(("type", "kind"), EVERY_KIND)
def test_an_event_read_back_equals_the_one_that_was_told(type: str, kind: str | None) -> None:
    event = AgentEvent(
        type, data=example_of(type, kind), session_id="s1", round_index=2, stream_id="main", source="subagent",
        ts=1.5, seq=7, mono=2.5, send_index=3, depth=1, record_seq=11, cursor="11.0",
    )  # fmt: skip
    again = AgentEvent.from_dict(json.loads(json.dumps(event.to_dict())))
    assert again == event
    assert again.data == event.data
    assert again.to_dict() == event.to_dict()
    assert (again.seq, again.ts, again.mono) == (7, 1.5, 2.5)


# acceptance: 56
def test_reading_an_event_back_does_not_advance_the_counter() -> None:
    before = AgentEvent("session_started")
    for _ in range(5):
        AgentEvent.from_dict(before.to_dict())
    assert AgentEvent("session_ended").seq == before.seq + 1


def test_an_event_of_a_newer_version_is_read_with_what_is_known_of_it() -> None:
    told = {**AgentEvent("round_started", {"round_index": 1, "mood": "good"}).to_dict(), "colour": "red"}
    again = AgentEvent.from_dict(told)
    assert again.payload == {"round_index": 1, "mood": "good"}
    assert again.data is None
    assert restored("of_tomorrow", {}) is None


# acceptance: 53 (numbers and times)
def test_numbers_increase_and_times_do_not_decrease_over_all_threads() -> None:
    made: list[AgentEvent] = []
    gate = threading.Barrier(4)

    def make() -> None:
        gate.wait()
        made.extend([AgentEvent("stream_delta") for _ in range(2000)])

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made.sort(key=lambda event: event.seq)
    assert len({event.seq for event in made}) == len(made)
    assert [event.mono for event in made] == sorted(event.mono for event in made)


def test_the_payload_is_made_when_it_is_first_asked_for() -> None:
    made: list[int] = []

    class Watched(StreamDeltaPayload):
        def to_dict(self) -> dict[str, Any]:
            made.append(1)
            return super().to_dict()

    event = AgentEvent("stream_delta", data=Watched(text="hi"))
    assert made == []
    assert (event.payload["text"], event.delta, made) == ("hi", "hi", [1])


@pytest.mark.parametrize(("type", "delta"), [("stream_delta", "hi"), ("stream_think_delta", "hi"), ("tool_progress", ""), ("own", "")])
def test_only_stream_events_have_a_delta(type: str, delta: str) -> None:
    assert AgentEvent(type, {"text": "hi"}).delta == delta


# acceptance: 55
@pytest.mark.parametrize(("type", "kind"), EVERY_KIND)
def test_what_is_said_as_plain_data_is_what_the_typed_payload_says(type: str, kind: str | None) -> None:
    fields = {"result": RESULT} if type == "result" else {"kind": kind} if kind else {}
    event = AgentEvent(type, *said(type, fields))
    assert event.data == payload_for(type, **fields)
    assert list(event.payload.items()) == list(payload_for(type, **fields).to_dict().items())
    assert event.data is event.data


def test_no_two_events_share_a_default_that_can_be_changed() -> None:
    first, second = (AgentEvent("todo_updated", *said("todo_updated", {})) for _ in range(2))
    assert first.payload["items"] is not second.payload["items"]


def test_a_payload_that_is_given_is_kept() -> None:
    event = AgentEvent("stream_delta", {"text": "given"}, StreamDeltaPayload(text="typed"))
    assert event.payload == {"text": "given"}


def test_a_type_equals_its_plain_string() -> None:
    assert AgentEvent("llm_call_started").type is AgentEvent(AgentEventType.LLM_CALL_STARTED).type
    assert AgentEvent("llm_call_started").type == "llm_call_started"
    assert AgentEvent("my_own").type == "my_own"


def test_events_are_equal_by_what_they_say() -> None:
    told = {"type": "stream_delta", "seq": 1, "ts": 1.0, "mono": 1.0}
    one, two = AgentEvent.from_dict({**told, "payload": {"text": "a"}}), AgentEvent.from_dict({**told, "payload": {"text": "b"}})
    same = AgentEvent("stream_delta", {"text": "a"}, seq=1, ts=1.0, mono=1.0)
    assert one == same
    assert hash(one) == hash(same)
    assert one != two
    assert one != "stream_delta"
    assert "stream_delta" in repr(one)


def test_an_event_goes_through_pickle_whole() -> None:
    event = AgentEvent("usage_updated", data=UsageUpdatedPayload({"prompt_tokens": 1}), session_id="s1")
    assert pickle.loads(pickle.dumps(event)) == event


def test_the_result_event_carries_the_object_and_tells_it_as_data() -> None:
    event = AgentEvent("result", data=payload_for("result", result=RESULT))
    assert event.result is RESULT
    assert event.payload["final_text"] == "hello"
    assert event.payload == RESULT.to_dict()
    assert AgentEvent("result").result is None
    assert AgentEvent("session_ended", data=payload_for("session_ended")).result is None


def test_a_result_read_back_says_the_same() -> None:
    event = AgentEvent("result", data=payload_for("result", result=RESULT))
    again = AgentEvent.from_dict(json.loads(json.dumps(event.to_dict()))).result
    assert again == RESULT
    assert again.usage.total_tokens == 7


def test_the_result_payload_has_the_fields_of_a_result() -> None:
    assert [each.name for each in dataclasses.fields(ResultPayload)] == [each.name for each in dataclasses.fields(StatefulResult)]


def test_a_subscriber_of_a_host_may_read_a_payload_of_its_own() -> None:
    @dataclasses.dataclass
    class Own(BaseEventPayload):
        colour: str = "red"

    event = AgentEvent("my_own", data=Own("blue"))
    assert event.payload == {"colour": "blue"}
    assert AgentEvent.from_dict(event.to_dict()) == event
