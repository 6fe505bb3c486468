"""The ``mcpServers`` configuration: files, variables, what is malformed, several servers at once."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from peers import POLITE, listening

from power_loop import ToolRegistry
from power_loop.contrib.mcp import HttpMCPClient, StdioMCPClient, load_mcp_servers


def config(**servers: Any) -> dict[str, Any]:
    return {"mcpServers": servers}


# acceptance: 182
@pytest.mark.parametrize("generation", ["legacy", "auto"])
async def test_a_file_with_variables_connects_stdio_and_http_servers(tmp_path: Path, generation: str) -> None:
    with listening(POLITE, "streamable-http") as port:
        file = tmp_path / "servers.json"
        remote = {"url": "http://127.0.0.1:${PORT}/${WHERE:-mcp}", "headers": {"X-Key": "${KEY}"}}
        local = {"command": "${PYTHON}", "args": [POLITE, "${HOW:-stdio}"], "env": {"WANTED": "${KEY}"}}
        file.write_text(json.dumps(config(local=local, remote=remote)), encoding="utf-8")
        servers = load_mcp_servers(file, env={"PORT": str(port), "KEY": "k", "PYTHON": sys.executable, "WHERE": ""})
        for client in servers.values():
            client._protocol = generation
        registry = ToolRegistry()
        async with servers:
            names = await servers.register(registry, prefix="{server}_", include=["add", "environment"])
            assert names == ["local_add", "local_environment", "remote_add", "remote_environment"]
            spoken = {client.about["protocol"] for client in servers.values()}
            assert spoken == {"2025-11-25" if generation == "legacy" else "2026-07-28"}
            for server in servers:
                assert (await registry.invoke_async(f"{server}_add", {"a": 1, "b": 2})).content == "3"
            assert "WANTED" in (await registry.invoke_async("local_environment", {})).content


def test_the_environment_of_the_process_fills_variables_when_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_COMMAND", "serve")
    servers = load_mcp_servers(config(a={"command": "${MCP_COMMAND}"}, b={"command": "x", "disabled": True}, c={"url": "http://h/mcp"}))
    assert list(servers) == ["a", "c"]
    assert isinstance(servers["a"], StdioMCPClient)
    assert isinstance(servers["c"], HttpMCPClient)
    assert repr(servers["a"]) == "<StdioMCPClient of MCP server 'serve'>"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, 'the MCP configuration has no "mcpServers" object'),
        ({"mcpServers": []}, 'no "mcpServers" object'),
        (config(a="x"), "MCP server 'a': it must be an object"),
        (config(a={}), "MCP server 'a': it has either a command or a url"),
        (config(a={"command": "x", "url": "y"}), "either a command or a url"),
        (config(a={"command": 7}), "either a command or a url"),
        (config(a={"command": "x", "args": "y"}), "MCP server 'a': args must be a list of texts"),
        (config(a={"command": "x", "args": [1]}), "args must be a list of texts"),
        (config(a={"command": "x", "env": {"A": 1}}), "env must be an object of texts"),
        (config(a={"url": "x", "headers": ["b"]}), "headers must be an object of texts"),
        (config(a={"command": "${NO_SUCH}"}), r"MCP server 'a': NO_SUCH is not set; set it, or write \$\{NO_SUCH:-default\}"),
    ],
)
def test_what_is_malformed_is_refused_by_name(given: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        load_mcp_servers(given, env={})


# acceptance: 178 (error texts)
@pytest.mark.parametrize("entry", [
    {"command": "x", "env": {"API_KEY": "hunter2", "PORT": 1}}, {"command": "x", "args": ["--key", "hunter2", 1]},
    {"url": "http://h/mcp", "headers": {"X-Api-Key": "hunter2", "X-Retries": 1}}, ["hunter2"], {"command": ["x", "hunter2"]},
])  # fmt: skip
def test_no_refusal_repeats_what_stands_beside_the_mistake(entry: Any) -> None:
    with pytest.raises(ValueError, match="MCP server 'a'") as refused:
        load_mcp_servers({"mcpServers": {"a": entry}}, env={})
    assert "hunter2" not in str(refused.value)


def test_a_file_that_is_no_json_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "servers.json"
    file.write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"servers\.json is no JSON"):
        load_mcp_servers(str(file))
    with pytest.raises(FileNotFoundError):
        load_mcp_servers(tmp_path / "none.json")


async def test_when_one_server_cannot_be_reached_none_stays_connected() -> None:
    servers = load_mcp_servers(config(good={"command": sys.executable, "args": [POLITE, "stdio"]}, bad={"command": "no-such-command"}))
    with pytest.raises(ConnectionError, match="bad: no connection to MCP server 'no-such-command'"):
        async with servers:
            raise AssertionError
    assert servers["good"]._connection is None
