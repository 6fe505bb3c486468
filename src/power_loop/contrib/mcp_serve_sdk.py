"""A loop as an MCP server, through the official SDK: over stdin and stdout, and as an ASGI application. Loaded when one is made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from inspect import isawaitable
from typing import Any
from urllib.parse import urlsplit

from mcp import types
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from power_loop.contracts.results import Rendered
from power_loop.contracts.text import without_lone_surrogates
from power_loop.contracts.tool import ToolDefinition
from power_loop.contrib.mcp_serve import Exposed
from power_loop.contrib.mcp_source import wire_of
from power_loop.version import __version__

Context = ServerRequestContext[Any, Any]
Authorize = Callable[[Request], "str | Awaitable[str | None] | None"]

# Where a request carries the owner that `authorize` named.
OWNER_KEY = "power_loop.mcp_owner"


class Detached:
    """Calls whose connection may go while they go on: by the session-based protocol over HTTP that is no cancel.

    Nor does any other word of the client reach such a call, so only the server's end stops it.
    """

    def __init__(self) -> None:
        self._calls: set[asyncio.Task[Rendered]] = set()

    async def through(self, call: Coroutine[Any, Any, Rendered]) -> Rendered:
        """What ``call`` gives. Whoever waits for it may be cancelled."""
        task = asyncio.create_task(call)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return await asyncio.shield(task)

    async def stop(self) -> None:
        """Cancel what is left, and wait until it has ended."""
        for task in self._calls:
            task.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)


def server_of(exposed: Exposed, owner_of: Callable[[Context], str], detached: Detached | None = None) -> Server[Any]:
    """The SDK's server, both generations of the protocol; each call is for the owner of its request."""

    async def list_tools(context: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_tool(definition) for definition in exposed.definitions()])

    async def call_tool(context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        call = exposed.call(owner_of(context), params.name, params.arguments or {})
        if detached is not None and context.protocol_version in HANDSHAKE_PROTOCOL_VERSIONS:
            call = detached.through(call)
        return _result(await call)

    return Server("power-loop", version=__version__, on_list_tools=list_tools, on_call_tool=call_tool)


def _tool(definition: ToolDefinition) -> types.Tool:
    hints = types.ToolAnnotations(read_only_hint=definition.effects == "pure", idempotent_hint=definition.effects == "idempotent")
    description, schema = without_lone_surrogates(definition.description), without_lone_surrogates(definition.parameters())
    return types.Tool(name=definition.name, description=description, input_schema=schema, annotations=hints)


def _result(rendered: Rendered) -> types.CallToolResult:
    """One lone surrogate would end the connection: what has no UTF-8 cannot be written to it."""
    content, failed, data = without_lone_surrogates(rendered)
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return types.CallToolResult(content=[_block(block) for block in blocks], structured_content=data or None, is_error=failed)


def _block(block: Any) -> types.TextContent | types.ImageContent:
    match block:
        case {"type": "text", "text": str(text)}:
            return types.TextContent(text=text)
        case {"type": "image_url", "image_url": {"url": str(url)}} if url.startswith("data:") and ";base64," in url:
            kind, _, data = url.removeprefix("data:").partition(";base64,")
            return types.ImageContent(data=data, mime_type=kind)
        case {"type": "image_url", "image_url": {"url": str(url)}}:
            return types.TextContent(text=url)
        case _:
            named = wire_of(block.get("attachment"))
            return types.TextContent(text=f"[attachment {named.get('filename') or named.get('path')}]")


# --- stdio ------------------------------------------------------------------------------------------------


async def run_stdio(exposed: Exposed, owner: str) -> None:
    """Serve one client until it closes stdin. Nothing else may write to stdout meanwhile."""
    server = server_of(exposed, lambda _: owner)
    try:
        async with stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())
    finally:
        await exposed.drain()


# --- HTTP -------------------------------------------------------------------------------------------------


def application(exposed: Exposed, authorize: Authorize, allowed_hosts: Sequence[str], path: str) -> ASGIApp:
    """Streamable HTTP at ``path``, without sessions of the transport: any process may answer any request."""
    detached = Detached()
    manager = StreamableHTTPSessionManager(server_of(exposed, _owner_of, detached), stateless=True)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        async with manager.run():
            yield
        await detached.stop()
        await exposed.drain()

    guarded = Guarded(manager.handle_request, authorize, allowed_hosts)
    return Starlette(routes=[Route(path, endpoint=guarded, methods=["GET", "POST", "DELETE"])], lifespan=lifespan)


def _owner_of(context: Context) -> str:
    request: Any = context.request
    return request.scope[OWNER_KEY]


class Guarded:
    """Lets a request through that names an allowed host, comes from none or an allowed origin, and has an owner."""

    def __init__(self, app: ASGIApp, authorize: Authorize, allowed_hosts: Sequence[str]) -> None:
        self._app, self._authorize, self._hosts = app, authorize, frozenset(host.lower() for host in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        if refusal := self._refusal(request):
            await refusal(scope, receive, send)
            return
        given = self._authorize(request)
        owner = await given if isawaitable(given) else given
        if not owner:
            await PlainTextResponse("Unauthorized", 401, {"WWW-Authenticate": "Bearer"})(scope, receive, send)
            return
        scope[OWNER_KEY] = owner
        await self._app(scope, receive, send)

    def _refusal(self, request: Request) -> PlainTextResponse | None:
        hosts, origins = request.headers.getlist("host"), request.headers.getlist("origin")
        if len(hosts) != 1 or not self._allowed(f"//{hosts[0]}"):
            return PlainTextResponse("Invalid Host header", 421)
        if any(not origin.startswith(("http://", "https://")) or not self._allowed(origin) for origin in origins):
            return PlainTextResponse("Invalid Origin header", 403)
        return None

    def _allowed(self, address: str) -> bool:
        """An entry without a port allows every port."""
        try:
            parts = urlsplit(address)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            return False
        return parts.username is None and (host in self._hosts or f"{host}:{port}" in self._hosts)
