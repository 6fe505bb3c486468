"""Records to rows and back: nothing is lost, nothing needless is stored, nothing newer is guessed at."""

from __future__ import annotations

import json
from typing import Any

import pytest
from histories import READ, any_record, contents, jsons, replied, returned, said, texts
from hypothesis import given, settings

from power_loop.contracts import codec
from power_loop.contracts.codec import content_cells, content_of, dumps, from_cells, to_cells
from power_loop.contracts.errors import PowerLoopError, RecordFromTheFuture
from power_loop.contracts.records import (
    ContextFolded,
    ModelReplied,
    Record,
    RoundSkipped,
    SendEnded,
    SendResumed,
    StopRequested,
    ToolReturned,
    ToolStarted,
    UserSaid,
)
from power_loop.contracts.store import Cells
from power_loop.contracts.usage import CallUsage


def storable(text: str) -> bool:
    """Every database takes it: UTF-8, and no NUL."""
    text.encode("utf-8")
    return "\0" not in text


@settings(max_examples=600)
@given(any_record)
def test_every_record_comes_back_as_it_was(record: Record) -> None:
    assert from_cells(to_cells(record)) == record


@settings(max_examples=600)
@given(any_record)
def test_content_calls_and_body_are_text_that_every_database_stores(record: Record) -> None:
    cells = to_cells(record)
    assert all(storable(text) for text in (cells.content, cells.tool_calls, cells.body) if text is not None)


@settings(max_examples=600)
@given(any_record)
def test_a_record_fills_the_columns_that_rows_of_its_kind_have(record: Record) -> None:
    cells = to_cells(record)
    filled = {column for column, value in zip(Cells._fields, cells, strict=True) if value is not None}
    always, sometimes = codec.FILLED.get(cells.kind, ((), Cells._fields))
    assert {"kind", "version", *always} <= filled <= {"kind", "version", *always, *sometimes}


@given(any_record)
def test_a_body_is_one_json_object_without_blanks(record: Record) -> None:
    body = to_cells(record).body
    if body is not None:
        assert isinstance(json.loads(body), dict)
        assert body in (json.dumps(json.loads(body), ensure_ascii=ascii, separators=(",", ":")) for ascii in (True, False))


@given(contents)
def test_content_in_a_column_is_readable_text_where_it_can_be(content: str | list[dict[str, Any]]) -> None:
    text, escaped = content_cells(content)
    assert content_of(text, escaped) == content
    if isinstance(content, str) and escaped is None:
        assert text == content


@pytest.mark.parametrize(
    ("content", "cells"),
    [
        ("plain", ("plain", None)),
        ("", ("", None)),
        ("😀 漢字 é", ("😀 漢字 é", None)),
        ('{"not": "json"}', ('{"not": "json"}', None)),
        ("a\0b", ('"a\\u0000b"', 1)),
        ("x\ud800y", ('"x\\ud800y"', 1)),
        ("é\0", ('"\\u00e9\\u0000"', 1)),
        ([], ("[]", 2)),
        ([{"type": "text", "text": "\0é"}], ('[{"type":"text","text":"\\u0000é"}]', 2)),
        ([{"type": "text", "text": "\ud800é"}], ('[{"type":"text","text":"\\ud800\\u00e9"}]', 2)),
    ],
)
def test_content_is_escaped_only_where_a_database_would_refuse_it(content: Any, cells: tuple[str, int | None]) -> None:
    assert content_cells(content) == cells


@given(jsons)
def test_json_comes_back_and_can_be_stored(value: Any) -> None:
    assert json.loads(dumps(value)) == value
    assert storable(dumps(value))


@given(texts)
def test_arguments_come_back_byte_for_byte(arguments: str) -> None:
    call = READ.__class__("c1", "read", arguments)
    back = from_cells(to_cells(replied("", call)))
    assert isinstance(back, ModelReplied)
    assert back.calls == (call,)


# --- what is not stored ---------------------------------------------------------------------------


def test_a_call_that_cost_nothing_is_not_one_without_a_price() -> None:
    for cost in (0.0, None):
        assert from_cells(to_cells(replied("yes", usage=CallUsage(1, cost=cost)))) == replied("yes", usage=CallUsage(1, cost=cost))


