"""A typed answer over both protocols, by each of the three ways: the provider's own schema, a forced tool, the prompt."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from power_loop import AgentLoopConfig, ModelCapabilities, RunPolicy, StatefulAgentLoop
from power_loop.context.pairing import check_pairs

GOOD, BAD = '{"city": "Rome", "people": 3}', '{"city": "Rome"}'
FORMAT_REFUSED = {
    "openai": "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
    "anthropic": "output_config.format: structured outputs are not supported by this model",
}
TOOL_REFUSED = "tool_choice forces tool use, which is not supported here"
WAYS = {
    "native": ModelCapabilities(json_schema=True),
    "forced tool": ModelCapabilities(json_schema=False),
    "prompt": ModelCapabilities(json_schema=False, tools=False),
}


@dataclass
class Place:
    city: str
    people: int


def answering(h: Any, text: str) -> Any:
    """What the provider says when the model means ``text``: by the means that the request leaves."""

    def answer(asked: Any) -> Any:
        names = [tool.get("name") or tool["function"]["name"] for tool in asked.body.get("tools", [])]
        by_tool = "final_answer" in names
        if "chat" in asked.path:
            pieces = [text[at : at + 9] for at in range(0, len(text), 9)]
            head = {"index": 0, "id": "call_1", "function": {"name": "final_answer", "arguments": ""}}
            calls = [{"tool_calls": [head]}, *({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in pieces)]
            return h.Answer(h.chat_stream(*(calls if by_tool else [{"content": piece} for piece in pieces])))
        block = {"type": "tool_use", "id": "call_1", "name": "final_answer", "input": json.loads(text)}
        return h.Answer(h.messages_stream(block if by_tool else {"type": "text", "text": text}))

    return answer


def loop_over(llm: Any, folder: Path, **settings: Any) -> StatefulAgentLoop:
    return StatefulAgentLoop(llm=llm, dsn=str(folder / "app.db"), **settings)


async def told(wire: Any, server: Any, h: Any, folder: Path, capabilities: ModelCapabilities, *texts: str) -> tuple[Any, list[Any], Any]:
    """(outcome, transcript, documents as they grew) of a send in which the model means ``texts`` in turn."""
    server.answers.extend(answering(h, text) for text in texts)
    partial: list[Any] = []
    async with loop_over(wire.llm(capabilities=capabilities), folder) as loop:
        loop.event_bus.subscribe("stream_output", lambda event: partial.append(event.partial))
        result = await loop.run("Where?", output_type=Place)
        rows = await loop.get_messages(result.session_id)
        check_pairs(rows)
    return result, rows, partial


# acceptance: 149
@pytest.mark.parametrize("texts", [(GOOD,), (BAD, GOOD), (BAD, BAD, BAD)], ids=["at once", "asked again", "never"])
async def test_the_three_ways_give_the_same_result_for_the_same_answer(
    wire: Any, server: Any, h: Any, tmp_path: Path, texts: tuple[str, ...]
) -> None:
    outcomes: list[Any] = []
    for place, (name, capabilities) in enumerate(WAYS.items()):
        folder = tmp_path / str(place)
        folder.mkdir()
        result, rows, partial = await told(wire, server, h, folder, capabilities, *texts)
        asked = (result.status, result.output, result.final_text, result.finish_reason, result.error, result.tool_calls, result.rounds)
        outcomes.append((asked, rows, partial[-1] if partial else None))
        body = server.asked[-1].body
        by_tool = "final_answer" in str(body.get("tools"))
        by_format = "response_format" in body or "output_config" in body
        assert (by_format, by_tool) == (name == "native", name == "forced tool")
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert outcomes[0][0][1] == (Place("Rome", 3) if texts[-1] == GOOD else None)


# acceptance: 149 (refusals)
async def test_a_provider_that_refuses_the_schema_is_asked_by_the_next_way_and_that_is_remembered(
    wire: Any, server: Any, h: Any, tmp_path: Path
) -> None:
    server.refuse(400, {"message": FORMAT_REFUSED[wire.name]})
    server.answers.append(answering(h, BAD))
    server.answers.append(answering(h, GOOD))
    server.refuse(400, {"message": TOOL_REFUSED})
    server.answers.append(answering(h, GOOD))
    server.answers.append(answering(h, GOOD))
    async with loop_over(wire.llm(max_retries=0), tmp_path) as loop:
        results = [await loop.run("Where?", output_type=Place) for _ in range(3)]
        usage = await (await loop.ensure_store()).list_usage(results[0].session_id)
    assert [result.output for result in results] == [Place("Rome", 3)] * 3
    assert [row.purpose for row in usage] == ["round", "output_retry"], "a refusal is no attempt"
    assert [way_of(asked.body) for asked in server.asked] == ["native", "tool", "tool", "tool", "prompt", "prompt"]


def way_of(body: dict[str, Any]) -> str:
    if "response_format" in body or "output_config" in body:
        return "native"
    return "tool" if "final_answer" in str(body.get("tools")) else "prompt"


async def test_what_was_answered_by_the_forced_tool_is_text_in_the_transcript(wire: Any, server: Any, h: Any, tmp_path: Path) -> None:
    result, rows, _ = await told(wire, server, h, tmp_path, WAYS["forced tool"], BAD, GOOD)
    assert [(row["role"], row.get("tool_calls")) for row in rows] == [("user", None), ("assistant", None)] * 2
    assert result.final_text == GOOD
    shown = server.asked[1].body["messages"]
    assert "tool_use" not in str(shown)
    assert "tool_calls" not in str(shown)


@pytest.mark.parametrize("capabilities", WAYS.values(), ids=WAYS)
async def test_tools_on_offer_are_called_beside_every_way(
    wire: Any, server: Any, h: Any, tmp_path: Path, capabilities: ModelCapabilities
) -> None:
    def look(city: str) -> str:
        """Look."""
        return f"{city}: 3"

    calls = {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "look", "arguments": '{"city": "Rome"}'}}]}
    block = {"type": "tool_use", "id": "c1", "name": "look", "input": {"city": "Rome"}}
    if capabilities.tools is not False:
        called = h.chat_stream(calls, finish="tool_calls") if wire.name == "openai" else h.messages_stream(block, stop="tool_use")
        server.answers.append(h.Answer(called))
    server.answers.append(answering(h, GOOD))
    async with loop_over(wire.llm(capabilities=capabilities), tmp_path, tools=[look]) as loop:
        result = await loop.run("Where?", output_type=Place)
    assert (result.output, result.tool_calls) == (Place("Rome", 3), int(capabilities.tools is not False))


async def test_an_answer_beside_calls_is_none_before_these_have_run(openai: Any, server: Any, h: Any, tmp_path: Path) -> None:
    def look(city: str) -> str:
        """Look."""
        return f"{city}: 3"

    both = [
        {"index": 0, "id": "c1", "function": {"name": "look", "arguments": '{"city": "Rome"}'}},
        {"index": 1, "id": "c2", "function": {"name": "final_answer", "arguments": BAD}},
    ]
    server.answers.append(h.Answer(h.chat_stream({"tool_calls": both}, finish="tool_calls")))
    server.answers.append(answering(h, GOOD))
    async with loop_over(openai.llm(capabilities=WAYS["forced tool"]), tmp_path, tools=[look]) as loop:
        result = await loop.run("Where?", output_type=Place)
        check_pairs(await loop.get_messages(result.session_id))
    assert (result.output, result.tool_calls, result.rounds) == (Place("Rome", 3), 1, 2)


async def test_signed_thinking_beside_the_forced_tool_is_shown_again_without_it(
    anthropic: Any, server: Any, h: Any, tmp_path: Path
) -> None:
    thought = {"type": "thinking", "thinking": "Rome, surely.", "signature": "sig"}
    block = {"type": "tool_use", "id": "c1", "name": "final_answer", "input": json.loads(BAD)}
    server.answers.append(h.Answer(h.messages_stream(thought, block)))
    server.answers.append(answering(h, GOOD))
    config = AgentLoopConfig(running=RunPolicy(output_retries=1))
    async with loop_over(anthropic.llm(capabilities=WAYS["forced tool"]), tmp_path, config=config) as loop:
        assert (await loop.run("Where?", output_type=Place)).output == Place("Rome", 3)
    shown = next(message for message in server.asked[1].body["messages"] if message["role"] == "assistant")
    assert [part["type"] for part in shown["content"]] == ["thinking", "text"]
