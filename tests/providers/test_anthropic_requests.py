"""The Messages protocol: where rows, thinking and cache marks stand."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Any

import pytest

from power_loop.contracts.model import LLMRequest

TOOL = {"type": "function", "function": {"name": "look", "description": "Look", "parameters": {"type": "object", "properties": {}}}}
MARK = {"type": "ephemeral"}


def user(text: str, name: str | None = None) -> dict[str, Any]:
    return {"role": "user", "content": text, **({"name": name} if name else {})}


def said(text: str, *call_ids: str, **keys: Any) -> dict[str, Any]:
    calls = [{"id": each, "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}} for each in call_ids]
    return {"role": "assistant", "content": text, **({"tool_calls": calls} if calls else {}), **keys}


def result(call_id: str, text: str = "seen", **keys: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": text, **keys}


def memory(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text, "name": "memory"}


SESSION = [
    user("[1-3] they spoke of cats", "compact_note"), user("four"), said("4"), user("five"), said("", "a"), result("a"), said("5"),
]  # fmt: skip


async def messages_of(anthropic: Any, rows: list[dict[str, Any]], **keys: Any) -> list[dict[str, Any]]:
    return (await anthropic.sent(LLMRequest(rows, **keys)))["messages"]


def texts(messages: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    return [(m["role"], [block.get("text") or block["type"] for block in m["content"]]) for m in messages]


# acceptance: 165 (tail memory and compact notes stay in place)
async def test_rows_stay_where_they_stand_and_neighbours_are_merged(anthropic: Any) -> None:
    body = await anthropic.sent(LLMRequest([*SESSION, user("six"), memory("likes cats")], "Be brief."))
    assert [block["text"] for block in body["system"]] == ["Be brief."]
    assert texts(body["messages"]) == [
        ("user", ["[1-3] they spoke of cats", "four"]), ("assistant", ["4"]), ("user", ["five"]), ("assistant", ["tool_use"]),
        ("user", ["tool_result"]), ("assistant", ["5"]), ("user", ["six", '<system-message name="memory">\nlikes cats\n</system-message>']),
    ]  # fmt: skip


# acceptance: 165 (no empty text block)
async def test_an_empty_text_is_never_a_block(anthropic: Any) -> None:
    rows = [
        user("x"),
        said("  \n", "a"),
        result("a", ""),
        memory(""),
        user(""),
        {"role": "user", "content": [{"type": "text", "text": ""}]},
    ]
    messages = await messages_of(anthropic, rows)
    assert texts(messages) == [("user", ["x"]), ("assistant", ["tool_use"]), ("user", ["tool_result"])]
    assert "content" not in messages[-1]["content"][0]


async def test_a_failed_result_says_so(anthropic: Any) -> None:
    messages = await messages_of(anthropic, [user("x"), said("", "a", "b"), result("a", "boom", is_error=True), result("b")])
    assert [block.get("is_error") for block in messages[-1]["content"]] == [True, None]
    assert messages[1]["content"][0] == {"type": "tool_use", "id": "a", "name": "look", "input": {"at": 1}}


async def test_a_history_that_begins_with_the_assistant_gets_a_beginning(anthropic: Any) -> None:
    messages = await messages_of(anthropic, [said("welcome"), user("hi")])
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]


# --- the prompt cache -----------------------------------------------------------------------------


def marked(body: dict[str, Any]) -> list[str]:
    """What stands at each mark, in order of the prompt."""
    blocks = [*body.get("tools", []), *body.get("system", []), *(block for message in body["messages"] for block in message["content"])]
    return [block.get("name") or block.get("text") or block["type"] for block in blocks if block.get("cache_control") == MARK]


# acceptance: 165 (cache_control stands at stable borders)
async def test_the_marks_stand_at_the_same_four_borders_in_every_round_of_a_send(anthropic: Any) -> None:
    running = [*SESSION, user("six")]
    rounds = [
        [*running, memory("likes cats")],
        [*running, said("", "b"), result("b"), memory("likes cats and dogs")],
        [*running, said("", "b"), result("b"), user("<follow_up>and dogs?</follow_up>", "follow_up"), said("", "c"), result("c")],
    ]
    for rows in rounds:
        body = await anthropic.sent(LLMRequest(rows, "Be brief.", tools=[TOOL]))
        assert marked(body) == ["look", "Be brief.", "[1-3] they spoke of cats", "5"]


async def test_the_first_send_marks_only_what_stands_before_it(anthropic: Any) -> None:
    assert marked(await anthropic.sent(LLMRequest([user("one")], "Be brief.", tools=[TOOL]))) == ["look", "Be brief."]


async def test_marks_can_be_switched_off(anthropic: Any) -> None:
    assert marked(await anthropic.sent(LLMRequest([user("one")], "Be brief."), prompt_cache=False)) == []


# --- thinking --------------------------------------------------------------------------------------


# acceptance: 165 (thinking blocks are replayed while a round is open)
async def test_signed_thinking_goes_back_word_for_word_while_its_round_is_open(anthropic: Any, server: Any, h: Any) -> None:
    thought = {"type": "thinking", "thinking": "I should look", "signature": "sig=="}
    hidden = {"type": "redacted_thinking", "data": "zzz"}
    use = {"type": "tool_use", "id": "a", "name": "look", "input": {"at": 1}}
    server.answers.append(h.Answer(h.messages_stream(thought, hidden, {"type": "text", "text": "Looking."}, use, stop="tool_use")))
    llm = anthropic.llm()
    reply = await llm.complete(h.ask())
    assert (reply.think, reply.content_text, reply.finish_reason) == ("I should look", "Looking.", "tool_calls")
    row = {"role": "assistant", "content": reply.content_text, "tool_calls": reply.tool_calls, "provider_blocks": reply.provider_blocks}
    await llm.complete(LLMRequest([user("hello"), row, result("a")]))
    assert server.asked[-1].body["messages"][1]["content"] == [thought, hidden, {"type": "text", "text": "Looking."}, use]
    await llm.complete(LLMRequest([user("hello"), {**row, "provider_blocks": None}, result("a")]))
    assert [block["type"] for block in server.asked[-1].body["messages"][1]["content"]] == ["text", "tool_use"]


async def test_thinking_stands_in_front_of_a_reply_that_was_edited(anthropic: Any) -> None:
    blocks = [{"type": "text", "chars": 9}, {"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "tool_use"}]
    messages = await messages_of(anthropic, [user("x"), said("other", "a", "b", provider_blocks=blocks), result("a"), result("b")])
    assert [block["type"] for block in messages[1]["content"]] == ["thinking", "text", "tool_use", "tool_use"]


async def test_a_reply_without_calls_keeps_no_thinking(anthropic: Any, server: Any, h: Any) -> None:
    thought = {"type": "thinking", "thinking": "easy", "signature": "s"}
    server.answers.append(h.Answer(h.messages_stream(thought, {"type": "text", "text": "42"})))
    reply = await anthropic.llm().complete(h.ask())
    assert (reply.think, reply.provider_blocks) == ("easy", None)


# --- the rest -----------------------------------------------------------------------------------------


async def test_each_choice_of_tools_has_its_word(anthropic: Any, h: Any) -> None:
    for choice, sent in [
        ("auto", {"type": "auto"}), ("none", {"type": "none"}), ("required", {"type": "any"}),
        ({"type": "function", "function": {"name": "look"}}, {"type": "tool", "name": "look"}), ({"type": "any"}, {"type": "any"}),
    ]:  # fmt: skip
        assert (await anthropic.sent(h.ask(tools=[TOOL], tool_choice=choice)))["tool_choice"] == sent


async def test_a_schema_goes_out_natively(anthropic: Any, h: Any) -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    body = await anthropic.sent(h.ask(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}))
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": schema}}
    body = await anthropic.sent(h.ask(response_format={"type": "json_object"}))
    assert "one JSON object" in body["system"][0]["text"]


async def test_past_calls_have_definitions_although_no_tool_is_on_offer(anthropic: Any) -> None:
    body = await anthropic.sent(LLMRequest([*SESSION, user("six")]))
    assert body["tools"] == [{"name": "look", "input_schema": {"type": "object"}, "cache_control": MARK}]
    assert body["tool_choice"] == {"type": "none"}


async def test_a_history_without_calls_needs_no_definitions(anthropic: Any) -> None:
    body = await anthropic.sent(LLMRequest([user("one"), said("1"), user("two")]))
    assert "tools" not in body


async def test_ids_of_another_provider_go_out_in_a_form_that_is_taken_the_same_in_call_and_result(anthropic: Any) -> None:
    ids = ["functions.look:0", "toolu_01A-b", "x" * 100, "äß"]
    sent = await messages_of(anthropic, [user("go"), said("", *ids), *(result(each) for each in ids)])
    called = [block["id"] for block in sent[1]["content"]]
    assert [block["tool_use_id"] for block in sent[2]["content"]] == called
    assert called[1] == ids[1]
    assert len({*called}) == 4
    assert all(re.fullmatch("[A-Za-z0-9_-]{1,64}", each) for each in called)
    again = await messages_of(anthropic, [user("go"), said("", *ids), *(result(each) for each in ids)])
    assert again == sent


@pytest.mark.parametrize(
    ("url", "kind", "data"),
    [
        ("data:image/gif;base64,AAAA", "image/gif", "AAAA"),
        ("DATA:image/gif;charset=x;BASE64,AAAA", "image/gif", "AAAA"),
        ("data:image/svg+xml,%3Csvg/%3E", "image/svg+xml", b64encode(b"<svg/>").decode()),
    ],
)
async def test_a_data_url_is_sent_as_base64_however_it_is_written(anthropic: Any, url: str, kind: str, data: str) -> None:
    rows = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
    (message,) = await messages_of(anthropic, rows)
    assert message["content"][0]["source"] == {"type": "base64", "media_type": kind, "data": data}
