"""An agent as an MCP server: this program starts itself as one, and talks to it as any MCP client would.

Needs ``pip install 'power-loop[mcp]'``. ``python examples/22_mcp_server.py serve`` is the server alone, for a client of yours.
"""

import asyncio
import importlib.util
import sys

from power_loop import StatefulAgentLoop, tool
from power_loop.contrib.mcp import StdioMCPClient
from power_loop.contrib.mcp_server import serve_stdio
from power_loop.testing import FunctionLLM, call, say


@tool(effects="pure")
def stock(item: str) -> str:
    """How much of an item is there."""
    return f"7 of {item}"


def answer(request):
    last = request.messages[-1]
    return call("stock", item=last["content"]) if last["role"] == "user" else say(f"There are {last['content']}.")


async def serve() -> None:
    async with StatefulAgentLoop(llm=FunctionLLM(answer), dsn="mcp_server.db", tools=[stock]) as loop:
        await serve_stdio(loop, tools=True)


async def ask() -> None:
    async with StdioMCPClient(sys.executable, [__file__, "serve"]) as client:
        print("offers", ", ".join(spec.name for spec in await client.list_tools()))
        first = (await client.call_tool("send", {"message": "tulips"})).data["structured"]
        print(first["final_text"])
    async with StdioMCPClient(sys.executable, [__file__, "serve"]) as client:  # another process, the same conversation
        said = await client.call_tool("send", {"message": "roses", "session_id": first["session_id"]})
        print(said.data["structured"]["final_text"])
        print((await client.call_tool("read_session", {"session_id": first["session_id"]})).content)
        print((await client.call_tool("stock", {"item": "ivy"})).content, "(called without the agent)")


if importlib.util.find_spec("mcp") is None:
    print("this example needs the MCP SDK: pip install 'power-loop[mcp]'")
else:
    asyncio.run(serve() if "serve" in sys.argv else ask())
