"""The Starlette recipe behind a real server: what a browser that goes away costs, and how it comes back."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn

from power_loop.testing import ScriptedLLM, hang, say
from run_page import blocks

PAGE = Path(__file__).parent.parent.parent / "docs" / "recipes" / "starlette.md"
LIMIT_S = 100


def recipe() -> dict[str, Any]:
    """What the page defines, without the blocks that try it."""
    namespace: dict[str, Any] = {"__name__": "recipe"}
    shown, _, _ = PAGE.read_text(encoding="utf-8").partition("## Trying it")
    for block in blocks(shown):
        exec(compile(block.code, str(PAGE), "exec"), namespace)
    return namespace


@asynccontextmanager
async def served(llm: Any, folder: Path) -> AsyncIterator[tuple[Any, int]]:
    """(application, port) while a server runs it."""
    before = Path.cwd()
    os.chdir(folder)  # its database is a file beside it
    app = recipe()["make_app"](llm)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=2))
    running = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(LIMIT_S):
            while not server.started:
                await asyncio.sleep(0.01)
        yield app, server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await running
        os.chdir(before)


async def ask(port: int, request: str, body: Any = None, *, until: bytes) -> bytes:
    """What is answered up to ``until``; then the line is cut."""
    sent = b"" if body is None else json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"{request} HTTP/1.1\r\nHost: localhost\r\nX-User: ada\r\nContent-Length: {len(sent)}\r\n\r\n"
    writer.write(head.encode() + sent)
    async with asyncio.timeout(LIMIT_S):
        told = await reader.readuntil(until)
    writer.close()
    await writer.wait_closed()
    return told


async def test_a_closed_tab_cancels_the_answer_and_the_session_goes_on(tmp_path: Path) -> None:
    async with served(ScriptedLLM([hang(after="One two three"), say("Welcome back.")]), tmp_path) as (app, port):
        endings: list[str] = []
        app.state.loop.event_bus.subscribe("result", lambda event: endings.append(event.result.final_text))
        await ask(port, "POST /chat", {"text": "Count."}, until=b"event: text")
        async with asyncio.timeout(LIMIT_S):
            while not endings:
                await asyncio.sleep(0.01)
        assert endings == ["[cancelled: consumer left]"]
        told = await ask(port, "POST /chat", {"text": "I am back."}, until=b'"completed"')
        assert b"Welcome" in told


async def test_a_watcher_that_leaves_stops_nothing_and_comes_back_where_it_was(tmp_path: Path) -> None:
    async with served(ScriptedLLM([say("First."), say("Second.")]), tmp_path) as (app, port):
        await ask(port, "POST /chat", {"text": "One?"}, until=b'"completed"')
        first = await ask(port, "GET /events", until=b"First.")
        cursor = first.rsplit(b"id: ", 1)[1].split(b"\n")[0].decode()
        await app.state.loop.send("Two?", "user/ada")
        again = await ask(port, f"GET /events?after={cursor}", until=b"Second.")
        assert b"One?" not in again
        assert b"First." not in again
        assert b"Two?" in again
