"""How OpenAI-compatible servers really stream: every way of naming a call ends in the same calls."""

from __future__ import annotations

from typing import Any

import pytest

from power_loop.contracts.model import LLMResponse
from power_loop.providers.openai.stream import ChatReader
from power_loop.providers.wire import DONE


def reply_to(*deltas: dict[str, Any], finish: str | None = "stop", **how: Any) -> LLMResponse:
    reader = ChatReader(**how)
    for delta in deltas:
        reader.feed({"choices": [{"index": 0, "delta": delta}]})
    reader.feed({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    reader.feed(DONE)
    return reader.draft.response(answers_by_tool=how.get("answers_by_tool", False), parse_json=False)


def piece(name: str | None, arguments: str, **keys: Any) -> dict[str, Any]:
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    return {"function": function, **keys}


def calls_of(response: LLMResponse) -> list[tuple[str, str]]:
    return [(call["function"]["name"], call["function"]["arguments"]) for call in response.tool_calls]


TWO_CALLS = [("a", '{"x":1}'), ("b", '{"y":2}')]

WAYS: dict[str, list[list[dict[str, Any]]]] = {
    "index, id in the first fragment": [
        [piece("a", "", index=0, id="1")], [piece(None, '{"x":', index=0)], [piece(None, "1}", index=0)],
        [piece("b", '{"y":', index=1, id="2")], [piece(None, "2}", index=1)],
    ],
    "fragments of both calls in turns": [
        [piece("a", '{"x"', index=0, id="1"), piece("b", '{"y"', index=1, id="2")],
        [piece(None, ":1}", index=0), piece(None, ":2}", index=1)],
    ],
    "id and name repeated in every fragment": [
        [piece("a", '{"x":', index=0, id="1")], [piece("a", "1}", index=0, id="1")],
        [piece("b", '{"y":', index=1, id="2")], [piece("b", "2}", index=1, id="2")],
    ],
    "every index zero": [
        [piece("a", '{"x":', index=0, id="1")], [piece(None, "1}", index=0)],
        [piece("b", '{"y":', index=0, id="2")], [piece(None, "2}", index=0)],
    ],
    "one id for all calls": [
        [piece("a", '{"x":1}', index=0, id="1")], [piece("b", '{"y":', index=1, id="1")], [piece(None, "2}", index=1, id="1")],
    ],
    "ids alone": [[piece("a", '{"x":', id="1")], [piece("b", '{"y":', id="2")], [piece(None, "1}", id="1")], [piece(None, "2}", id="2")]],
    "the id after the name": [
        [piece("a", "", index=0)], [piece(None, '{"x":1}', index=0, id="1")], [piece("b", '{"y":2}', index=1, id="2")],
    ],
    "one id for all calls, and no index": [[piece("a", '{"x":1}', id="1"), piece("b", '{"y":', id="1")], [piece(None, "2}", id="1")]],
    "every id empty, every index zero": [
        [piece("a", '{"x":', index=0, id="")], [piece("a", "1}", index=0, id="")], [piece("a", "", index=0, id="")],
        [piece("b", '{"y":2}', index=0, id="")],
    ],
    "every id empty, every index zero, in one event": [[piece("a", '{"x":1}', index=0, id=""), piece("b", '{"y":2}', index=0, id="")]],
    "neither id nor index, whole calls": [[piece("a", '{"x":1}')], [piece("b", '{"y":2}')]],
    "neither id nor index, fragments": [[piece("a", '{"x":')], [piece(None, "1}")], [piece("b", "")], [piece(None, '{"y":2}')]],
    "neither id nor index, side by side": [[piece("a", '{"x":'), piece("b", '{"y":')], [piece(None, "1}"), piece(None, "2}")]],
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_call_deltas_merge_by_id_else_index_else_position(way: str) -> None:
    response = reply_to(*({"tool_calls": fragments} for fragments in WAYS[way]), finish="tool_calls")
    assert calls_of(response) == TWO_CALLS
    assert response.finish_reason == "tool_calls"


def test_calls_of_one_tool_without_ids_are_two_calls() -> None:
    one, other = [piece("a", '{"x":1}', index=0)], [piece("a", '{"x":2}', index=0)]
    assert calls_of(reply_to({"tool_calls": one}, {"tool_calls": other})) == [("a", '{"x":1}'), ("a", '{"x":2}')]


def test_a_call_told_once_more_under_its_id_is_one_call() -> None:
    whole = [piece("a", '{"x":1}', index=0, id="1")]
    assert len(reply_to({"tool_calls": whole}, {"tool_calls": whole}).tool_calls) == 1


def test_a_name_that_comes_in_pieces_is_one_name() -> None:
    pieces = [[piece("look", "", index=0, id="1")], [piece("_up", "", index=0)], [piece(None, '{"x":1}', index=0)]]
    assert calls_of(reply_to(*({"tool_calls": fragments} for fragments in pieces))) == [("look_up", '{"x":1}')]


def test_arguments_sent_as_an_object_are_json() -> None:
    call = {"index": 0, "id": "1", "function": {"name": "a", "arguments": {"x": ["ü", None, True]}}}
    assert calls_of(reply_to({"tool_calls": [call]})) == [("a", '{"x": ["ü", null, true]}')]


def test_of_several_replies_the_first_is_the_answer() -> None:
    reader = ChatReader()
    for texts in ({0: "A", 1: "B"}, {1: "b"}, {1: "!", 0: "a"}):
        reader.feed({"choices": [{"index": index, "delta": {"content": text}} for index, text in texts.items()]})
    reader.feed({"choices": [{"index": 1, "delta": {}, "finish_reason": "length"}]})
    assert not reader.complete
    reader.feed({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    response = reader.draft.response(answers_by_tool=False, parse_json=False)
    assert (response.content_text, response.finish_reason) == ("Aa", "stop")


def test_the_old_function_call_is_understood() -> None:
    response = reply_to(
        {"function_call": {"name": "a", "arguments": '{"x":'}}, {"function_call": {"arguments": "1}"}}, finish="function_call"
    )
    assert calls_of(response) == TWO_CALLS[:1]
    assert response.finish_reason == "tool_calls"


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_arrives_as_think_from_every_usual_key(key: str) -> None:
    response = reply_to({key: "let me "}, {key: "see"}, {"content": "42"})
    assert (response.think, response.content_text) == ("let me see", "42")


def test_reasoning_in_typed_blocks_is_think() -> None:
    blocks = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "yes"}]
    response = reply_to({"content": blocks})
    assert (response.think, response.content_text) == ("hm", "yes")


def test_reasoning_under_two_names_is_told_once() -> None:
    assert reply_to({"reasoning_content": "once", "reasoning": "once"}).think == "once"


def test_reasoning_of_a_reply_with_calls_is_kept_to_be_shown_again() -> None:
    deltas: list[dict[str, Any]] = [
        {"reasoning_content": "I need a"},
        {"tool_calls": [piece("a", "{}", index=0, id="1", extra_content={"signature": "s"})]},
    ]
    assert reply_to(*deltas).provider_blocks == {"reasoning_content": "I need a", "tool_calls": [{"extra_content": {"signature": "s"}}]}
    assert reply_to({"reasoning_content": "just so"}, {"content": "42"}).provider_blocks is None


@pytest.mark.parametrize(
    ("finish", "calls", "expected"),
    [
        ("stop", False, "stop"), ("stop", True, "tool_calls"), ("tool_calls", True, "tool_calls"), ("length", True, "length"),
        ("MAX_TOKENS", False, "length"), ("content_filter", False, "content_filter"), ("eos", False, "stop"), (None, False, "stop"),
        ("error", False, "error"),
    ],
)  # fmt: skip
def test_finish_reasons_are_six_words(finish: str | None, calls: bool, expected: str) -> None:
    deltas: list[dict[str, Any]] = [{"tool_calls": [piece("a", "{}", index=0, id="1")]}] if calls else [{"content": "x"}]
    assert reply_to(*deltas, finish=finish).finish_reason == expected


def test_a_refusal_is_text_with_its_own_finish_reason() -> None:
    response = reply_to({"refusal": "I will "}, {"refusal": "not"})
    assert (response.content_text, response.finish_reason) == ("I will not", "refusal")


def test_an_answer_by_tool_is_the_text_and_no_call() -> None:
    reader = ChatReader(answers_by_tool=True)
    heard = [
        chunk.delta_text
        for part in ('{"city":', '"Rome"}')
        if (
            chunk := reader.feed(
                {"choices": [{"delta": {"tool_calls": [piece("final_answer" if part[0] == "{" else None, part, index=0)]}}]}
            )
        )
    ]
    response = reader.draft.response(answers_by_tool=True, parse_json=True)
    assert "".join(heard) == response.content_text == '{"city":"Rome"}'
    assert (response.tool_calls, response.finish_reason, response.json_data) == ([], "stop", {"city": "Rome"})
