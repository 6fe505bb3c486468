"""Servers at an address that give no answer, or one that is none, or forget a session: what the model is told of the call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from servers import free_port
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from power_loop import StatefulAgentLoop, ToolRegistry
from power_loop.contracts.errors import ToolTimeout
from power_loop.contracts.tool import ToolRun
from power_loop.contrib.mcp import HttpMCPClient, register_mcp_tools
from power_loop.testing import ScriptedLLM, call, say

HALF = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "half"}}


class Rude:
    """A server with sessions and one tool, ``work``, whose calls are answered by ``answer``."""

    def __init__(self, answer: Callable[[Any], Response]) -> None:
        self.answer, self.sessions, self.heard = answer, 0, list[str]()

    async def respond(self, request: Request) -> Response:
        if request.method != "POST":
            return Response(status_code=405)
        message = await request.json()
        self.heard.append(message["method"])
        match message:
            case {"method": "initialize"}:
                self.sessions += 1
                info = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "rude", "version": "1"}}
                return result(message, info, {"mcp-session-id": f"s{self.sessions}"})
            case {"method": "tools/list"}:
                return result(message, {"tools": [{"name": "work", "inputSchema": {"type": "object"}}]})
            case {"method": "tools/call"}:
                return self.answer(message)
            case {"id": _}:
                return error(message, -32601, "no such method")
            case _:
                return Response(status_code=202)


def result(message: Any, given: Any, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "result": given}, headers=headers)


def error(message: Any, code: int, text: str, status: int = 200) -> Response:
    return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "error": {"code": code, "message": text}}, status)


def done(message: Any) -> Response:
    return result(message, {"content": [{"type": "text", "text": "done"}]})


def sse(*lines: str) -> Response:
    return Response("".join(f"data: {line}\n\n" for line in lines), media_type="text/event-stream")


@asynccontextmanager
async def reached(server: Rude) -> AsyncIterator[HttpMCPClient]:
    port = free_port()
    app = Starlette(routes=[Route("/mcp", server.respond, methods=["GET", "POST", "DELETE"])])
    running = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical", ws="none"))
    task = asyncio.create_task(running.serve())
    while not running.started:
        await asyncio.sleep(0.01)
    try:
        async with HttpMCPClient(f"http://127.0.0.1:{port}/mcp", protocol="legacy", timeout_s=100) as client:
            yield client
    finally:
        running.should_exit = True
        await task


async def said_of_one_call(client: HttpMCPClient) -> str:
    """What the model reads of a call of ``work``."""
    registry = ToolRegistry()
    await register_mcp_tools(registry, client)
    async with StatefulAgentLoop(llm=ScriptedLLM([call("work"), say("ok")]), dsn=":memory:", tool_registry=registry) as loop:
        session = await loop.new_session()
        await loop.send("go", session)
        return (await loop.get_messages(session))[2]["content"]


UNANSWERED = {
    "500": (lambda message: Response("oops", 500), "(HTTP 500)"),
    "500 with an error": (lambda message: error(message, -32603, "Internal error", 500), "Internal error (HTTP 500)"),
    "503": (lambda message: Response("busy", 503), "(HTTP 503)"),
    "a stream without an answer": (lambda message: sse(json.dumps(HALF)), "SSE stream ended without a response"),
    "a stream of garbage": (lambda message: sse("{nope"), "Failed to parse SSE message"),
    "garbage": (lambda message: Response("{nope", media_type="application/json"), "Failed to parse JSON response"),
    "nothing": (lambda message: Response("", media_type="application/json"), "Failed to parse JSON response"),
    "a page": (lambda message: Response("<html>", media_type="text/html"), "Unexpected content type"),
    "202": (lambda message: Response(status_code=202), "202 Accepted"),
}


@pytest.mark.parametrize(("answer", "why"), UNANSWERED.values(), ids=UNANSWERED)
async def test_a_call_that_got_no_answer_is_unknown_and_not_made_again(answer: Callable[[Any], Response], why: str) -> None:
    server = Rude(answer)
    async with reached(server) as client:
        told = await said_of_one_call(client)
    assert "was lost while work ran" in told
    assert why in told
    assert "may or may not have taken effect" in told
    assert (server.heard.count("tools/call"), server.sessions) == (1, 1)


REFUSED = {
    "401": (lambda message: Response("no", 401), "Server returned an error response"),
    "403": (lambda message: Response("no", 403), "Server returned an error response"),
    "429": (lambda message: Response("slow", 429), "Server returned an error response"),
    "an error": (lambda message: error(message, -32000, "no such flower"), "no such flower"),
    "an error of parsing": (lambda message: error(message, -32602, "Failed to parse flower"), "Failed to parse flower"),
}


@pytest.mark.parametrize(("answer", "why"), REFUSED.values(), ids=REFUSED)
async def test_a_call_that_was_refused_has_failed(answer: Callable[[Any], Response], why: str) -> None:
    async with reached(Rude(answer)) as client:
        assert await said_of_one_call(client) == f"Error: MCPError: {why}"


async def test_a_call_without_an_answer_that_may_be_repeated_is_made_once_more_on_the_connection_that_stands() -> None:
    answers = iter([Response("busy", 503)])
    server = Rude(lambda message: next(answers, None) or done(message))
    async with reached(server) as client:
        given = await client.call_for_run(ToolRun(), "work", {}, repeatable=True)
    assert (given.content, server.heard.count("tools/call"), server.sessions) == ("done", 2, 1)


FORGOTTEN = {
    "no words": lambda message: Response("Not Found", 404),
    "words of its own": lambda message: error(message, -32001, "Your visit has expired", 404),
    "words of old": lambda message: error(message, -32000, "Bad Request: No valid session ID provided", 400),
}


@pytest.mark.parametrize("answer", FORGOTTEN.values(), ids=FORGOTTEN)
async def test_a_server_that_forgot_the_session_is_asked_again_in_a_new_one(answer: Callable[[Any], Response]) -> None:
    server = Rude(lambda message: answer(message) if server.sessions == 1 else done(message))
    async with reached(server) as client:
        assert await said_of_one_call(client) == "done"
    assert (server.heard.count("tools/call"), server.sessions) == (2, 2)


async def test_a_server_that_forgets_every_session_is_given_up() -> None:
    server = Rude(lambda message: Response("Not Found", 404))
    async with reached(server) as client:
        with pytest.raises(ToolTimeout, match="the server has forgotten this session"):
            await client.call_tool("work", {})
    assert server.sessions == 2
