"""A loop served over HTTP whose clients go in the middle of a call: what becomes of the send."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from power_loop import StatefulAgentLoop, tool
from power_loop.contrib.mcp_server import asgi_app
from power_loop.testing import ScriptedLLM, call, say


@pytest.mark.parametrize(
    ("goes_on", "outcome"), [(True, "completed"), (False, "cancelled")], ids=["until it is done", "until the server ends"]
)
async def test_a_dropped_connection_ends_no_send_by_the_session_based_protocol(goes_on: bool, outcome: str) -> None:
    begun, free, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
    outcomes: list[str] = []

    @tool
    async def wait() -> str:
        """Wait."""
        begun.set()
        await free.wait()
        return "free"

    def note(event: Any) -> None:
        outcomes.append(event.payload["reason"])
        ended.set()

    async with StatefulAgentLoop(llm=ScriptedLLM([call("wait"), say("at last")]), dsn=":memory:", tools=[wait]) as loop:
        loop.event_bus.subscribe("session_ended", note)
        app = asgi_app(loop, authorize=lambda request: "ann")
        async with app.router.lifespan_context(app):
            await posted_and_dropped(app, {"name": "send", "arguments": {"message": "go"}}, when=begun)
            assert outcomes == []
            if goes_on:
                free.set()
                await ended.wait()
    assert outcomes == [outcome]


async def posted_and_dropped(app: Any, params: dict[str, Any], *, when: asyncio.Event) -> None:
    """A call by the protocol of sessions whose connection goes; returns when the server has seen it go."""
    headers = {"host": "localhost", "accept": "application/json, text/event-stream", "content-type": "application/json"}
    headers["mcp-protocol-version"] = "2025-06-18"
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    said = iter([{"type": "http.request", "body": json.dumps(message).encode(), "more_body": False}])

    async def receive() -> dict[str, Any]:
        if (part := next(said, None)) is not None:
            return part
        await when.wait()
        return {"type": "http.disconnect"}

    async def send(part: Any) -> None:
        pass

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/mcp",
        "root_path": "",
        "query_string": b"",
        "http_version": "1.1",
        "scheme": "http",
    }
    await app({**scope, "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}, receive, send)
