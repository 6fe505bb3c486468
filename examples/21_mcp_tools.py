"""Tools of an MCP server: a child process that speaks the protocol, its tools in a registry, and a question that it asks.

Needs ``pip install 'power-loop[mcp]'``; without it the same tools come from ten lines of Python, through the seam that needs no SDK.
"""

import asyncio
import importlib.util
import sys

from power_loop import StatefulAgentLoop, ToolRegistry
from power_loop.contrib.mcp import McpToolSpec, StdioMCPClient, register_mcp_tools
from power_loop.testing import ScriptedLLM, call, say

SERVER = """
from mcp.server.mcpserver import MCPServer
server = MCPServer("garden")
@server.tool(name="beds.water")
def water(bed: str) -> str:
    "Water a flower bed."
    return f"{bed} is wet now"
server.run("stdio")
"""


class Garden:
    """The same tool without a server: any object with these two methods is a source."""

    async def list_tools(self):
        schema = {"type": "object", "properties": {"bed": {"type": "string"}}, "required": ["bed"]}
        return [McpToolSpec("beds.water", "Water a flower bed.", schema)]

    async def call_tool(self, name, arguments):
        return f"{arguments['bed']} is wet now"


async def water(source) -> None:
    registry = ToolRegistry()
    for name in await register_mcp_tools(registry, source, prefix="garden."):
        print(f"{name.original} is registered as {name}")
    model = ScriptedLLM([call("garden_beds_water", bed="roses"), say("The roses have been watered.")])
    async with StatefulAgentLoop(llm=model, dsn=":memory:", tool_registry=registry) as loop:
        session = await loop.new_session()
        await loop.send("Water the roses.", session)
        for message in await loop.get_messages(session):
            print(f"{message['role']:>9}: {message['content'] or '(calls a tool)'}")


async def main() -> None:
    if importlib.util.find_spec("mcp") is None:
        await water(Garden())
        return
    async with StdioMCPClient(sys.executable, ["-c", SERVER]) as client:
        await water(client)


asyncio.run(main())
