"""Against the reference servers that others wrote, for Node: ``npm install @modelcontextprotocol/server-{everything,filesystem,memory}``.

They are looked for below the folder that POWER_LOOP_MCP_NODE names, else below this one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import engines
import pytest
from peers import NODE_FOLDER, node_server

from power_loop import StatefulAgentLoop, ToolRegistry
from power_loop.contrib.mcp import StdioMCPClient, register_mcp_tools
from power_loop.testing import ScriptedLLM, call, say


def client_of(name: str, *arguments: str, **options: Any) -> StdioMCPClient:
    command = node_server(name)
    if command is None:
        packages = "@modelcontextprotocol/server-everything, -filesystem and -memory"
        pytest.skip(f"{engines.MISSING} of MCP for Node: npm install {packages}, and set {NODE_FOLDER} to that folder")
    return StdioMCPClient(command[0], [*command[1:], *arguments], timeout_s=30, **options)


# acceptance: 64 (servers of others)
async def test_the_everything_server_is_understood() -> None:
    registry = ToolRegistry()
    async with client_of("everything", "stdio") as client:
        assert client.about["protocol"] == "2025-11-25"
        names = await register_mcp_tools(registry, client, prefix="any.")
        assert "any_echo" in names
        assert "hi" in (await registry.invoke_async("any_echo", {"message": "hi"})).content
        blocks = (await registry.invoke_async("any_get-tiny-image", {})).content
        assert [block["type"] for block in blocks] == ["text", "image_url", "text"]
        structured = await registry.invoke_async("any_get-structured-content", {"location": "New York"})
        assert "temperature" in structured.data["structured"]
        resources = await registry.invoke_async("any_resources_list", {})
        read = await registry.invoke_async("any_resources_read", {"uri": resources[0]["uri"]})
        assert read.content


# acceptance: 65 (servers of others)
async def test_what_the_filesystem_server_refuses_is_a_failed_result_and_the_agent_goes_on(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello file")
    registry = ToolRegistry()
    async with client_of("filesystem", str(tmp_path)) as client:
        await register_mcp_tools(registry, client, prefix="fs.", effects="annotations")
        reads = registry.get("fs_read_text_file")
        assert reads is not None
        assert reads.definition.effects == "pure"
        script = [call("fs_read_text_file", path="/etc/passwd"), call("fs_read_text_file", path=str(tmp_path / "a.txt")), say("done")]
        async with StatefulAgentLoop(llm=ScriptedLLM(script), dsn=":memory:", tool_registry=registry) as loop:
            failed: list[Any] = []
            loop.event_bus.subscribe("tool_call_failed", failed.append)
            session = await loop.new_session()
            assert (await loop.send("read", session)).final_text == "done"
            refused, read = [message["content"] for message in await loop.get_messages(session) if message["role"] == "tool"]
    assert "denied" in refused
    assert read == "hello file"
    assert len(failed) == 1


async def test_the_memory_server_keeps_its_file_where_it_is_told(tmp_path: Path) -> None:
    kept = tmp_path / "memory.jsonl"
    async with client_of("memory", env={"MEMORY_FILE_PATH": str(kept)}) as client:
        entity = {"name": "rose", "entityType": "flower", "observations": ["red"]}
        assert (await client.call_tool("create_entities", {"entities": [entity]})).ok
        assert (await client.call_tool("create_entities", {"entities": "none"})).ok is False
        assert "rose" in (await client.call_tool("read_graph", {})).content
    assert "rose" in kept.read_text()
