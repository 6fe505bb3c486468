"""What a server asks in the middle of a call: a durable question by the stateless protocol, answered whenever, wherever."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from peers import POLITE

from power_loop import StatefulAgentLoop, ToolRegistry
from power_loop.contracts.errors import HumanInputRequired
from power_loop.contracts.tool import ToolRun
from power_loop.contrib.mcp import StdioMCPClient, register_mcp_tools
from power_loop.contrib.mcp_input import ask_for, continued, response_to
from power_loop.testing import ScriptedLLM, call, say


def form(**fields: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": fields}
    return {"method": "elicitation/create", "params": {"mode": "form", "message": "Which?", "requestedSchema": schema}}


URL = {
    "method": "elicitation/create",
    "params": {"mode": "url", "message": "Sign in.", "url": "https://example.com/in", "elicitationId": "1"},
}
TEXT, FLAG, NUMBER = {"type": "string"}, {"type": "boolean"}, {"type": "integer"}
CHOICE = {"type": "string", "enum": ["s", "l"], "enumNames": ["small", "large"]}


def shop(protocol: str = "2026-07-28") -> StdioMCPClient:
    return StdioMCPClient(sys.executable, [POLITE, "stdio"], protocol=protocol, timeout_s=100)


async def ordering(loop_llm: Any, dsn: str, client: StdioMCPClient) -> StatefulAgentLoop:
    registry = ToolRegistry()
    await register_mcp_tools(registry, client, include=["order"])
    return StatefulAgentLoop(llm=loop_llm, dsn=dsn, tool_registry=registry)


# acceptance: 182 (input_required)
async def test_an_input_required_result_becomes_a_durable_question_that_another_loop_answers(tmp_path: Path) -> None:
    dsn = str(tmp_path / "ice.db")
    async with shop() as client:
        async with await ordering(ScriptedLLM([call("order", flavour="lemon")]), dsn, client) as loop:
            session = await loop.new_session()
            result = await loop.send("ice, please", session)
            assert result.status == "waiting_for_input"
            (asked,) = result.pending_interactions
            assert asked["prompt"] == "How large shall the lemon ice be?"
            assert asked["kind"] == "text"
            assert asked["metadata"]["mcp"]["schema"]["properties"]["size"]["type"] == "integer"
        async with await ordering(ScriptedLLM([say("enjoy")]), dsn, client) as loop:
            result = await loop.submit_input(session, asked["interaction_id"], "3")
            assert (result.status, result.final_text) == ("completed", "enjoy")
            assert (await loop.get_messages(session))[2]["content"] == "3 scoops of lemon"


async def test_an_answer_that_does_not_fit_is_asked_for_again_under_another_id() -> None:
    model = ScriptedLLM([call("order", flavour="lemon"), say("enjoy")])
    async with shop() as client, await ordering(model, ":memory:", client) as loop:
        session = await loop.new_session()
        (asked,) = (await loop.send("ice, please", session)).pending_interactions
        result = await loop.submit_input(session, asked["interaction_id"], "three")
        assert result.status == "waiting_for_input"
        (again,) = result.pending_interactions
        assert again["interaction_id"] != asked["interaction_id"]
        assert again["prompt"].startswith("That is no JSON")
        assert (await loop.submit_input(session, again["interaction_id"], {"size": 2})).final_text == "enjoy"
        assert (await loop.get_messages(session))[2]["content"] == "2 scoops of lemon"


async def test_a_refusal_reaches_the_server() -> None:
    model = ScriptedLLM([call("order", flavour="lemon"), say("as you wish")])
    async with shop() as client, await ordering(model, ":memory:", client) as loop:
        session = await loop.new_session()
        (asked,) = (await loop.send("ice, please", session)).pending_interactions
        assert (await loop.submit_input(session, asked["interaction_id"], {"action": "decline"})).final_text == "as you wish"
        assert "decline" in (await loop.get_messages(session))[2]["content"].lower()


async def test_by_the_session_based_protocol_nobody_is_asked_and_the_server_hears_of_it(caplog: pytest.LogCaptureFixture) -> None:
    async with shop("legacy") as client:
        assert (await client.call_tool("order", {"flavour": "lemon"})).ok is False
    assert "nobody can be asked there" in caplog.text


def test_several_requests_are_asked_one_after_the_other_and_told_together() -> None:
    with pytest.raises(HumanInputRequired) as first:
        ask_for({"inputRequests": {"a": form(name=TEXT), "b": form(sure=FLAG)}, "requestState": "s"})
    assert (first.value.kind, first.value.prompt) == ("text", "Which?")
    with pytest.raises(HumanInputRequired) as second:
        continued(ToolRun(answered=[{"state": first.value.state, "answer": "ann"}]))
    assert second.value.kind == "confirm"
    both = [{"state": first.value.state, "answer": "ann"}, {"state": second.value.state, "answer": "yes"}]
    accepted = {"a": {"action": "accept", "content": {"name": "ann"}}, "b": {"action": "accept", "content": {"sure": True}}}
    assert continued(ToolRun(answered=both)) == (accepted, "s")


def test_what_only_a_client_could_do_is_refused() -> None:
    with pytest.raises(RuntimeError, match="asks for sampling/createMessage, which this client does not offer"):
        ask_for({"inputRequests": {"a": {"method": "sampling/createMessage"}}})


@pytest.mark.parametrize(
    ("request_", "kind", "options"),
    [
        (form(name=TEXT), "text", []),
        (form(sure=FLAG), "confirm", []),
        (form(size=CHOICE), "choice", [{"id": "s", "label": "small"}, {"id": "l", "label": "large"}]),
        (form(size={"type": "string", "oneOf": [{"const": "s", "title": "small"}]}), "choice", [{"id": "s", "label": "small"}]),
        (form(a=TEXT, b=TEXT), "form", []),
        (URL, "confirm", []),
    ],
)
def test_a_request_is_a_question_of_a_kind(request_: Any, kind: str, options: list[Any]) -> None:
    with pytest.raises(HumanInputRequired) as asked:
        ask_for({"inputRequests": {"a": request_}})
    assert (asked.value.kind, asked.value.options) == (kind, options)
    assert ("https://example.com/in" in asked.value.prompt) == (request_ is URL)


@pytest.mark.parametrize(
    ("request_", "answer", "response"),
    [
        (form(name=TEXT), "ann", {"action": "accept", "content": {"name": "ann"}}),
        (form(name=TEXT), {"name": "ann"}, {"action": "accept", "content": {"name": "ann"}}),
        (form(a=TEXT, b=NUMBER), '{"a": "x", "b": 2}', {"action": "accept", "content": {"a": "x", "b": 2}}),
        (form(n=NUMBER), "42", {"action": "accept", "content": {"n": 42}}),
        (form(n=NUMBER), 42, {"action": "accept", "content": {"n": 42}}),
        (form(sure=FLAG), "no", {"action": "accept", "content": {"sure": False}}),
        (form(size=CHOICE), "large", {"action": "accept", "content": {"size": "l"}}),
        (form(some={"type": "array"}), "a, b", {"action": "accept", "content": {"some": ["a", "b"]}}),
        (form(), "yes", {"action": "accept"}),
        (URL, True, {"action": "accept"}),
        (URL, "no", {"action": "decline"}),
        (URL, None, {"action": "cancel"}),
        (form(name=TEXT), {"action": "decline"}, {"action": "decline"}),
    ],
)
def test_an_answer_is_told_as_the_server_wants_it(request_: Any, answer: Any, response: Any) -> None:
    assert response_to(request_, answer) == response


@pytest.mark.parametrize(
    ("request_", "answer"), [(form(a=TEXT, b=TEXT), "x"), (form(n=NUMBER), "many"), (URL, "perhaps"), (form(a=TEXT), "{")]
)
def test_an_answer_that_does_not_fit_is_refused(request_: Any, answer: Any) -> None:
    with pytest.raises(ValueError, match=r"Answer|JSON"):
        response_to(request_, answer)
