"""Door: a loop as an MCP server. Its sessions, and if wanted its tools, for other programs and their agents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from typing import Any

from power_loop.contrib.mcp_serve import OWNER, Exposed, Served

__all__ = ("OWNER", "asgi_app", "serve_stdio")

# Who speaks over stdin started this process, and is trusted like it.
LOCAL = "stdio"


async def serve_stdio(loop: Served, *, expose: Sequence[str] = ("send", "sessions"), tools: bool = False) -> None:
    """Serve the program that started this one, over stdin and stdout, until it closes stdin.

    ``expose``: ``send`` (the tools send and answer), ``sessions`` (list_sessions and read_session). ``tools``: the loop's own
    tools too, but for those that need an approval. Raises `ImportError` without the extra ``mcp``.
    """
    await _sdk().run_stdio(Exposed(loop, expose=expose, tools=tools), LOCAL)


def asgi_app(
    loop: Served,
    *,
    authorize: Callable[[Any], str | Awaitable[str | None] | None],
    allowed_hosts: Sequence[str] = ("127.0.0.1", "localhost"),
    expose: Sequence[str] = ("send", "sessions"),
    tools: bool = False,
    path: str = "/mcp",
) -> Any:
    """The same as an ASGI application (streamable HTTP at ``path``), for a server of yours such as uvicorn.

    ``authorize(request) → owner | None``: who asks, from a Starlette request; None is answered with 401. An owner sees only
    the sessions that it opened here. ``allowed_hosts``: what the headers Host and Origin may name; ``name:port`` allows one port.
    Its lifespan must run. Raises `ImportError` without the extra ``mcp``.
    """
    if not callable(authorize):
        raise TypeError(f"authorize must be a function from a request to its owner, not {authorize!r}")
    return _sdk().application(Exposed(loop, expose=expose, tools=tools), authorize, allowed_hosts, path)


def _sdk() -> Any:
    try:
        import_module("mcp")
    except ImportError as error:
        raise ImportError("MCP servers need the MCP SDK: pip install 'power-loop[mcp]'") from error
    from power_loop.contrib import mcp_serve_sdk

    return mcp_serve_sdk
