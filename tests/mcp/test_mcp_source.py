"""Tools of any source in a registry: without the SDK, whatever the objects look like."""

from __future__ import annotations

import logging
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from power_loop import StatefulAgentLoop, ToolDefinition, ToolRegistry
from power_loop.contrib.mcp import HttpMCPClient, McpToolSpec, StdioMCPClient, register_mcp_tools
from power_loop.contrib.mcp_server import asgi_app, serve_stdio
from power_loop.testing import ScriptedLLM, call, say

WORD = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}


class Shouting:
    """The least that a source can be."""

    def __init__(self, *tools: Any) -> None:
        self.tools, self.calls = list(tools), []

    async def list_tools(self) -> list[Any]:
        return self.tools

    async def call_tool(self, name: str, arguments: dict[str, Any]) -> Any:
        self.calls.append((name, arguments))
        return f"{name}: {arguments.get('word', '').upper()}"


# acceptance: 64
async def test_any_object_with_the_two_methods_is_a_source() -> None:
    source, registry = Shouting(McpToolSpec("shout", "Say it loud.", WORD)), ToolRegistry()
    assert await register_mcp_tools(registry, source, prefix="x_") == ["x_shout"]
    bound = registry.get("x_shout")
    assert bound is not None
    assert (bound.definition.description, bound.definition.parameters()) == ("Say it loud.", WORD)
    assert await registry.invoke_async("x_shout", {"word": "hey"}) == "shout: HEY"
    assert source.calls == [("shout", {"word": "hey"})]


# acceptance: 64 (shapes)
@pytest.mark.parametrize(
    "listed",
    [
        McpToolSpec("shout", "loud", WORD),
        {"name": "shout", "description": "loud", "inputSchema": WORD},
        SimpleNamespace(name="shout", description="loud", inputSchema=WORD),
        SimpleNamespace(name="shout", description="loud", input_schema=WORD),
    ],
)
async def test_a_tool_may_be_listed_in_any_shape(listed: Any) -> None:
    registry = ToolRegistry()
    await register_mcp_tools(registry, Shouting(listed))
    (definition,) = registry.definitions()
    assert (definition.name, definition.description, definition.parameters()) == ("shout", "loud", WORD)


async def test_a_source_may_be_synchronous_and_list_as_the_sdk_does() -> None:
    source = SimpleNamespace(
        list_tools=lambda: SimpleNamespace(tools=[{"name": "go"}]), call_tool=lambda name, arguments: [name, arguments]
    )
    registry = ToolRegistry()
    await register_mcp_tools(registry, source)
    assert await registry.invoke_async("go", {}) == ["go", {}]


# acceptance: 65 (a reported error)
async def test_an_error_that_the_server_reports_is_a_failed_result_of_the_loop() -> None:
    source = SimpleNamespace(
        list_tools=lambda: [{"name": "fs.rm"}],
        call_tool=lambda name, arguments: {"content": [{"type": "text", "text": f"{name}: read-only"}], "isError": True},
    )
    registry = ToolRegistry()
    assert await register_mcp_tools(registry, source, prefix="a.") == ["a_fs_rm"]
    async with StatefulAgentLoop(llm=ScriptedLLM([call("a_fs_rm"), say("so be it")]), dsn=":memory:", tool_registry=registry) as loop:
        failed: list[Any] = []
        loop.event_bus.subscribe("tool_call_failed", lambda event: failed.append(event.data))
        session = await loop.new_session()
        await loop.send("clean up", session)
        assert (await loop.get_messages(session))[2]["content"] == "fs.rm: read-only"
    assert len(failed) == 1


async def test_a_hidden_original_name_stands_in_the_description() -> None:
    registry = ToolRegistry()
    await register_mcp_tools(registry, Shouting(McpToolSpec("fs.read", "Read."), McpToolSpec("plain", "Plain.")), prefix="x_")
    described = {each.name: each.description for each in registry.definitions()}
    assert described == {"x_fs_read": "Read.\n\n(On its server this tool is called fs.read.)", "x_plain": "Plain."}


async def test_a_parameter_of_any_name_reaches_the_server() -> None:
    names = ["run", "arguments", "name", "self", "mcp_arguments"]
    schema = {"type": "object", "properties": {name: {"type": "integer"} for name in names}, "required": names}
    source, registry = Shouting(McpToolSpec("t", "", schema)), ToolRegistry()
    await register_mcp_tools(registry, source)
    await registry.invoke_async("t", dict.fromkeys(names, 1))
    assert source.calls == [("t", dict.fromkeys(names, 1))]


