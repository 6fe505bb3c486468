"""The inspector as an ASGI application: its page, its data as JSON, what happens as server-sent events. Extra ``inspect``."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from power_loop.contracts.errors import PowerLoopError, SessionNotFoundError, StoreUnavailable
from power_loop.inspector.actions import Actions
from power_loop.inspector.guard import Guard
from power_loop.inspector.views import Views
from power_loop.loop import StatefulAgentLoop
from power_loop.runtime.retell import place_of
from power_loop.store.sql_store import SessionStore

STATIC = Path(str(files("power_loop.inspector") / "static"))
FILES = {path.name: path for path in STATIC.iterdir() if path.suffix in (".html", ".js", ".css", ".svg")}


class AsciiJson(JSONResponse):
    """JSON in which every character that is not ASCII is escaped, lone surrogates among them."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, default=str).encode()


def inspector_app(loop: StatefulAgentLoop, store: SessionStore, *, token: str, allow_actions: bool = False) -> ASGIApp:
    """The application over ``store``. ``loop`` is on the same store and drives nothing; ``token`` opens it once."""
    pages = Pages(loop, Views(loop, store), Actions(loop) if allow_actions else None)
    app = Starlette(routes=pages.routes(), exception_handlers={PowerLoopError: _failed, ValueError: _failed})
    return Guard(app, token, writes=allow_actions)


class Pages:
    """One method per route."""

    def __init__(self, loop: StatefulAgentLoop, views: Views, actions: Actions | None) -> None:
        self._loop, self._views, self._actions = loop, views, actions

    def routes(self) -> list[Route]:
        reading: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "sessions": self.sessions, "session": self.session, "doctor": self.doctor, "timeline": self.timeline, "record": self.record,
            "request": self.request, "workflow": self.workflow, "charts": self.charts, "events": self.events,
        }  # fmt: skip
        routes = [Route("/", _page), Route("/static/{name}", _static)]
        routes += [Route(f"/api/{name}", answer) for name, answer in reading.items()]
        if self._actions is not None:
            routes.append(Route("/api/decide", self.decide, methods=["POST"]))
        return routes

    async def sessions(self, request: Request) -> Response:
        asked = request.query_params
        archived = {"1": True, "0": False}.get(asked.get("archived", ""))
        at = _number(request, "at")
        before = (at, asked.get("id", "")) if at is not None else None
        found = await self._views.sessions(
            search=asked.get("q", ""), kind=asked.get("kind", ""), agent=asked.get("agent", ""), archived=archived,
            running="running" in asked, before=before,
        )  # fmt: skip
        return AsciiJson({**found, "actions": self._actions is not None})

    async def session(self, request: Request) -> Response:
        return AsciiJson({**await self._views.session(_id(request)), "actions": self._actions is not None})

    async def doctor(self, request: Request) -> Response:
        return AsciiJson(await self._views.doctor(_id(request)))

    async def timeline(self, request: Request) -> Response:
        before, send = (_number(request, name) for name in ("before", "send"))
        return AsciiJson(await self._views.timeline(_id(request), before=before, send=send))

    async def record(self, request: Request) -> Response:
        return _found(await self._views.record(_id(request), _number(request, "seq") or 0))

    async def request(self, request: Request) -> Response:
        return _found(await self._views.request(_id(request), _number(request, "seq") or 0))

    async def workflow(self, request: Request) -> Response:
        return _found(await self._views.workflow(_id(request)))

    async def charts(self, request: Request) -> Response:
        if "id" in request.query_params:
            return AsciiJson(await self._views.session_charts(_id(request)))
        return AsciiJson(await self._views.charts())

    async def events(self, request: Request) -> Response:
        """What happens in a session after a cursor, until the reader leaves."""
        session_id = _id(request)
        after = request.headers.get("last-event-id") or request.query_params.get("after", "0")
        # What cannot be told is an answer of its own, not a stream that breaks.
        if place_of(after)[0] > (head := await self._views.head(session_id)):
            raise ValueError(f"after= is {after!r}; session {session_id!r} has {head} records")
        return StreamingResponse(self._stream(session_id, after), media_type="text/event-stream")

    async def _stream(self, session_id: str, after: str) -> AsyncGenerator[str]:
        yield ": here\n\n"
        try:
            async with aclosing(self._loop.watch(session_id, after=after)) as events:
                async for event in events:
                    mark = f"id: {event.cursor}\n" if event.cursor else ""
                    yield f"{mark}data: {json.dumps(event.to_dict(), default=str)}\n\n"
        except PowerLoopError:
            return  # deleted, or the database is away: the browser asks again, and is told then

    async def decide(self, request: Request) -> Response:
        """Answer a question, or decide on an approval."""
        assert self._actions is not None
        try:
            told: Any = await request.json()
        except RecursionError as error:
            raise ValueError("the body is nested too deeply") from error
        if not isinstance(told, dict):
            raise ValueError("the body must be a JSON object")
        return AsciiJson(await self._actions.decide(cast("dict[str, Any]", told)))


def _id(request: Request) -> str:
    session_id = request.query_params.get("id")
    if not session_id:
        raise ValueError("id= is missing: the session")
    return session_id


def _number(request: Request, name: str) -> int | None:
    given = request.query_params.get(name)
    if given is None:
        return None
    if not given.isascii() or not given.isdigit() or len(given) > 18:
        raise ValueError(f"{name}= is {given!r}; it must be a whole number")
    return int(given)


def _found(data: Any) -> Response:
    return AsciiJson(data) if data is not None else AsciiJson({"error": "there is no such record"}, status_code=404)


async def _failed(request: Request, error: Exception) -> Response:
    statuses = {SessionNotFoundError: 404, StoreUnavailable: 503, PowerLoopError: 409, ValueError: 400}
    return AsciiJson({"error": str(error)}, status_code=next(code for kind, code in statuses.items() if isinstance(error, kind)))


async def _page(request: Request) -> Response:
    return FileResponse(FILES["index.html"])


async def _static(request: Request) -> Response:
    path = FILES.get(request.path_params["name"])
    return FileResponse(path) if path is not None else Response(status_code=404)
