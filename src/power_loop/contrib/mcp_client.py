"""What a client of an MCP server does, wherever the server is: connect, list, call, and go on after a lost connection.

A connection is made when it is first needed, and made again, once per call, when it was lost. It lives on the event loop that
opened it; calls from other loops and threads are handed over to that one. The SDK is imported with the first connection.
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from power_loop.contracts.errors import ToolTimeout
from power_loop.contracts.forks import mind_forks
from power_loop.contracts.redact import redact_text
from power_loop.contracts.retry import backoff
from power_loop.contracts.tool import ToolRun
from power_loop.contrib.mcp_content import result_of
from power_loop.contrib.mcp_input import ask_for, asks_for_input, continued
from power_loop.contrib.mcp_source import McpToolSpec, Wire, spec_of

if TYPE_CHECKING:
    from typing import Self

    from power_loop.contrib.mcp_session import Connection

T = TypeVar("T")
Streams = AbstractAsyncContextManager[tuple[Any, Any]]

# A server may ask to be called again later, without a question; so often, and with growing pauses up to this.
ROUNDS = 10
PAUSE_S = 0.25


class CutOff(ToolTimeout):
    """The connection was lost while the call ran: as after a timeout, nobody here knows whether it took effect."""

    def __init__(self, tool_name: str, server: str, why: str) -> None:
        super().__init__(tool_name, 0.0)
        self.args: tuple[Any, ...] = (f"the connection to {server} was lost while {tool_name or 'a request'} ran ({why})",)


class McpClient(ABC):
    """What both clients have in common. ``async with`` connects and closes."""

    def __init__(self, label: str, *, timeout_s: float | None, protocol: str, on_tools_changed: Callable[[], None] | None) -> None:
        self._label, self._timeout_s, self._protocol, self._tell = label, timeout_s, protocol, on_tools_changed
        self._home: asyncio.AbstractEventLoop | None = None
        self._connection: Connection | None = None
        self._parents: object = None
        """In a forked child: what is its parent's. Whoever lets go of it ends the parent's server."""
        self._begin_anew()
        mind_forks(self, in_child=McpClient._begin_anew)
        self._changes = 0
        self._closed = False

    def _begin_anew(self) -> None:
        """Also in a forked child, which connects by itself: nobody there runs the event loop that has the connection."""
        self._parents = self._parents, self._home, self._connection
        self._home, self._connection = None, None
        self._tools: list[McpToolSpec] | None = None
        self._moving, self._connecting = threading.Lock(), asyncio.Lock()

    @abstractmethod
    def _transport(self) -> Streams: ...

    def _last_words(self) -> str:
        """What the server said beside the protocol."""
        return ""

    # --- its life ------------------------------------------------------------------------------------------

    async def connect(self) -> Self:
        """Connect now, also after `aclose`. Raises `ConnectionError`, and `ImportError` without the SDK."""
        self._closed = False
        await self._at_home(self._connected)
        return self

    async def aclose(self) -> None:
        """Close the connection, from any task, thread or event loop; calls in flight fail. Later calls are refused."""
        self._closed = True
        await self._at_home(self._close)

    async def __aenter__(self) -> Self:
        return await self.connect()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    @property
    def about(self) -> Mapping[str, Any]:
        """``protocol``, ``server``, ``instructions`` and ``capabilities`` of the connected server; empty before."""
        return self._connection.about if self._connection is not None else {}

    # --- what a source can do ------------------------------------------------------------------------------

    async def list_tools(self) -> list[McpToolSpec]:
        """Sorted by name; asked for once, and again when the server says that they changed."""
        if (known := self._tools) is not None:
            return list(known)
        changes = self._changes
        listed = await self._request(lambda connection: connection.list_tools())
        found = sorted((spec_of(tool) for tool in listed), key=lambda spec: spec.name)
        if changes == self._changes:  # else it changed while it was read out
            self._tools = found
        return list(found)

    async def call_tool(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """The result as a `ToolHandlerResult`. A call that was cut off is not made again: it may have taken effect."""
        return await self.call_for_run(ToolRun(tool_name=name), name, arguments, repeatable=False)

    async def call_for_run(self, run: ToolRun, name: str, arguments: Mapping[str, Any], *, repeatable: bool) -> Any:
        """The same for a call of a session: progress is told, and what the server asks parks the call.

        Raises `ToolTimeout`, also for a connection lost in the middle, and `HumanInputRequired`.
        """
        answers, state = continued(run)

        async def tell(progress: float, total: float | None, message: str | None) -> None:
            await run.progress(message or "", progress / total if total else None)

        for attempt in range(ROUNDS):
            given = (answers, state)
            result = await self._request(
                lambda connection, given=given: connection.call_tool(name, arguments, *given, tell), name, repeatable=repeatable
            )
            if not asks_for_input(result):
                return result_of(result)
            if result.get("inputRequests"):
                ask_for(result)
            answers, state = None, result.get("requestState")
            await asyncio.sleep(backoff(0.05, attempt, PAUSE_S))
        raise RuntimeError(f"{name} was not ready after {ROUNDS} calls")

    async def serves_resources(self) -> bool:
        """The server says that it has resources, and lists one."""
        await self._at_home(self._connected)
        return "resources" in (self.about.get("capabilities") or {}) and bool(await self.list_resources())

    async def list_resources(self) -> list[Wire]:
        return await self._request(lambda connection: connection.list_resources())

    async def read_resource(self, uri: str) -> Wire:
        return await self._request(lambda connection: connection.read_resource(uri))

    # --- connections ---------------------------------------------------------------------------------------

    async def _request(self, ask: Callable[[Connection], Awaitable[T]], tool: str = "", *, repeatable: bool = True) -> T:
        """``ask`` on the connection; on a second one when the first was lost and it can do no harm."""
        if self._closed:
            raise RuntimeError(f"the client of {self._label} is closed; connect() opens it again")
        limit = asyncio.timeout(self._timeout_s)
        try:
            async with limit:
                return await self._at_home(lambda: self._ask(ask, tool, repeatable))
        except TimeoutError as error:
            if limit.expired() and self._timeout_s is not None:
                raise ToolTimeout(tool or self._label, self._timeout_s) from error
            raise

    async def _ask(self, ask: Callable[[Connection], Awaitable[T]], tool: str, repeatable: bool) -> T:
        lost = sdk().Lost
        try:
            return await ask(await self._connected())
        except lost as error:
            if error.sent and not repeatable:
                raise CutOff(tool, self._label, str(error)) from error
        try:
            return await ask(await self._connected())
        except lost as error:
            raise CutOff(tool, self._label, str(error)) from error

    async def _connected(self) -> Connection:
        """The connection, made when there is none that is of use."""
        async with self._connecting:
            connection = self._connection
            if connection is not None and (connection.lost or connection.is_forgotten):
                await self._close()
                connection = None
            if connection is None:
                connection = await self._open()
            return connection

    async def _open(self) -> Connection:
        connection = self._connection = sdk().Connection(self._transport, self._protocol, self._changed)
        self._tools = None
        try:
            await connection.open(self._timeout_s)
        except Exception as error:  # the SDK's, the transport's, the system's
            self._connection = None
            words = self._last_words()
            said = f"; it said: {words}" if words else ""
            raise ConnectionError(redact_text(f"no connection to {self._label}: {type(error).__name__}: {error}{said}")) from error
        return connection

    async def _close(self) -> None:
        connection, self._connection, self._tools = self._connection, None, None
        if connection is not None:
            await connection.close()

    def _changed(self) -> None:
        self._changes, self._tools = self._changes + 1, None
        if self._tell is not None:
            self._tell()

    async def _at_home(self, work: Callable[[], Awaitable[T]]) -> T:
        """``work`` on the event loop that has the connection; this one, when there is none."""
        here = asyncio.get_running_loop()
        with self._moving:
            if self._home is None or (self._home is not here and not self._home.is_running()):
                self._home, self._connection, self._tools, self._connecting = here, None, None, asyncio.Lock()
            home = self._home
        if home is here:
            return await work()

        async def handed_over() -> T:
            return await work()

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(handed_over(), home))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._label}>"


def sdk() -> Any:
    """The module that speaks through the SDK. Raises `ImportError` that names the extra."""
    try:
        import_module("mcp")
    except ImportError as error:
        raise ImportError("MCP clients need the MCP SDK: pip install 'power-loop[mcp]'") from error
    from power_loop.contrib import mcp_session

    return mcp_session
