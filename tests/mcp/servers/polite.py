"""A server made with the official SDK, for both generations of the protocol: ``polite.py stdio`` or ``polite.py http PORT``."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.resolve import Elicit, Resolve
from mcp.types import AudioContent, EmbeddedResource, ImageContent, TextContent, TextResourceContents, ToolAnnotations
from pydantic import BaseModel

server = MCPServer("polite", instructions="Be polite.", log_level="ERROR")
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


class Size(BaseModel):
    size: int


async def which_size(flavour: str) -> Elicit[Size]:
    return Elicit(f"How large shall the {flavour} ice be?", Size)


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool(name="fs.read file", annotations=ToolAnnotations(idempotent_hint=True))
def read(path: str) -> str:
    """Read."""
    return f"read {path}"


@server.tool()
def boom() -> str:
    """Fail."""
    raise ValueError("no such thing")


@server.tool()
def leave(notes: str) -> str:
    """End the process."""
    with Path(notes).open("a") as file:
        file.write("left\n")
    os._exit(3)


@server.tool()
async def count(context: Context, to: int) -> str:
    """Count, telling how far."""
    for number in range(1, to + 1):
        await context.report_progress(number, to, f"at {number}")
    return "counted"


@server.tool()
async def sleep() -> str:
    """Take for ever."""
    await asyncio.Event().wait()
    return "never"


@server.tool()
def show() -> list[TextContent | ImageContent | AudioContent | EmbeddedResource]:
    """A bit of everything."""
    kept = TextResourceContents(uri="memo://a", mime_type="text/plain", text="kept words")
    return [
        TextContent(text="a pixel"),
        ImageContent(data=PIXEL, mime_type="image/png"),
        AudioContent(data="UklGRg==", mime_type="audio/wav"),
        EmbeddedResource(resource=kept),
    ]


@server.tool()
def environment() -> str:
    """Which variables this process has."""
    return " ".join(sorted(os.environ))


@server.tool()
def order(flavour: str, size: Annotated[Size, Resolve(which_size)]) -> str:
    """Order ice cream."""
    return f"{size.size} scoops of {flavour}"


@server.tool()
async def learn(context: Context) -> str:
    """Learn another tool."""

    def trick() -> str:
        return "tricky"

    server.add_tool(trick, name="trick")
    await context.notify_tools_changed()
    return "learnt"


@server.resource("memo://a")
def memo() -> str:
    """A memo."""
    return "hello memo"


@server.resource("word://{word}")
def word(word: str) -> str:
    """A word, as asked for."""
    return f"the word {word}"


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        server.run("stdio")
    else:
        server.run(sys.argv[1], host="127.0.0.1", port=int(sys.argv[2]))
