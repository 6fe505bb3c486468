"""What was recorded plays back offline, byte for byte, and a changed request is noticed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from power_loop.contracts.codec import to_cells
from power_loop.contracts.digest import request_digest
from power_loop.contracts.errors import LLMError, LLMPermanentError
from power_loop.contracts.messages import ToolCall
from power_loop.contracts.model import LLMRequest, LLMResponse, LLMTokenUsage
from power_loop.contracts.records import ModelReplied
from power_loop.contracts.usage import CallUsage
from power_loop.llm import RecordingLLM, ReplayLLM, ReplayMiss
from power_loop.testing import FunctionLLM, ScriptedLLM, call, calls, fail, say

WHOLE = LLMResponse(
    raw_text="Let me look. ", content_text="Let me look. ", think="hm", finish_reason="tool_calls", model="m", response_id="r1",
    tool_calls=[{"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"at": "日本"}'}}],
    token_usage=LLMTokenUsage(prompt=10, completion=2, prompt_cached=8, cost=0.25),
    provider_blocks=[{"type": "thinking", "signature": "s"}],
)  # fmt: skip


def ask(*texts: str, **fields: Any) -> LLMRequest:
    return LLMRequest([{"role": "user", "content": text} for text in texts], **fields)


async def recorded(path: Path, model: Any, *requests: LLMRequest, **how: Any) -> list[tuple[list[str], LLMResponse | LLMError]]:
    return await played(RecordingLLM(model, path, **how), *requests)


async def played(model: Any, *requests: LLMRequest) -> list[tuple[list[str], LLMResponse | LLMError]]:
    """(what was streamed, how it ended) of each request."""
    outcomes: list[tuple[list[str], LLMResponse | LLMError]] = []
    for request in requests:
        heard: list[str] = []
        try:
            outcomes.append((heard, await model.complete(request, on_chunk_delta_text=heard.append)))
        except LLMError as error:
            outcomes.append((heard, error))
    return outcomes


# acceptance: 155 (byte for byte)
async def test_a_recording_plays_back_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    requests = [
        ask("one", system_prompt="Be brief.", temperature=0.0, tools=[{"function": {"name": "look"}}]),
        ask("one", "two"),
        ask("one", "three"),
    ]
    first = await recorded(path, ScriptedLLM([WHOLE, say("two  spaces\n"), calls(call("look", at=1))]), *requests)
    assert await played(ReplayLLM(path), *requests) == first
    assert await played(ReplayLLM(path), *reversed(requests)) == first[::-1]


async def test_a_recorded_failure_fails_again_in_the_same_place(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    failure = LLMPermanentError("no such model", status_code=404, provider="openai")
    await recorded(path, ScriptedLLM([fail(failure, after="half a ")]), ask("x"))
    [(heard, error)] = await played(ReplayLLM(path), ask("x"))
    assert heard == ["half", " a", " "]
    assert isinstance(error, LLMPermanentError)
    assert (str(error), error.status_code, error.provider) == ("no such model", 404, "openai")


# acceptance: 155 (the first difference)
@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        (ask("What is the weather in Rome?"), r"request\.messages\[0\]\.content, character 23: .*Paris.*Rome"),
        (ask("What is the weather in Paris?", "and?"), r"request\.messages\[1\]: only asked .*and\?"),
        (ask("What is the weather in Paris?", temperature=1.0), r"request\.temperature: recorded null, asked 1\.0"),
    ],
)
async def test_a_changed_request_fails_with_the_first_difference(tmp_path: Path, changed: LLMRequest, difference: str) -> None:
    path = tmp_path / "run.jsonl"
    await recorded(path, ScriptedLLM([say("sunny")]), ask("What is the weather in Paris?"))
    with pytest.raises(ReplayMiss, match=difference):
        await ReplayLLM(path).complete(changed)


async def test_each_recorded_answer_is_given_once(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    await recorded(path, ScriptedLLM([say("first"), say("second")]), ask("x"), ask("x"))
    replay = ReplayLLM(path)
    with pytest.raises(AssertionError, match="2 recorded answers"):
        replay.assert_complete()
    assert [(await replay.complete(ask("x"))).text for _ in range(2)] == ["first", "second"]
    replay.assert_complete()
    with pytest.raises(ReplayMiss, match="no further call"):
        await replay.complete(ask("x"))


async def test_a_miss_may_ask_a_live_model(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    await recorded(path, ScriptedLLM([say("recorded")]), ask("x"))
    replay = ReplayLLM(path, on_miss="live", live=ScriptedLLM([say("live")]))
    assert [(await replay.complete(ask(text))).text for text in ("y", "x")] == ["live", "recorded"]
    with pytest.raises(ValueError, match="live="):
        ReplayLLM(path, on_miss="live")


async def test_secrets_are_not_written_and_the_replay_still_matches(tmp_path: Path) -> None:
    path, key = tmp_path / "run.jsonl", "sk" + "-" + "a1b2c3d4" * 3
    model = FunctionLLM(lambda request: f"you said {request.messages[-1]['content']}")
    await recorded(path, model, ask(f"my key is {key}"), ask(f"my key is {key}", f"you said my key is {key}", "go on"))
    assert key not in path.read_text()
    replay = ReplayLLM(path)
    first = await replay.complete(ask(f"my key is {key}"))
    assert first.text == "you said my key is ***"
    assert (await replay.complete(ask(f"my key is {key}", first.text, "go on"))).text == "you said go on"


async def test_redaction_can_be_switched_off(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    await recorded(path, ScriptedLLM([say("ok")]), ask("password=x postgres://me:hunter2@db"), redact=False)
    assert "hunter2" in path.read_text()


async def test_both_stream_as_well(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    first = [piece async for piece in RecordingLLM(ScriptedLLM([say("two words")]), path).predict_stream("?")]
    assert [piece async for piece in ReplayLLM(path).predict_stream("?")] == first == ["two", " words"]


async def test_a_file_that_is_no_recording_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(json.dumps({"v": 99}) + "\n")
    with pytest.raises(ValueError, match="line 1: not a recording"):
        ReplayLLM(path)


async def test_over_the_wire_a_recording_stands_for_the_provider(wire: Any, server: Any, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    live = await recorded(path, wire.llm(), ask("x"))
    await server.stop()
    [(heard, reply)] = await played(ReplayLLM(path), ask("x"))
    assert isinstance(reply, LLMResponse)
    assert isinstance(live[0][1], LLMResponse)
    assert (heard, reply.text, reply.finish_reason) == (live[0][0], live[0][1].text, "stop")


# --- from an export --------------------------------------------------------------------------------


def exported(*replies: ModelReplied) -> dict[str, Any]:
    others = [{"kind": "user_said", "version": 1, "content": "hi"}, {"kind": "send_ended", "version": 1, "body": '{"status":"completed"}'}]
    return {"records": [others[0], *(to_cells(reply)._asdict() for reply in replies), others[1]]}


async def test_an_export_gives_its_replies_in_order() -> None:
    requests = [ask("one"), ask("one", "two")]
    replies = [
        ModelReplied(
            "",
            (ToolCall("1", "look", "{}"),),
            usage=CallUsage(5, 2),
            finish_reason="tool_calls",
            model="m",
            request_digest=request_digest(requests[0]),
            think="hm",
        ),
        ModelReplied("[degraded: …]", purpose="degraded"),
        ModelReplied("done", request_digest=request_digest(requests[1])),
    ]
    replay = ReplayLLM(exported(*replies))
    first, second = [await replay.complete(request) for request in requests]
    assert (first.tool_calls[0]["function"]["name"], first.think, first.finish_reason, first.model) == ("look", "hm", "tool_calls", "m")
    assert first.token_usage is not None
    assert first.token_usage.for_call() == CallUsage(5, 2, calls=1)
    assert (second.text, second.finish_reason) == ("done", "stop")
    replay.assert_complete()


async def test_an_export_notices_another_request() -> None:
    replay = ReplayLLM(exported(ModelReplied("done", request_digest=request_digest(ask("one")))))
    with pytest.raises(ReplayMiss, match=r"reply 1 of the export .*done.* answered the request"):
        await replay.complete(ask("two"))
