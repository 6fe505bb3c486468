"""One connection to an MCP server through the official SDK, from its opening to its end, in the hands of one task.

The SDK wants a connection left by the task that entered it: here that is always the owner task, whoever closes. What a lost
connection means for a call, and whether another one is made, is the client's business. Loaded with the first connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Protocol, TypeVar, cast

import httpx2
from mcp import Client, ClientSession, MCPError, types
from mcp.client.session import ClientRequestContext
from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost
from pydantic import TypeAdapter, ValidationError

from power_loop.contracts.log import mcp_log as log
from power_loop.contracts.text import without_lone_surrogates
from power_loop.contrib.mcp_source import Wire
from power_loop.contrib.mcp_transport import FORGOTTEN, UNANSWERED, Streams, Watched

T = TypeVar("T")
Transport = AbstractAsyncContextManager[Streams]


class Progress(Protocol):
    """Is told how far a call is, of how much, and in words."""

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None: ...


CALLED: TypeAdapter[Any] = TypeAdapter(types.CallToolResult | types.InputRequiredResult)
"""What a call gives."""

# How long a connection that is lost may take to say why.
_LAST_WORDS_S = 10.0
_LISTEN_AGAIN_S = 1.0
# What servers say, with no common code, of a session that they do not know (any more): they did nothing with the request.
_SAID_OF_A_FORGOTTEN = ("session terminated", "session not found", "invalid session id", "bad request: no valid session")
# A server that never ends its list must not hang us.
_PAGES = 100


class Lost(Exception):
    """The answer will not come. ``sent``: the request may have reached the server."""

    def __init__(self, why: str, *, sent: bool) -> None:
        super().__init__(why)
        self.sent = sent


class Connection:
    """Made by a client, opened once, closed once. Requests come from any task of the event loop that opened it."""

    def __init__(self, transport: Callable[[], Transport], mode: str, on_change: Callable[[], None]) -> None:
        self._transport, self._mode, self._on_change = transport, mode, on_change
        self._end = asyncio.Event()
        self._owner: asyncio.Task[None] | None = None
        self._session: ClientSession | None = None
        self._cause: BaseException | None = None
        self.lost: bool = False
        self.is_forgotten: bool = False
        """The server does not know this session any more; requests that it has heard it may still answer."""
        self.about: Mapping[str, Any] = {}
        """``protocol``, ``server``, ``instructions`` and ``capabilities`` as the server told them."""

    # --- its life ------------------------------------------------------------------------------------------

    async def open(self, timeout_s: float | None) -> None:
        """Raises what kept it from opening; `TimeoutError` after ``timeout_s``."""
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._owner = asyncio.create_task(self._own(opened, timeout_s), name="power-loop mcp connection")
        try:
            await asyncio.shield(opened)
        except asyncio.CancelledError:
            self.lost = True  # before the owner says so: others may wait for a connection that is of use
            opened.cancel()
            self._owner.cancel()
            raise

    async def close(self) -> None:
        """From any task of its event loop, any number of times; also while it is being opened."""
        self._end.set()
        if self._owner is not None:
            if self._session is None:
                self._owner.cancel()
            await asyncio.wait({self._owner})

    async def _own(self, opened: asyncio.Future[None], timeout_s: float | None) -> None:
        try:
            await self._live(opened, timeout_s)
        except asyncio.CancelledError:
            if not opened.done() and self._end.is_set():
                opened.set_exception(ConnectionError("it was closed while it was being opened"))
                return
            opened.cancel()
            raise
        except BaseException as error:  # the SDK's, a transport's, or groups of them: told to whoever waits
            self._cause = error
            if not opened.done():
                opened.set_exception(first_of(error))
        finally:
            self.lost, self._session = True, None

    async def _live(self, opened: asyncio.Future[None], timeout_s: float | None) -> None:
        client = Client(
            Watched(self._transport(), self._is_over, lambda: self.about.get("protocol")), mode=self._mode,
            elicitation_callback=_nobody_answers, cache=None, message_handler=self._hear,
        )  # fmt: skip
        async with AsyncExitStack() as held:
            await self._greet(held, client, timeout_s)
            self._session, self.about = client.session, _about(client)
            listening = asyncio.create_task(self._listen(client))
            if not opened.done():
                opened.set_result(None)
            try:
                await self._end.wait()
            finally:
                self.lost = True  # said before the requests in flight are told
                listening.cancel()
                await asyncio.wait({listening})

    async def _greet(self, held: AsyncExitStack, client: Client, timeout_s: float | None) -> None:
        limit = asyncio.timeout(timeout_s)
        try:
            async with limit:
                await held.enter_async_context(client)
                if self._mode not in ("auto", "legacy"):
                    # The version is settled; what the server can do is not known yet.
                    found = await client.session.send_discover(self._mode)
                    client.session.adopt(types.DiscoverResult.model_validate(found))
        except TimeoutError as error:
            if limit.expired():
                raise TimeoutError(f"it did not answer within {timeout_s:g} s") from error
            raise

    def _is_over(self) -> None:
        self.lost = True
        self._end.set()

    # --- what changes on the other side --------------------------------------------------------------------

    async def _hear(self, message: Any) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self._on_change()

    async def _listen(self, client: Client) -> None:
        """The stateless protocol tells of changes only those who listen."""
        tools = client.server_capabilities.tools
        while tools is not None and tools.list_changed:
            try:
                async with client.listen(tools_list_changed=True) as changes:
                    async for _ in changes:
                        self._on_change()
                return
            except (ListenNotSupportedError, MCPError, TimeoutError):
                return  # by the older protocol it is told unasked; who refuses tells nobody
            except SubscriptionLost:
                self._on_change()  # what was told meanwhile is not told again
                await asyncio.sleep(_LISTEN_AGAIN_S)

    # --- requests ------------------------------------------------------------------------------------------

    async def call_tool(
        self, name: str, arguments: Mapping[str, Any], answers: Wire | None, state: str | None, progress: Progress | None
    ) -> Wire:
        """The result as on the wire: of a tool, or one that asks for input (``resultType`` is ``input_required``)."""
        given = {"name": name, "arguments": dict(arguments), "inputResponses": answers or None, "requestState": state}
        params = types.CallToolRequestParams.model_validate(given)
        call = types.CallToolRequest(params=types.CallToolRequestParams.model_validate(without_lone_surrogates(_dump(params))))

        async def ask(session: ClientSession) -> Any:
            # Not the SDK's call_tool: that asks for the tool list behind the result, and loses the one with the other.
            return await session.send_request(call, CALLED, progress_callback=progress)

        try:
            return _dump(await self._request(ask))
        except MCPError as error:
            if error.code != types.HEADER_MISMATCH:
                raise
        await self.list_tools()  # it tells which arguments go into headers
        return _dump(await self._request(ask))

    async def list_tools(self) -> list[Wire]:
        return await self._pages("tools", lambda session, at: session.list_tools(params=at))

    async def list_resources(self) -> list[Wire]:
        """Those that are there, and the templates of those that are made when they are read."""
        found: list[Wire] = []
        try:
            found += await self._pages("resources", lambda session, at: session.list_resources(params=at))
            found += await self._pages("resourceTemplates", lambda session, at: session.list_resource_templates(params=at))
        except MCPError as error:  # a server need not know of both
            if error.code != types.METHOD_NOT_FOUND:
                raise
        return found

    async def read_resource(self, uri: str) -> Wire:
        return _dump(await self._request(lambda session: session.read_resource(without_lone_surrogates(uri))))

    async def _pages(self, what: str, ask: Callable[[ClientSession, types.PaginatedRequestParams], Awaitable[Any]]) -> list[Wire]:
        found: list[Wire] = []
        at = types.PaginatedRequestParams()
        for _ in range(_PAGES):
            try:
                page = _dump(await self._request(lambda session, at=at: ask(session, at)))
            except ValidationError as error:
                raise RuntimeError(f"the server's list of {what} is malformed: {error}") from error
            found += page.get(what) or []
            if not (cursor := page.get("nextCursor")):
                return found
            at = types.PaginatedRequestParams(cursor=cursor)
        raise RuntimeError(f"the server's list of {what} has no end: more than {_PAGES} pages")

    async def _request(self, ask: Callable[[ClientSession], Awaitable[T]]) -> T:
        """Raises `Lost` when the connection breaks, or broke before, and for a request that gets no answer by a connection that stands."""
        if self._session is None or self.lost:
            raise Lost("the connection was lost before the call", sent=False)
        try:
            return await ask(self._session)
        except MCPError as error:
            if error.data == FORGOTTEN or error.message.lower().startswith(_SAID_OF_A_FORGOTTEN):
                self.is_forgotten = True
                raise Lost("the server has forgotten this session", sent=False) from error
            if error.data == UNANSWERED:
                raise Lost(error.message, sent=True) from error
            if not self.lost:
                raise
            raise await self._lost() from error

    async def _lost(self) -> Lost:
        """How it was lost, once its owner knows."""
        if self._owner is not None:
            await asyncio.wait({self._owner}, timeout=_LAST_WORDS_S)
        cause = first_of(self._cause) if self._cause is not None else None
        why = f"{type(cause).__name__}: {cause}" if cause is not None else "the server closed it"
        return Lost(why, sent=not isinstance(cause, httpx2.ConnectError))


def first_of(error: BaseException) -> BaseException:
    """What happened first, out of groups in groups."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error


async def _nobody_answers(context: ClientRequestContext, params: Any) -> types.ElicitResult:
    """By the session-based protocol a question stands in the middle of a call, and cannot outlive the connection."""
    log.warning("an MCP server asked %r in the middle of a call; nobody can be asked there", params.message)
    return types.ElicitResult(action="cancel")


def _about(client: Client) -> Wire:
    server = client.server_info
    return {
        "protocol": client.protocol_version,
        "server": _dump(server) if server is not None else {},
        "instructions": client.instructions,
        "capabilities": _dump(client.server_capabilities),
    }


def _dump(model: Any) -> Wire:
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)
