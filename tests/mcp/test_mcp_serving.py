"""A loop served over MCP, asked by the official client: over stdio and HTTP, by both generations of the protocol."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from peers import GENERATIONS
from servers import free_port

from power_loop import StatefulAgentLoop, ToolDefinition, ToolRegistry, tool
from power_loop.agents.tools import register_spawn_agent
from power_loop.cli import main
from power_loop.contracts.errors import HumanInputRequired
from power_loop.contracts.tool import ToolHandlerResult
from power_loop.contrib.mcp import HttpMCPClient, StdioMCPClient, register_mcp_tools
from power_loop.contrib.mcp_serve import Exposed
from power_loop.contrib.mcp_server import OWNER, asgi_app
from power_loop.testing import FunctionLLM, ScriptedLLM, call, say

EVERYBODY = {"token-a": "ann", "token-b": "bob"}


def authorize(request: Any) -> str | None:
    return EVERYBODY.get(request.headers.get("authorization", "").removeprefix("Bearer "))


@asynccontextmanager
async def serving(loop: StatefulAgentLoop, **options: Any) -> AsyncIterator[str]:
    """The loop at an address of this machine."""
    port = free_port()
    app = asgi_app(loop, **{"authorize": authorize, **options})
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical", ws="none"))
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        server.should_exit = True
        await running


@asynccontextmanager
async def asking(url: str, mode: str = "auto", token: str = "token-a") -> AsyncIterator[Client]:
    """The official client."""
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=100) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield client


def weather_loop(dsn: str = ":memory:") -> StatefulAgentLoop:
    """Calls a tool for each word that is said to it, and says what it gave."""

    def answer(request: Any) -> Any:
        last = request.messages[-1]
        return call("weather", city=last["content"]) if last["role"] == "user" else say(f"It is {last['content']}.")

    return StatefulAgentLoop(llm=FunctionLLM(answer), dsn=dsn, tools=[weather])


@tool(effects="pure")
def weather(city: str) -> str:
    """Weather of a city."""
    return f"fine in {city}"


def without_ids(messages: list[dict[str, Any]]) -> list[tuple[Any, Any]]:
    return [(message["role"], message["content"]) for message in messages]


# acceptance: 183 (MCP over HTTP)
@pytest.mark.parametrize("mode", GENERATIONS)
async def test_a_client_has_the_same_conversation_as_a_direct_send(mode: str) -> None:
    async with weather_loop() as direct:
        session = await direct.new_session()
        said = [(await direct.send(city, session)).final_text for city in ("Rome", "Oslo")]
        expected = without_ids(await direct.get_messages(session))
    async with weather_loop() as loop, serving(loop) as url, asking(url, mode) as client:
        first = await client.call_tool("send", {"message": "Rome"})
        session = first.structured_content["session_id"]
        second = await client.call_tool("send", {"message": "Oslo", "session_id": session})
        assert [each.content[0].text for each in (first, second)] == said
        read = await client.call_tool("read_session", {"session_id": session})
        assert without_ids(read.structured_content["messages"]) == without_ids(await loop.get_messages(session)) == expected


# acceptance: 183 (MCP over stdio)
@pytest.mark.parametrize("mode", GENERATIONS)
async def test_the_command_serves_over_stdio_and_what_was_said_outlives_it(tmp_path: Path, mode: str) -> None:
    dsn = str(tmp_path / "app.db")
    command = ["-m", "power_loop", "mcp-serve", "--model", "echo:", "--dsn", dsn]
    server = StdioServerParameters(command=sys.executable, args=command, env={**os.environ})
    async with Client(server, mode=mode) as client:
        assert [each.name for each in (await client.list_tools()).tools] == ["answer", "list_sessions", "read_session", "send"]
        session = (await client.call_tool("send", {"message": "hello"})).structured_content["session_id"]
    async with Client(server, mode=mode) as client:
        again = await client.call_tool("send", {"message": "and again", "session_id": session})
        assert again.content[0].text == "echo: and again"
    async with StatefulAgentLoop(llm="echo:", dsn=dsn) as loop:
        assert [role for role, _ in without_ids(await loop.get_messages(session))] == ["user", "assistant"] * 2


# acceptance: 183 (MCP, owners)
async def test_an_owner_sees_the_sessions_that_it_opened_here_and_no_others() -> None:
    async with weather_loop() as loop, serving(loop) as url:
        hosts_own = await loop.new_session()
        async with asking(url, token="token-a") as ann, asking(url, token="token-b") as bob:
            session = (await ann.call_tool("send", {"message": "Rome"})).structured_content["session_id"]
            store = await loop.ensure_store()
            assert (await store.get_session(session)).metadata == {OWNER: "ann"}
            assert session in (await ann.call_tool("list_sessions", {})).content[0].text
            assert (await bob.call_tool("list_sessions", {})).content[0].text == "[]"
            for stranger, strange in ((bob, session), (ann, hosts_own), (ann, "sess_none")):
                for name, more in (("send", {"message": "hi"}), ("read_session", {}), ("answer", {"interaction_id": "i", "value": "v"})):
                    refused = await stranger.call_tool(name, {"session_id": strange, **more})
                    assert refused.is_error
                    assert refused.content[0].text.startswith(f"Error: session.not_found: no session '{strange}'")


# acceptance: 183 (MCP, owners)
async def test_a_model_cannot_leave_a_conversation_with_another_owner() -> None:
    """Whoever writes the spec of a sub-agent writes its metadata too."""
    spec = {"name": "x", "system_prompt": "p", "tools": [], "lifecycle": "detached", "metadata": {OWNER: "bob"}}
    registry = ToolRegistry()
    register_spawn_agent(registry)
    script = [call("run_agent", spec=spec, input="poison"), say("poison"), say("done")]
    loop = StatefulAgentLoop(llm=ScriptedLLM(script), dsn=":memory:", tool_registry=registry)
    async with loop:
        exposed = Exposed(loop)
        await exposed.call("ann", "send", {"message": "go"})
        (planted,) = await (await loop.ensure_store()).list_sessions(kind="subagent")
        for parent_is_gone in (False, True):
            if parent_is_gone:
                await loop.close_session(planted.parent_session_id)
            assert await exposed.call("bob", "list_sessions", {}) == ("[]", False, None)
        said, failed, _ = await exposed.call("bob", "read_session", {"session_id": planted.session_id})
    assert failed
    assert "session.not_found" in str(said)


async def test_a_key_finds_the_conversation_whose_answer_was_lost_and_pays_once() -> None:
    model = FunctionLLM(lambda request: say(f"answer to {request.messages[-1]['content']}"))
    async with StatefulAgentLoop(llm=model, dsn=":memory:") as loop:
        exposed, pay = Exposed(loop), {"message": "pay", "key": "order 1"}
        together = await asyncio.gather(*(exposed.call("ann", "send", pay) for _ in range(3)))
        again = await exposed.call("ann", "send", pay)
        assert {data["session_id"] for _, failed, data in [*together, again] if not failed and data is not None} == {again[2]["session_id"]}
        assert (len(model.requests), again[2]["final_text"]) == (1, "answer to pay")
        others = [await exposed.call("bob", "send", pay), await exposed.call("ann", "send", {**pay, "key": "order 2"})]
    assert len({data["session_id"] for _, _, data in [again, *others]}) == 3


@pytest.mark.parametrize("mode", GENERATIONS)
async def test_half_a_character_is_served_as_its_replacement_and_the_server_goes_on(mode: str) -> None:
    half = tool(name="half", description="Half \ud83d.")(lambda: ToolHandlerResult(True, "a\ud83d", {"b\ud83d": ["c\ud83d"]}))
    loop = StatefulAgentLoop(llm=FunctionLLM(lambda request: say("half an \ud83d")), dsn=":memory:", tools=[half])
    async with loop, serving(loop, tools=True) as url, asking(url, mode) as client:
        said = await client.call_tool("send", {"message": "go"})
        assert (said.content[0].text, said.structured_content["final_text"]) == ("half an \ufffd",) * 2
        given = await client.call_tool("half", {})
        assert (given.content[0].text, given.structured_content) == ("a\ufffd", {"b\ufffd": ["c\ufffd"]})
        assert "Half \ufffd." in [each.description for each in (await client.list_tools()).tools]


async def test_what_a_tool_raises_is_told_without_secrets() -> None:
    registry = ToolRegistry()

    def fail() -> None:
        raise ConnectionError("postgres://me:hunter2@db/x: refused")

    registry.register(ToolDefinition("fail"), fail)
    async with StatefulAgentLoop(llm="echo:", dsn=":memory:", tool_registry=registry) as loop:
        said, _, _ = await Exposed(loop, tools=True).call("ann", "fail", {})
    assert said == "Error: ConnectionError: postgres://me:***@db/x: refused"


async def test_requests_without_an_owner_an_allowed_host_or_an_allowed_origin_are_refused() -> None:
    good = {"Authorization": "Bearer token-a"}
    cases = [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({**good, "Host": "evil.example"}, 421),
        ({**good, "Host": "127.0.0.1.evil.example"}, 421),
        ({**good, "Host": "user@127.0.0.1"}, 421),
        ({**good, "Host": "127.0.0.1:x"}, 421),
        ({**good, "Origin": "https://evil.example"}, 403),
        ({**good, "Origin": "null"}, 403),
        ({**good, "Origin": "http://localhost.evil.example"}, 403),
        ({**good, "Origin": "http://localhost:3000"}, 400),  # let through to the protocol, which finds no message in it
    ]
    asked: list[Any] = []

    async def asynchronously(request: Any) -> str | None:
        asked.append(request.url.path)
        return authorize(request)

    async with weather_loop() as loop, serving(loop, authorize=asynchronously) as url, httpx2.AsyncClient() as http:
        for headers, status in cases:
            response = await http.post(url, headers={"Accept": "application/json, text/event-stream", **headers}, json={})
            assert response.status_code == status, (headers, response.text)
    assert asked == ["/mcp"] * 3  # strangers to the host are not even asked who they are


async def test_an_allowed_host_may_name_its_port() -> None:
    async with weather_loop() as loop, serving(loop, allowed_hosts=["127.0.0.1:1"]) as url, httpx2.AsyncClient() as http:
        assert (await http.post(url, headers={"Authorization": "Bearer token-a"}, json={})).status_code == 421


def test_authorize_is_required() -> None:
    loop = StatefulAgentLoop(llm="echo:", dsn=":memory:")
    with pytest.raises(TypeError, match="authorize"):
        asgi_app(loop)  # type: ignore[call-arg]  # what is left out on purpose
    with pytest.raises(TypeError, match="authorize must be a function"):
        asgi_app(loop, authorize=None)  # type: ignore[arg-type]  # what is wrong on purpose
    with pytest.raises(ValueError, match=r"expose=\['everything'\]: there are send, sessions"):
        asgi_app(loop, authorize=authorize, expose=["everything"])


async def test_a_question_is_shown_and_answered_over_mcp() -> None:
    @tool
    def ask() -> str:
        """Ask."""
        raise HumanInputRequired("Which colour?", kind="choice", options=[{"id": "r", "label": "red"}])

    model = ScriptedLLM([call("ask"), say("red it is")])
    async with StatefulAgentLoop(llm=model, dsn=":memory:", tools=[ask]) as loop, serving(loop) as url, asking(url) as client:
        waiting = await client.call_tool("send", {"message": "paint"})
        (question,) = waiting.structured_content["pending_interactions"]
        assert (waiting.structured_content["status"], question["prompt"]) == ("waiting_for_input", "Which colour?")
        assert not waiting.is_error
        session = waiting.structured_content["session_id"]
        given = {"session_id": session, "interaction_id": question["interaction_id"], "value": "r"}
        answered = await client.call_tool("answer", given)
        assert answered.content[0].text == "red it is"


async def test_the_same_key_is_answered_once() -> None:
    async with weather_loop() as loop, serving(loop) as url, asking(url) as client:
        session = (await client.call_tool("send", {"message": "Rome"})).structured_content["session_id"]
        for _ in range(2):
            result = await client.call_tool("send", {"message": "Oslo", "session_id": session, "key": "k"})
            assert result.structured_content["send_index"] == 2
        assert len(await loop.get_messages(session)) == 8


async def test_two_clients_of_one_session_are_heard_one_after_the_other() -> None:
    async with weather_loop() as loop, serving(loop) as url, asking(url) as one, asking(url, "legacy") as two:
        session = (await one.call_tool("send", {"message": "Rome"})).structured_content["session_id"]
        both = [client.call_tool("send", {"message": "Oslo", "session_id": session}) for client in (one, two)]
        results = await asyncio.gather(*both)
        assert sorted(each.structured_content["send_index"] for each in results) == [2, 3]


async def test_a_request_that_is_cancelled_ends_its_send_as_cancelled() -> None:
    begun = asyncio.Event()

    @tool
    async def wait() -> str:
        """Wait."""
        begun.set()
        await asyncio.Event().wait()
        return "never"

    async with StatefulAgentLoop(llm=ScriptedLLM([call("wait")]), dsn=":memory:", tools=[wait]) as loop, serving(loop) as url:
        ended = asyncio.Event()
        loop.event_bus.subscribe("session_ended", lambda event: ended.set())
        async with asking(url) as client:
            sending = asyncio.create_task(client.call_tool("send", {"message": "go"}))
            await begun.wait()
            sending.cancel()
            await ended.wait()
            (session,) = await (await loop.ensure_store()).list_sessions()
        assert (await loop.doctor(session.session_id)).state == "idle"
        assert [role for role, _ in without_ids(await loop.get_messages(session.session_id))][:3] == ["user", "assistant", "tool"]


async def test_the_loops_own_tools_are_lent_but_for_those_that_need_an_approval() -> None:
    registry = ToolRegistry([weather])
    registry.register(ToolDefinition("pay", needs_approval=True), lambda: "paid")
    registry.register(ToolDefinition("fail"), lambda: 1 / 0)
    registry.register(ToolDefinition("picture"), lambda: [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aaaa"}}])
    loop = StatefulAgentLoop(llm="echo:", dsn=":memory:", tool_registry=registry)
    async with loop, serving(loop, tools=True, expose=["sessions"]) as url, asking(url) as client:
        listed = {each.name: each for each in (await client.list_tools()).tools}
        assert sorted(listed) == ["fail", "list_sessions", "picture", "read_session", "weather"]
        assert listed["weather"].annotations.read_only_hint is True
        assert (await client.call_tool("weather", {"city": "Rome"})).content[0].text == "fine in Rome"
        assert (await client.call_tool("picture", {})).content[0].mime_type == "image/png"
        for name, arguments, why in (("pay", {}, "no tool named 'pay'"), ("fail", {}, "ZeroDivisionError"), ("weather", {}, "/city")):
            refused = await client.call_tool(name, arguments)
            assert refused.is_error
            assert why in refused.content[0].text


def test_a_tool_that_is_called_as_one_of_the_servers_own_is_refused() -> None:
    loop = StatefulAgentLoop(llm="echo:", dsn=":memory:", tools=[tool(name="send")(lambda: "x")])
    with pytest.raises(ValueError, match="the loop has tools named send"):
        asgi_app(loop, authorize=authorize, tools=True)


async def test_one_loop_is_a_tool_of_another() -> None:
    async with weather_loop() as expert, serving(expert) as url:
        registry = ToolRegistry()
        async with HttpMCPClient(url, headers={"Authorization": "Bearer token-a"}, timeout_s=100) as client:
            assert await register_mcp_tools(registry, client, prefix="expert_", include=["send"]) == ["expert_send"]
            model = ScriptedLLM([call("expert_send", message="Rome"), say("passed on")])
            async with StatefulAgentLoop(llm=model, dsn=":memory:", tool_registry=registry) as loop:
                session = await loop.new_session()
                assert (await loop.send("ask the expert", session)).final_text == "passed on"
                assert "It is fine in Rome." in (await loop.get_messages(session))[2]["content"]


async def test_an_app_of_the_host_is_served_with_its_tools(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "from power_loop import StatefulAgentLoop\n"
        "def shout(word: str) -> str:\n    'Say it loud.'\n    print('not on stdout, please')\n    return word.upper()\n"
        "def make():\n    return StatefulAgentLoop(llm='echo:', dsn=':memory:', tools=[shout])\n"
    )
    arguments = ["-m", "power_loop", "mcp-serve", "--app", "app:make", "--tools", "--expose", ""]
    async with StdioMCPClient(sys.executable, arguments, cwd=str(tmp_path), timeout_s=100) as client:
        assert [spec.name for spec in await client.list_tools()] == ["shout"]
        assert (await client.call_tool("shout", {"word": "hey"})).content == "HEY"


@pytest.mark.parametrize(
    "arguments", [["--app", "a:b", "--dsn", "x.db"], ["--model", "echo:", "--dsn", ":memory:", "--expose", "all"]], ids=["app", "expose"]
)
def test_wrong_usage_of_the_command_is_said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mcp-serve", *arguments]) == 2
    assert capsys.readouterr().err.startswith("power-loop: ")
