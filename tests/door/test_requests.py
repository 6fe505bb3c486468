"""What is in a request and what is not: settings only where they are set, pictures as pictures, now and later."""

from __future__ import annotations

import base64
import copy
from pathlib import Path
from typing import Any

import pytest

from power_loop import AgentLoopConfig, LLMRequest, ModelCapabilities, tool
from power_loop.testing import ScriptedLLM, call, calls, say

PNG = "data:image/png;base64,iVBORw0KGgo="
IMAGE = {"type": "image_url", "image_url": {"url": PNG}}
TEXT = {"type": "text", "text": "What is this?"}


@tool(effects="pure")
def camera() -> list[dict[str, Any]]:
    """Take a picture."""
    return [{"type": "text", "text": "here:"}, IMAGE]


# acceptance: 166
@pytest.mark.parametrize("name", ["temperature", "max_tokens"])
async def test_a_setting_of_none_is_not_in_the_request(home: Any, name: str) -> None:
    loop = home.loop("a", "b", tools=[camera])
    await loop.run("x")
    setattr(loop.config, name, None)
    await loop.run("y")
    first, second = loop.llm.requests
    assert getattr(first, name) == {"temperature": 0.0, "max_tokens": 8000}[name]
    assert getattr(second, name) is None


# acceptance: 166 (tool_choice)
async def test_no_tool_choice_is_made_for_the_model_but_in_a_limit_summary(home: Any) -> None:
    loop = home.loop(call("camera"), "summary", "b", tools=[camera])
    session = await loop.new_session()
    await loop.send("x", session, max_rounds=1)
    await loop.send("y", session)
    assert [request.tool_choice for request in loop.llm.requests] == [None, "none", None]


# acceptance: 166 (folds)
async def test_max_tokens_never_changes_when_history_is_folded(home: Any) -> None:
    folds = []
    for cap in (None, 1, 900):
        model = ScriptedLLM([say("word " * 100)], strict=False)
        loop = home.loop(llm=model, config=AgentLoopConfig(context_tokens=1000, max_tokens=cap))
        session = await loop.new_session()
        for _ in range(8):
            await loop.send("word " * 50, session)
        folds.append([request.reason for request in model.requests])
    assert "fold" in folds[0]
    assert folds[0] == folds[1] == folds[2]


async def test_model_and_response_format_of_the_configuration_are_sent(home: Any) -> None:
    shape = {"type": "json_object"}
    loop = home.loop("{}", config=AgentLoopConfig(model="other", response_format=shape, temperature=0.7, max_tokens=5))
    result = await loop.run("x")
    request = loop.llm.requests[0]
    assert (request.model, request.response_format, request.temperature, request.max_tokens) == ("other", shape, 0.7, 5)
    assert request.session_id == result.session_id


# acceptance: 167 (this send, the next, after reopening)
@pytest.mark.parametrize("said", ["blocks", "a message"])
async def test_a_picture_stays_a_picture(home: Any, said: str) -> None:
    loop = home.loop("A pixel.", "Still one.", tools=[camera])
    session = await loop.new_session()
    await loop.send([TEXT, IMAGE] if said == "blocks" else {"role": "user", "content": [TEXT, IMAGE]}, session)
    await loop.send("Sure?", session)
    reopened = home.loop("Always.")
    await reopened.send("Really?", session)
    for request in (*loop.llm.requests, *reopened.llm.requests):
        assert request.messages[0] == {"role": "user", "content": [TEXT, IMAGE]}
    assert (await reopened.get_messages(session))[0]["content"] == [TEXT, IMAGE]


# acceptance: 167 (tool results)
async def test_a_picture_that_a_tool_gave_reaches_the_model_as_one(home: Any) -> None:
    loop = home.loop(call("camera"), "A pixel.", "Still one.", tools=[camera])
    session = await loop.new_session()
    await loop.send("Look.", session)
    await loop.send("Sure?", session)
    reopened = home.loop("Always.")
    await reopened.send("Really?", session)
    for request in (loop.llm.requests[1], loop.llm.requests[2], reopened.llm.requests[0]):
        assert request.messages[2]["content"] == [{"type": "text", "text": "here:"}, IMAGE]


# acceptance: 167 (files)
async def test_a_file_is_read_when_it_is_said_and_may_go_away_afterwards(home: Any, tmp_path: Path) -> None:
    path = tmp_path / "note.png"
    path.write_bytes(b"\x89PNG not really")
    block = {"type": "attachment", "attachment": {"path": str(path), "kind": "image", "mime_type": "image/png"}}
    loop = home.loop("Seen.", "Seen again.")
    session = await loop.new_session()
    await loop.send([TEXT, block], session)
    path.unlink()
    await loop.send("And now?", session)
    reopened = home.loop("Still.")
    await reopened.send("And now?", session)
    data = base64.b64encode(b"\x89PNG not really").decode()
    for request in (*loop.llm.requests, *reopened.llm.requests):
        shown = request.to_messages()[1]["content"]
        assert data in str(shown)


