"""Clients against a server made with the official SDK, by both generations of the protocol, over stdio and HTTP."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from peers import GENERATIONS, POLITE, listening
from servers import free_port

from power_loop import StatefulAgentLoop, ToolRegistry
from power_loop.contracts.errors import ToolTimeout
from power_loop.contracts.tool import ToolHandlerResult, ToolRun
from power_loop.contrib.mcp import HttpMCPClient, McpClient, StdioMCPClient, register_mcp_tools
from power_loop.testing import ScriptedLLM, call, say


def polite(protocol: str = "auto", **options: Any) -> StdioMCPClient:
    return StdioMCPClient(sys.executable, [POLITE, "stdio"], protocol=protocol, **{"timeout_s": 20, **options})


@asynccontextmanager
async def reached(way: str, protocol: str) -> AsyncIterator[McpClient]:
    if way == "stdio":
        async with polite(protocol) as client:
            yield client
        return
    kind, path = ("sse", "sse") if way == "sse" else ("streamable-http", "mcp")
    with listening(POLITE, kind) as port:
        async with HttpMCPClient(f"http://127.0.0.1:{port}/{path}", protocol=protocol, timeout_s=100) as client:
            yield client


WAYS = [*((way, protocol) for way in ("stdio", "http") for protocol in GENERATIONS), ("sse", "auto")]


# acceptance: 182 (both generations)
@pytest.mark.parametrize(("way", "protocol"), WAYS)
async def test_tools_and_resources_of_a_real_server_work_by_every_way(way: str, protocol: str) -> None:
    async with reached(way, protocol) as client:
        assert client.about["protocol"] == (protocol if protocol != "legacy" and way != "sse" else "2025-11-25")
        assert (client.about["server"]["name"], client.about["instructions"]) == ("polite", "Be polite.")
        registry = ToolRegistry()
        names = await register_mcp_tools(registry, client, prefix="p.", effects="annotations")
        assert names == sorted(names)
        assert {"p_add": "add", "p_fs_read_file": "fs.read file"}.items() <= {str(name): name.original for name in names}.items()
        added = await registry.invoke_async("p_add", {"a": 1, "b": 2})
        assert (added.ok, added.content, added.data) == (True, "3", {"structured": {"result": 3}})
        assert (await registry.invoke_async("p_boom", {})).ok is False
        memo, word = await registry.invoke_async("p_resources_list", {})
        assert (memo["uri"], word["uriTemplate"]) == ("memo://a", "word://{word}")
        assert (await registry.invoke_async("p_resources_read", {"uri": "word://hey"})).content == "[resource word://hey]\nthe word hey"
        read = await registry.invoke_async("p_resources_read", {"uri": "memo://a"})
        assert read.content == "[resource memo://a]\nhello memo"


async def test_text_pictures_files_and_resources_survive() -> None:
    async with polite() as client:
        shown = await client.call_tool("show", {})
    text, picture, sound, resource = shown.content
    assert text == {"type": "text", "text": "a pixel"}
    assert picture["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert sound["attachment"] == {"filename": "audio", "mime_type": "audio/wav", "kind": "other", "data": "UklGRg=="}
    assert resource["text"] == "[resource memo://a]\nkept words"


async def test_half_a_character_is_sent_as_its_replacement_and_the_connection_stays() -> None:
    async with polite() as client:
        connection = client._connection
        assert (await client.call_tool("fs.read file", {"path": "a\ud83d"})).content == "read a\ufffd"
        assert (await client.read_resource("word://a\ud83d"))["contents"][0]["text"] == "the word a\ufffd"
        assert client._connection is connection


async def test_pictures_reach_the_model_as_blocks() -> None:
    registry, model = ToolRegistry(), ScriptedLLM([call("show"), say("pretty")])
    async with polite() as client:
        await register_mcp_tools(registry, client)
        async with StatefulAgentLoop(llm=model, dsn=":memory:", tool_registry=registry) as loop:
            session = await loop.new_session()
            assert (await loop.send("show me", session)).final_text == "pretty"
            content = (await loop.get_messages(session))[2]["content"]
    assert [block["type"] for block in content] == ["text", "image_url", "attachment", "text"]


async def test_the_tool_list_is_asked_for_once_and_sorted() -> None:
    async with polite() as client:
        first = await client.list_tools()
        first.clear()
        again = await client.list_tools()
    assert [spec.name for spec in again] == sorted(spec.name for spec in again)
    assert len(again) > 5


async def test_a_changed_tool_list_is_heard_by_the_stateless_protocol() -> None:
    heard = asyncio.Event()
    async with polite("2026-07-28", on_tools_changed=heard.set) as client:
        assert "trick" not in [spec.name for spec in await client.list_tools()]
        assert (await client.call_tool("learn", {})).ok
        await heard.wait()
        assert "trick" in [spec.name for spec in await client.list_tools()]


async def test_progress_is_told_to_the_run() -> None:
    told: list[Any] = []
    run = ToolRun(call_id="c1", tell=lambda kind, what: told.append((kind, what["text"], what["fraction"])))
    async with polite() as client:
        await client.call_for_run(run, "count", {"to": 2}, repeatable=False)
    assert told == [("tool_progress", "at 1", 0.5), ("tool_progress", "at 2", 1.0)]


@pytest.mark.parametrize("protocol", GENERATIONS)
async def test_a_call_that_takes_too_long_times_out_and_the_connection_stays(protocol: str) -> None:
    async with polite(protocol) as client:
        client._timeout_s = 0.3
        with pytest.raises(ToolTimeout, match=r"sleep did not finish within 0\.3 s"):
            await client.call_tool("sleep", {})
        client._timeout_s = 100
        assert (await client.call_tool("add", {"a": 1, "b": 1})).content == "2"


# acceptance: 182 (closing from another task)
@pytest.mark.parametrize(("way", "protocol"), WAYS)
async def test_closing_from_another_task_is_clean_and_ends_calls_in_flight(way: str, protocol: str) -> None:
    async with reached(way, protocol) as client:
        waiting = asyncio.create_task(client.call_tool("sleep", {}))
        await client.call_tool("add", {"a": 1, "b": 1})
        await asyncio.create_task(client.aclose())
        with pytest.raises(ToolTimeout, match="was lost while sleep ran"):
            await waiting
        with pytest.raises(RuntimeError, match=r"is closed; connect\(\) opens it again"):
            await client.call_tool("add", {"a": 1, "b": 1})
        assert (await (await client.connect()).call_tool("add", {"a": 1, "b": 1})).content == "2"


async def test_calls_from_another_thread_and_event_loop_use_the_one_connection() -> None:
    found: list[ToolHandlerResult] = []
    async with polite() as client:
        connection = client._connection
        thread = threading.Thread(target=lambda: found.append(asyncio.run(client.call_tool("add", {"a": 2, "b": 2}))))
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0.01)
        assert client._connection is connection
    assert found[0].content == "4"


def test_a_client_whose_event_loop_is_gone_connects_on_the_next_one() -> None:
    client = polite()
    for _ in range(2):
        assert asyncio.run(client.call_tool("add", {"a": 1, "b": 2})).content == "3"
    asyncio.run(client.aclose())


async def test_a_server_has_the_allow_listed_environment_and_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POWER_LOOP_API_KEY", "secret")
    async with polite(env={"WANTED": "1"}) as client:
        names = (await client.call_tool("environment", {})).content.split()
    assert "WANTED" in names
    assert "PATH" in names
    assert "POWER_LOOP_API_KEY" not in names


async def test_a_server_that_died_between_calls_is_started_again(tmp_path: Path) -> None:
    async with polite() as client:
        with pytest.raises(ToolTimeout, match="was lost while leave ran"):
            await client.call_tool("leave", {"notes": str(tmp_path / "notes")})
        assert (await client.call_tool("add", {"a": 1, "b": 1})).content == "2"
    assert (tmp_path / "notes").read_text() == "left\n"


@pytest.mark.parametrize("protocol", GENERATIONS)
async def test_a_server_at_an_address_that_was_restarted_is_connected_to_again(protocol: str) -> None:
    port = free_port()
    client = HttpMCPClient(f"http://127.0.0.1:{port}/mcp", protocol=protocol, timeout_s=100)
    try:
        with listening(POLITE, "streamable-http", port=port):
            assert (await client.call_tool("add", {"a": 1, "b": 1})).content == "2"
        with pytest.raises(ConnectionError, match=f"no connection to MCP server 'http://127.0.0.1:{port}/mcp'"):
            await client.call_tool("add", {"a": 1, "b": 1})
        with listening(POLITE, "streamable-http", port=port):
            assert (await client.call_tool("add", {"a": 1, "b": 1})).content == "2"
        with listening(POLITE, "streamable-http", port=port):
            assert (await client.call_for_run(ToolRun(), "add", {"a": 1, "b": 1}, repeatable=True)).content == "2"
    finally:
        await client.aclose()


async def test_cancelling_a_send_cancels_the_call_on_its_server() -> None:
    registry = ToolRegistry()
    async with polite() as client:
        await register_mcp_tools(registry, client)
        async with StatefulAgentLoop(llm=ScriptedLLM([call("sleep")]), dsn=":memory:", tool_registry=registry) as loop:
            session = await loop.new_session()
            loop.event_bus.subscribe("tool_call_started", lambda event: asyncio.get_running_loop().create_task(loop.cancel(session)))
            assert (await loop.send("sleep", session)).status == "cancelled"
        assert (await client.call_tool("add", {"a": 1, "b": 1})).content == "2"


def test_arguments_in_one_text_are_refused() -> None:
    with pytest.raises(TypeError, match="give a list"):
        StdioMCPClient("npx", "-y server")


def test_what_a_client_shows_of_itself_holds_no_secret() -> None:
    client = HttpMCPClient("https://user:pass@example.com/mcp?token=abc", headers={"Authorization": "Bearer abc"})
    assert repr(client) == "<HttpMCPClient of MCP server 'example.com/mcp'>"


FORKED = """
import asyncio, os, sys, threading
from power_loop.contrib.mcp import StdioMCPClient

client = StdioMCPClient(sys.executable, [sys.argv[1], "stdio"], timeout_s=20)
home = asyncio.new_event_loop()
threading.Thread(target=home.run_forever, daemon=True).start()

def add(a):
    return asyncio.run_coroutine_threadsafe(client.call_tool("add", {"a": a, "b": 1}), home).result(30).content

print(add(1), flush=True)
child = os.fork()
if child == 0:
    async def there():
        async with client:
            return (await client.call_tool("add", {"a": 2, "b": 1})).content
    print(asyncio.run(there()), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(add(3), flush=True)
asyncio.run_coroutine_threadsafe(client.aclose(), home).result(30)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_forked_child_has_a_server_of_its_own_and_leaves_its_parents_alone(tmp_path: Path) -> None:
    program = tmp_path / "forked.py"
    program.write_text(FORKED)
    done = subprocess.run([sys.executable, program, POLITE], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.split(), done.returncode) == (["2", "3", "4"], 0), done.stderr
