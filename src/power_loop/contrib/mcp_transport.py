"""How bytes get to an MCP server and back: a child process, streamable HTTP, or the older SSE. Loaded with the first connection."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Any, cast

import httpx2
from mcp import StdioServerParameters, stdio_client, types
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import methods
from pydantic import ValidationError

from power_loop.contracts.log import mcp_log as log

Streams = tuple[Any, Any]
"""Where messages are read from, and where they are written."""
Version = Callable[[], str | None]
"""Which version of the protocol was agreed on, if any was yet."""

# To connect and to send; a response may take as long as its call may.
CONNECT_S = 30.0
READ_S = 300.0
_KEPT_BYTES = 2_000

# Of an error that a server did not give as an answer, its data say which it was.
UNANSWERED = "power_loop: unanswered"
"""The request was sent, and what came to it says not what became of it."""
FORGOTTEN = "power_loop: forgotten"
"""The server does not know our session any more, and did nothing."""

# What the SDK says of a request in place of a server from which no answer came, or none that it can read.
_SAID_FOR_THE_SERVER = (
    (types.CONNECTION_CLOSED, "SSE stream "),
    (types.PARSE_ERROR, "Failed to parse "),
    (types.INVALID_REQUEST, "Unexpected content type"),
    (types.INVALID_REQUEST, "server answered a request with 202"),
)


class LastWords(asyncio.Protocol):
    """What a server wrote to its standard error, the end of it: nobody sees the rest, and no pipe fills up."""

    def __init__(self) -> None:
        self._kept = b""

    def data_received(self, data: bytes) -> None:
        self._kept = (self._kept + data)[-_KEPT_BYTES:]

    def __str__(self) -> str:
        return self._kept.decode(errors="replace").strip()


@asynccontextmanager
async def stdio(command: str, args: Sequence[str], env: Mapping[str, str], cwd: str | None, words: LastWords) -> AsyncGenerator[Streams]:
    """A server as a child in a process group of its own, ended with everything it started."""
    read, write = os.pipe()
    reading, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: words, os.fdopen(read, "rb", 0))
    try:
        with os.fdopen(write, "w") as said:
            parameters = StdioServerParameters(command=command, args=list(args), env=dict(env), cwd=cwd, encoding_error_handler="replace")
            async with stdio_client(parameters, errlog=said) as streams:
                yield streams
    finally:
        reading.close()


@asynccontextmanager
async def http(url: str, headers: Mapping[str, str], auth: Any, timeout_s: float | None, *, sse: bool) -> AsyncGenerator[Streams]:
    """Streamable HTTP, or the older protocol of two channels."""
    read_s = None if timeout_s is None else max(READ_S, timeout_s)
    if sse:
        async with sse_client(url, dict(headers), CONNECT_S, read_s or READ_S, auth=auth) as streams:
            yield streams
        return
    limits, troubles = httpx2.Timeout(CONNECT_S, read=read_s), Troubles()
    async with (
        httpx2.AsyncClient(headers=dict(headers), auth=auth, timeout=limits, event_hooks={"response": [troubles.note]}) as client,
        streamable_http_client(url, http_client=client) as (read, write),
    ):
        yield WatchedStream(read, troubles.told), write


class Troubles:
    """Tells errors that are no answers of a server from those that are: to the SDK an HTTP status is as good as another."""

    def __init__(self) -> None:
        self._statuses: dict[Any, int] = {}
        """By the id of the request."""

    async def note(self, response: httpx2.Response) -> None:
        """Hears of every response before the SDK reads it."""
        request, status = response.request, response.status_code
        if request.method == "POST" and (status >= 500 or (status == 404 and "mcp-session-id" in request.headers)):
            with suppress(ValueError, TypeError, KeyError):  # a notification, or something that the auth asks for
                self._statuses[json.loads(request.content)["id"]] = status

    def told(self, item: Any) -> Any:
        """A message as it came, or an error that says what it is."""
        message: Any = getattr(item, "message", None)
        if isinstance(message, types.JSONRPCError):
            status, error = self._statuses.pop(message.id, None), message.error
            if status == 404:
                error.data = FORGOTTEN
            elif status is not None:
                error.data, error.message = UNANSWERED, f"{error.message} (HTTP {status})"
            elif any(error.code == code and error.message.startswith(words) for code, words in _SAID_FOR_THE_SERVER):
                error.data = UNANSWERED
        return item


class Watched:
    """A transport whose reading end tells when it is at its end, and leaves out tools that the SDK would not take."""

    def __init__(self, transport: AbstractAsyncContextManager[Streams], on_end: Callable[[], None], version: Version) -> None:
        self._transport, self._on_end, self._version = transport, on_end, version

    async def __aenter__(self) -> Streams:
        read, write = await self._transport.__aenter__()
        return WatchedStream(read, lambda item: without_malformed_tools(item, self._version()), self._on_end), write

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool | None:
        return await self._transport.__aexit__(kind, error, trace)


class WatchedStream:
    """A stream of messages; everything but what ``mend`` does to each, and who is told of its end, is as it was."""

    def __init__(self, stream: Any, mend: Callable[[Any], Any], on_end: Callable[[], None] = lambda: None) -> None:
        self._stream, self._mend, self._on_end = stream, mend, on_end

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __aiter__(self) -> WatchedStream:
        return self

    async def __anext__(self) -> Any:
        try:
            return self._mend(await self._stream.__anext__())
        except StopAsyncIteration:
            self._on_end()
            raise

    async def __aenter__(self) -> WatchedStream:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool | None:
        return await self._stream.__aexit__(kind, error, trace)


def without_malformed_tools(item: Any, version: str | None) -> Any:
    """A message as it came, but for tools that make the SDK refuse the whole list: these are left out, with a warning.

    ``version`` is the one agreed on; before that nobody lists tools. What a tool promises of its
    results nobody reads here, so a promise that is none costs no tool.
    """
    message: Any = getattr(item, "message", None)
    if version is None or not isinstance(message, types.JSONRPCResponse) or not isinstance(listed := message.result.get("tools"), list):
        return item
    tools = [_without_promises(tool) for tool in cast("list[Any]", listed)]
    wrong = _problems({**message.result, "tools": tools}, version)
    for at, problem in wrong.items():
        log.warning("left out the MCP tool %r: %s", tools[at].get("name"), problem)
    message.result = {**message.result, "tools": [tool for at, tool in enumerate(tools) if at not in wrong]}
    return item


def _without_promises(tool: Any) -> dict[str, Any]:
    """Empty, and so without a name, for what is no object."""
    fields = cast("dict[str, Any]", tool) if isinstance(tool, dict) else {}
    return {name: value for name, value in fields.items() if name != "outputSchema"}


def _problems(result: Mapping[str, Any], version: str) -> dict[int, str]:
    """What is wrong with which tool of a list. The SDK reads a list twice: as ``version`` has it, and as its own classes do."""
    found = {at: "it has no name" for at, tool in enumerate(result["tools"]) if tool.get("name") == ""}
    as_agreed = partial(methods.validate_server_result, "tools/list", version)
    for read in (as_agreed, partial(types.ListToolsResult.model_validate, by_name=False)):
        try:
            read(result)
        except ValidationError as error:
            for each in error.errors():
                match each["loc"]:
                    case ("tools", int(at), *place):
                        found.setdefault(at, f"{'.'.join(map(str, place))}: {each['msg']}")
                    case _:  # of the list, not of a tool: the SDK says it
                        pass
    return found