@pytest.mark.parametrize(
    ("record", "body"),
    [
        (said(), None),
        (ToolReturned("c1", "x"), None),
        (ToolStarted("c1"), None),
        (RoundSkipped(), None),
        (SendResumed(), None),
        (StopRequested("cancelled"), '{"status":"cancelled"}'),
        (SendEnded("completed"), '{"status":"completed"}'),
        (SendEnded("cancelled"), '{"status":"cancelled"}'),
        (ModelReplied("yes"), '{"usage":[]}'),
        (replied("yes", usage=CallUsage(10, 5, calls=1)), '{"usage":[10,5,0,0,0,1]}'),
        (replied("", READ, usage=CallUsage(10)), '{"usage":[10]}'),
        (replied("", READ, usage=CallUsage(10), finish_reason="length"), '{"usage":[10],"finish":"length"}'),
        (replied("yes", usage=CallUsage(cost=0.5)), '{"usage":[0,0,0,0,0,0,0.5]}'),
        (returned(READ, outcome="failed", duration_ms=3, ran=False), '{"outcome":"failed","ms":3,"ran":0}'),
        (UserSaid("x", overrides={}, metadata={}), '{"overrides":{},"metadata":{}}'),
    ],
)
def test_defaults_are_left_out(record: Record, body: str | None) -> None:
    assert to_cells(record).body == body


def test_a_plain_reply_needs_little_beside_its_text() -> None:
    reply = replied(
        "yes", usage=CallUsage(1234, 56, 1024, calls=1), model="some-model-2", response_id="msg_" + "0" * 24, request_digest="A" * 16
    )
    assert len(to_cells(reply).body or "") <= 130


def test_what_people_ask_for_with_sql_stands_in_columns() -> None:
    assert to_cells(said("hi", name="ann"))[:5] == ("user_said", 1, "user", "ann", "hi")
    assert to_cells(replied("yes", READ)).tool_calls == json.dumps([READ.to_message()], separators=(",", ":"))
    assert to_cells(replied("so far", purpose="limit_summary")).name == "limit_summary"
    result = to_cells(returned(READ, "data"))
    assert (result.role, result.name, result.content, result.call_id) == ("tool", "read", "data", "c1")
    assert to_cells(ContextFolded(3, "in short")).content == "in short"
    assert to_cells(SendEnded("completed")).role is None


# --- other versions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cells", [Cells("dreamed", 1), Cells("user_said", codec.version_of("user_said") + 1, "user"), Cells("", 1)])
def test_what_is_newer_is_refused_by_name(cells: Cells) -> None:
    with pytest.raises(RecordFromTheFuture, match=f"{cells.kind}.*{cells.version}") as refused:
        from_cells(cells)
    assert isinstance(refused.value, PowerLoopError)


@pytest.mark.parametrize("version", [0, -(2**70)])
def test_a_version_that_never_was_is_refused_by_name(version: int) -> None:
    with pytest.raises(ValueError, match=f"'user_said' has no version {version}"):
        from_cells(Cells("user_said", version, "user"))


def test_an_older_version_is_lifted_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(codec.CHANGED, "send_ended", 3)
    monkeypatch.setitem(codec.UPCASTERS, ("send_ended", 1), lambda body: {"status": body["how"]})
    monkeypatch.setitem(codec.UPCASTERS, ("send_ended", 2), lambda body: {**body, "reason": "lifted"})
    assert from_cells(Cells("send_ended", 1, body='{"how":"completed"}')) == SendEnded("completed", "lifted")
    assert from_cells(Cells("send_ended", 2, body='{"status":"failed"}')) == SendEnded("failed", "lifted")
    assert from_cells(Cells("send_ended", 3, body='{"status":"failed"}')) == SendEnded("failed")
    assert to_cells(StopRequested("x")).version == 1, "a kind that did not change"
    assert from_cells(Cells("stop_requested", 1, body='{"status":"x"}')) == StopRequested("x"), "a kind that did not change"


def test_a_field_that_this_version_does_not_know_is_passed_over() -> None:
    assert from_cells(Cells("send_ended", 1, body='{"status":"completed","mood":"good"}')) == SendEnded("completed")
