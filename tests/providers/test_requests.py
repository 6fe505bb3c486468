"""What goes over the wire, for both protocols: only what was set, nothing empty, blocks as blocks."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from power_loop.contracts.model import LLMRequest, ModelCapabilities

PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 20).decode()


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": name, "parameters": {"type": "object", "properties": {}}}}


def call(call_id: str, name: str = "look", arguments: str = "{}") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


HISTORY: list[dict[str, Any]] = [
    {"role": "user", "content": "look", "name": "follow_up"},
    {"role": "assistant", "content": "", "tool_calls": [call("1"), call("2", arguments='{"broken": ')], "provider_blocks": [{"type": "x"}]},
    {"role": "tool", "tool_call_id": "1", "content": "seen", "name": "look"},
    {"role": "tool", "tool_call_id": "2", "content": "bad arguments", "is_error": True},
    {"role": "assistant", "content": ""},
    {"role": "user", "content": "so?"},
]

BROKEN = json.dumps({"unreadable_arguments": '{"broken": '})


# acceptance: 166 (temperature, max_tokens, tool_choice are absent when unset)
async def test_nothing_is_sent_that_nobody_set(wire: Any, h: Any) -> None:
    body = await wire.sent()
    expected = {"openai": {"model", "messages", "stream", "stream_options"}, "anthropic": {"model", "messages", "stream", "max_tokens"}}
    assert set(body) == expected[wire.name]


# acceptance: 166 (what is set is sent)
async def test_what_is_set_is_sent_with_tools_in_order_of_name(wire: Any, h: Any) -> None:
    request = h.ask(temperature=0.0, max_tokens=7, tools=[tool("b"), tool("a")], tool_choice="required", system_prompt="Be brief.")
    body = await wire.sent(request)
    assert (body["temperature"], body["max_tokens"]) == (0.0, 7)
    assert [each.get("name") or each["function"]["name"] for each in body["tools"]] == ["a", "b"]
    assert body["tool_choice"] in ("required", {"type": "any"})
    assert "Be brief." in str(body["messages"][0] if wire.name == "openai" else body["system"])


async def test_a_choice_of_tools_is_not_sent_without_tools(wire: Any, h: Any) -> None:
    assert "tool_choice" not in await wire.sent(h.ask(tool_choice="none"))


async def test_extras_come_last_and_the_request_over_the_config(wire: Any, server: Any, h: Any) -> None:
    body = await wire.sent(
        h.ask(temperature=0.0, extra={"top_p": 0.5, "extra_headers": {"x-trace": "t"}}), extra={"top_p": 0.1, "temperature": 0.9, "seed": 1}
    )
    assert (body["temperature"], body["top_p"], body["seed"]) == (0.9, 0.5, 1)
    assert server.asked[-1].headers["x-trace"] == "t"


async def test_helpers_send_what_the_config_says(wire: Any, server: Any) -> None:
    assert await wire.llm(max_tokens=12, temperature=0.7).predict("hi", "Be kind.") == "fine"
    assert (server.asked[-1].body["max_tokens"], server.asked[-1].body["temperature"]) == (12, 0.7)
    assert [piece async for piece in wire.llm().predict_stream("hi")] == ["fine"]


# acceptance: 168 (an empty reply is never sent back)
async def test_an_empty_assistant_row_is_never_sent(wire: Any) -> None:
    body = await wire.sent(LLMRequest(HISTORY))
    said = [message for message in body["messages"] if message["role"] == "assistant"]
    assert len(said) == 1
    assert said[0].get("tool_calls") or said[0]["content"]


# acceptance: 168 (broken argument JSON never becomes {})
@pytest.mark.parametrize("written", ['{"broken": ', '["a list"]', "null", '{"n": NaN}', '{"n": 1e999}', "{}{}", "[" * 5000])
async def test_what_is_no_object_is_shown_as_it_was_written(wire: Any, written: str) -> None:
    assert await arguments_sent(wire, written) == {"unreadable_arguments": written}


@pytest.mark.parametrize(("written", "read"), [("", {}), (" ", {}), ('{"text": "two\nlines"}', {"text": "two\nlines"})])
async def test_what_tools_can_read_goes_out_as_json_that_every_server_reads(wire: Any, written: str, read: object) -> None:
    assert await arguments_sent(wire, written) == read


async def test_arguments_that_are_sound_go_out_as_they_were_written(openai: Any) -> None:
    written = '{ "city":"Bern",\n"n":1.0, "sign":"\\u2603" }'
    body = await openai.sent(LLMRequest([{"role": "assistant", "content": "", "tool_calls": [call("1", arguments=written)]}]))
    assert body["messages"][0]["tool_calls"][0]["function"]["arguments"] == written


async def arguments_sent(wire: Any, written: str) -> Any:
    """What a server of strict JSON reads as the arguments of a call that a model wrote like this."""
    rows = [{"role": "user", "content": "look"}, {"role": "assistant", "content": "", "tool_calls": [call("1", arguments=written)]}]
    body = await wire.sent(LLMRequest([*rows, {"role": "tool", "tool_call_id": "1", "content": "seen"}]))
    assistant = body["messages"][1]
    if wire.name == "openai":
        return json.loads(assistant["tool_calls"][0]["function"]["arguments"])
    return assistant["content"][0]["input"]


async def test_an_openai_history_holds_only_what_the_protocol_knows(openai: Any) -> None:
    body = await openai.sent(LLMRequest(HISTORY))
    assert body["messages"] == [
        {"role": "user", "content": "look", "name": "follow_up"},
        {"role": "assistant", "content": None, "tool_calls": [call("1"), call("2", arguments=BROKEN)]},
        {"role": "tool", "tool_call_id": "1", "content": "seen"},
        {"role": "tool", "tool_call_id": "2", "content": "bad arguments"},
        {"role": "user", "content": "so?"},
    ]


@pytest.mark.parametrize("name", ["Ada Lovelace", "Zoë", "a/b|<c>", "x" * 100])
async def test_an_openai_history_holds_only_names_that_the_protocol_takes(openai: Any, name: str) -> None:
    said = [{"role": "user", "name": name, "content": "hi"}, {"role": "system", "name": f"memory_{name}", "content": "kind"}]
    body = await openai.sent(LLMRequest(said))
    for message in body["messages"]:
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", message["name"])


async def test_reasoning_goes_back_to_a_provider_that_gave_it(openai: Any) -> None:
    blocks = {"reasoning_content": "hm", "tool_calls": [{"extra_content": {"signature": "s"}}]}
    rows = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "", "tool_calls": [call("1")], "provider_blocks": blocks}]
    body = await openai.sent(LLMRequest([*rows, {"role": "tool", "tool_call_id": "1", "content": "y"}]))
    assert body["messages"][1]["reasoning_content"] == "hm"
    assert body["messages"][1]["tool_calls"][0]["extra_content"] == {"signature": "s"}


async def test_half_characters_are_replaced_not_refused(wire: Any) -> None:
    body = await wire.sent(LLMRequest([{"role": "user", "content": "half \ud83d, whole 🙂"}]))
    assert "half \ufffd, whole 🙂" in json.dumps(body, ensure_ascii=False)


async def test_a_model_without_tools_gets_the_catalogue_and_the_history_in_words(wire: Any) -> None:
    body = await wire.sent(LLMRequest(HISTORY, tools=[tool("look")]), capabilities=ModelCapabilities(tools=False))
    assert "tools" not in body
    text = json.dumps(body, ensure_ascii=False)
    assert "Available Tools" in text
    assert "[called look with {}]" in text
    assert "tool_call" not in text
    assert "tool_use" not in text


async def test_a_model_without_streams_answers_in_one_piece(wire: Any, server: Any, h: Any) -> None:
    chat = {
        "choices": [{"message": {"content": "all at once"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    }
    message = {
        "content": [{"type": "text", "text": "all at once"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 3, "output_tokens": 2},
    }
    whole = {"openai": {"id": "c", "model": "m", **chat}, "anthropic": {"id": "c", "model": "m", **message}}
    server.answers.append(h.Answer(json.dumps(whole[wire.name]).encode(), headers=h.JSON))
    heard: list[str] = []
    response = await wire.llm(capabilities=ModelCapabilities(stream=False)).complete(h.ask(), on_chunk_delta_text=heard.append)
    assert heard == ["all at once"]
    assert (response.text, response.finish_reason, response.token_usage.for_call()[:2]) == ("all at once", "stop", (3, 2))
    assert "stream" not in server.asked[-1].body


async def test_json_is_parsed_where_the_request_asks_for_it(wire: Any, server: Any, h: Any) -> None:
    for text in ('```json\n{"a": 1}\n```', "no json"):
        server.answers.append(
            h.Answer(h.chat_stream({"content": text}) if wire.name == "openai" else h.messages_stream({"type": "text", "text": text}))
        )
    llm = wire.llm()
    good, bad = await llm.complete(h.ask(parse_json=True)), await llm.complete(h.ask(parse_json=True))
    assert (good.json_data, good.ok) == ({"a": 1}, True)
    assert (bad.json_data, bad.ok) == ({}, False)


async def test_a_debug_log_holds_the_request_without_secrets(
    wire: Any, h: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POWER_LOOP_LLM_DEBUG", "1")
    with caplog.at_level("DEBUG", "power_loop"):
        await wire.sent(h.ask("the password is in postgres://me:hunter2@db/x"))
    assert "hunter2" not in caplog.text
    assert "postgres://me:***@db/x" in caplog.text


# --- pictures and files ---------------------------------------------------------------------------


def attachment(**keys: Any) -> dict[str, Any]:
    return {"type": "attachment", "attachment": keys}


# acceptance: 167 (blocks on the wire)
async def test_pictures_reach_the_model_as_pictures(wire: Any, tmp_path: Path) -> None:
    file = tmp_path / "dot.png"
    file.write_bytes(base64.b64decode(PIXEL))
    blocks = [
        {"type": "text", "text": "what is this?"},
        attachment(path=str(file), filename="dot.png", mime_type="image/png", kind="image"),
        attachment(data=PIXEL, filename="dot.png", mime_type="image/png", kind="image"),
        {"type": "image_url", "image_url": {"url": "https://example.org/x.png"}},
    ]
    body = await wire.sent(LLMRequest([{"role": "user", "content": blocks}]))
    sent = body["messages"][0]["content"]
    if wire.name == "openai":
        assert [block["image_url"]["url"] for block in sent[1:]] == [f"data:image/png;base64,{PIXEL}"] * 2 + ["https://example.org/x.png"]
    else:
        inline = {"type": "base64", "media_type": "image/png", "data": PIXEL}
        assert [block["source"] for block in sent[1:]] == [inline, inline, {"type": "url", "url": "https://example.org/x.png"}]


async def test_a_picture_in_a_tool_result_reaches_the_model(wire: Any) -> None:
    shown = [{"type": "text", "text": "here"}, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}]
    rows = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "", "tool_calls": [call("1"), call("2")]},
        {"role": "tool", "tool_call_id": "1", "content": shown},
        {"role": "tool", "tool_call_id": "2", "content": "done"},
    ]
    messages = (await wire.sent(LLMRequest(rows)))["messages"]
    if wire.name == "openai":
        # This wire takes no pictures in results: they follow the last one, so that nothing parts a call from its result.
        assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool", "user"]
        assert messages[-1]["content"][1]["type"] == "image_url"
    else:
        assert [block["type"] for block in messages[-1]["content"]] == ["tool_result", "tool_result"]
        assert messages[-1]["content"][0]["content"][1]["type"] == "image"


async def test_a_declared_pdf_reader_gets_the_file_itself(wire: Any) -> None:
    block = attachment(data=PIXEL, filename="a.pdf", mime_type="application/pdf", kind="pdf")
    body = await wire.sent(LLMRequest([{"role": "user", "content": [block]}]), capabilities=ModelCapabilities(pdf_input=True))
    sent = body["messages"][0]["content"][0]
    if wire.name == "openai":
        assert sent == {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PIXEL}"}}
    else:
        assert sent == {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PIXEL}, "title": "a.pdf"}