async def test_effects_are_once_unless_the_host_believes_the_hints() -> None:
    tools = [
        McpToolSpec("look", annotations={"readOnlyHint": True}),
        McpToolSpec("set", annotations={"idempotentHint": True}),
        McpToolSpec("pay", annotations={"title": "Pay"}),
    ]
    for effects, wanted in (("once", {"once"}), ("annotations", {"pure", "idempotent", "once"})):
        registry = ToolRegistry()
        await register_mcp_tools(registry, Shouting(*tools), effects=effects)
        assert {each.effects for each in registry.definitions()} == wanted
    assert [each.effects for each in registry.definitions()] == ["pure", "once", "idempotent"]
    with pytest.raises(ValueError, match="effects='none'"):
        await register_mcp_tools(registry, Shouting(), effects="none")


async def test_options_reach_every_tool() -> None:
    registry = ToolRegistry()
    await register_mcp_tools(registry, Shouting(McpToolSpec("a"), McpToolSpec("b")), needs_approval=True, timeout_s=7)
    assert [(each.needs_approval, each.timeout_s) for each in registry.definitions()] == [(True, 7), (True, 7)]
    with pytest.raises(ValueError, match=r"timeout_s of tool 'x_\*' is 0; it must be seconds above 0"):
        await register_mcp_tools(registry, Shouting(McpToolSpec("a")), prefix="x_", timeout_s=0)


async def test_tools_are_chosen_by_the_servers_own_names() -> None:
    source = Shouting(*(McpToolSpec(name) for name in ("a.1", "a.2", "a.3")))
    registry = ToolRegistry()
    assert await register_mcp_tools(registry, source, include=["a.1", "a.2"], exclude=["a.2"]) == ["a_1"]
    with pytest.raises(ValueError, match=r"no tool 'a\.9'; it has a\.1, a\.2, a\.3"):
        await register_mcp_tools(registry, source, include=["a.9"])


async def test_a_taken_name_refuses_all_and_overwrite_takes_a_changed_list_over() -> None:
    registry = ToolRegistry([(ToolDefinition("b", "mine"), lambda: "mine")])
    with pytest.raises(ValueError, match="registered already: b; give these tools a prefix"):
        await register_mcp_tools(registry, Shouting(McpToolSpec("a"), McpToolSpec("b")))
    assert registry.names() == ["b"]
    await register_mcp_tools(registry, Shouting(McpToolSpec("a"), McpToolSpec("b", "theirs")), overwrite=True)
    assert {each.name: each.description for each in registry.definitions()} == {"a": "", "b": "theirs"}


async def test_a_tool_with_a_malformed_schema_is_left_out_with_a_warning_and_the_others_stay(caplog: pytest.LogCaptureFixture) -> None:
    bad: list[Any] = [
        {"name": "text", "inputSchema": {"type": "string"}},
        {"name": "slip", "inputSchema": {"type": "object", "properties": {"x": {"type": "strnig"}}}},
        {"name": "list", "inputSchema": []},
        {"name": "req", "inputSchema": {"type": "object", "required": [{}]}},
        {"description": "nameless"},
    ]
    registry = ToolRegistry()
    with caplog.at_level(logging.WARNING, "power_loop.mcp"):
        names = await register_mcp_tools(registry, Shouting(*bad, McpToolSpec("good"), McpToolSpec("good", "twice")))
    assert names == registry.names() == ["good"]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == len(bad) + 1
    assert any("'slip'" in line and "strnig" in line for line in said)


# acceptance: 7 (mcp)
async def test_the_sdk_is_needed_by_clients_and_servers_alone_and_its_absence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    loop = StatefulAgentLoop(llm="echo:", dsn=":memory:")
    for need in (StdioMCPClient("x").connect, HttpMCPClient("http://127.0.0.1:1/mcp").list_tools, lambda: serve_stdio(loop)):
        with pytest.raises(ImportError, match=r"pip install 'power-loop\[mcp\]'"):
            await need()
    with pytest.raises(ImportError, match=r"pip install 'power-loop\[mcp\]'"):
        asgi_app(loop, authorize=lambda request: "me")


# acceptance: 64 (no SDK)
def test_the_doors_load_no_sdk() -> None:
    code = (
        "import sys, power_loop.contrib.mcp, power_loop.contrib.mcp_server\n"
        "power_loop.contrib.mcp.load_mcp_servers({'mcpServers': {'a': {'command': 'x'}, 'b': {'url': 'http://x'}}})\n"
        "print(sorted({'mcp', 'mcp_types', 'httpx2', 'starlette', 'pydantic', 'anyio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