# acceptance: 167 (files that a tool shows, and those of a history from elsewhere)
async def test_a_file_that_a_tool_or_another_history_brings_is_read_then_and_there(home: Any, tmp_path: Path) -> None:
    path = tmp_path / "shot.png"
    path.write_bytes(b"\x89PNG not really")
    block = {"type": "attachment", "attachment": {"path": str(path), "kind": "image", "mime_type": "image/png"}}

    def shot() -> list[dict[str, Any]]:
        """Show the screen."""
        return [TEXT, block]

    loop = home.loop(call("shot"), "Seen.", "Still there.", tools=[shot])
    session = await loop.new_session()
    await (await loop.ensure_store()).append_message(session, role="user", content=[block])
    await loop.send("Look.", session)
    path.unlink()
    await loop.send("And now?", session)
    shown = loop.llm.requests[-1].to_messages()
    data = base64.b64encode(b"\x89PNG not really").decode()
    assert [data in str(message["content"]) for message in shown if not isinstance(message["content"], str)] == [True, True]


async def test_a_file_that_is_not_there_is_refused_before_anything_is_written(home: Any, tmp_path: Path) -> None:
    loop = home.loop()
    session = await loop.new_session()
    before = await home.contents()
    for path in (tmp_path / "nothing.png", tmp_path):
        with pytest.raises(ValueError, match=f"attachment '.*{path.name}' cannot be read: "):
            await loop.send([{"type": "attachment", "attachment": {"path": str(path)}}], session)
    assert await home.contents() == before


async def test_a_blind_model_is_told_that_there_was_a_picture(home: Any) -> None:
    model = ScriptedLLM(["I see nothing."], capabilities=ModelCapabilities(image_input=False))
    loop = home.loop(llm=model)
    await loop.run([TEXT, IMAGE])
    shown = model.requests[0].to_messages(model.capabilities)[1]["content"]
    assert "iVBORw0KGgo" not in str(shown)
    assert "image" in str(shown)


async def test_what_the_caller_does_to_its_blocks_afterwards_changes_nothing(home: Any) -> None:
    said = [copy.deepcopy(TEXT), copy.deepcopy(IMAGE)]
    given: list[dict[str, Any]] = [{"type": "text", "text": "here:"}]

    def give() -> list[dict[str, Any]]:
        """Give a list that is changed later."""
        return given

    loop = home.loop(call("give"), "a", "b", tools=[give])
    session = await loop.new_session()
    await loop.send(said, session)
    said[1]["image_url"]["url"] = "changed"
    given[0]["text"] = "changed"
    await loop.send("x", session)
    assert "changed" not in str(loop.llm.requests[-1].messages)


async def test_a_model_that_scribbles_on_its_request_spoils_no_other(home: Any) -> None:
    seen: list[str] = []

    class Scribbler(ScriptedLLM):
        async def complete(self, request: LLMRequest, **how: Any) -> Any:
            seen.append(str(request.messages))
            answer = await super().complete(request, **how)
            request.messages.append({"role": "user", "content": "scribble"})
            return answer

    loop = home.loop(llm=Scribbler(["a", "b"]))
    session = await loop.new_session()
    await loop.send("x", session)
    await loop.send("y", session)
    assert "scribble" not in seen[1]


async def test_each_request_begins_with_the_bytes_of_the_one_before(home: Any) -> None:
    loop = home.loop(calls(call("camera"), call("camera")), "a", "b", "c", tools=[camera])
    session = await loop.new_session()
    for text in ("x", "y", "z"):
        await loop.send(text, session)
    for earlier, later in zip(loop.llm.requests, loop.llm.requests[1:], strict=False):
        assert later.messages[: len(earlier.messages)] == earlier.messages
        assert (later.system_prompt, later.tools) == (earlier.system_prompt, earlier.tools)


async def test_tools_stand_in_the_request_sorted_by_name_whatever_the_order_of_registration(home: Any) -> None:
    def alpha() -> str:
        """A."""
        return ""

    requests = []
    for order in ([camera, alpha], [alpha, camera]):
        loop = home.loop("a", tools=order)
        await loop.run("x")
        requests.append(loop.llm.requests[0].tools)
    assert requests[0] == requests[1]
    assert [each["function"]["name"] for each in requests[0]] == ["alpha", "camera"]
