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
from power_loop.contracts.redact import redact_text
from power_loop.inspector.actions import Actions
from power_loop.inspector.guard import Guard
from power_loop.inspector.shown import PIECE_CHARS, LiveText, Shown
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


def inspector_app(
    loop: StatefulAgentLoop, store: SessionStore, *, token: str, allow_actions: bool = False, show_secrets: bool = False
) -> ASGIApp:  # fmt: skip
    """The application over ``store``. ``loop`` is on the same store and drives nothing; ``token`` opens it once."""
    pages = Pages(loop, Views(store), Actions(loop) if allow_actions else None, Shown(secrets=show_secrets))
    app = Starlette(routes=pages.routes(), exception_handlers={PowerLoopError: _failed, ValueError: _failed})
    return Guard(app, token, writes=allow_actions)


class Pages:
    """One method per route; what leaves goes through `Shown`."""

    def __init__(self, loop: StatefulAgentLoop, views: Views, actions: Actions | None, shown: Shown) -> None:
        self._loop, self._views, self._actions, self._shown = loop, views, actions, shown

    def routes(self) -> list[Route]:
        reading: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "sessions": self.sessions, "session": self.session, "doctor": self.doctor, "timeline": self.timeline, "record": self.record,
            "request": self.request, "workflow": self.workflow, "charts": self.charts, "days": self.days, "events": self.events,
        }  # fmt: skip
        routes = [Route("/", _page), Route("/static/{name}", _static)]
        routes += [Route(f"/api/{name}", answer) for name, answer in reading.items()]
        if self._actions is not None:
            routes += [Route("/api/decide", self.decide, methods=["POST"]), Route("/api/asked", self.asked)]
        return routes

    def _told(self, answer: Any) -> Response:
        return AsciiJson(self._shown.answer(answer)) if answer is not None else _nothing()

    async def sessions(self, request: Request) -> Response:
        asked = request.query_params
        archived = {"1": True, "0": False}.get(asked.get("archived", ""))
        at = _number(request, "at")
        before = (at, asked.get("id", "")) if at is not None else None
        found = await self._views.sessions(
            search=asked.get("q", ""), kind=asked.get("kind", ""), agent=asked.get("agent", ""), archived=archived,
            running="running" in asked, before=before, after=asked.get("after", ""),
        )  # fmt: skip
        return self._told({**found, "actions": self._actions is not None})

    async def session(self, request: Request) -> Response:
        return self._told({**await self._views.session(_id(request)), "actions": self._actions is not None})

    async def doctor(self, request: Request) -> Response:
        return self._told(await self._views.doctor(_id(request)))

    async def timeline(self, request: Request) -> Response:
        before, send = (_number(request, name) for name in ("before", "send"))
        return self._told(await self._views.timeline(_id(request), before=before, send=send))

    async def record(self, request: Request) -> Response:
        """A piece of what a record says; ``upto``: where the next one begins."""
        begins, size = _number(request, "from") or 0, min(_number(request, "size") or PIECE_CHARS, PIECE_CHARS)
        text = await self._views.text(_id(request), _number(request, "seq") or 0, request.query_params.get("part", ""))
        if text is None:
            return _nothing()
        return AsciiJson({"text": self._shown.piece(text, begins, size), "upto": min(begins + size, len(text)), "chars": len(text)})

    async def asked(self, request: Request) -> Response:
        """A question word for word: whoever may decide may see on what. Only where somebody may."""
        found = await self._views.asked(_id(request), request.query_params.get("interaction_id", ""))
        return AsciiJson(found) if found is not None else _nothing()

    async def request(self, request: Request) -> Response:
        return self._told(await self._views.request(_id(request), _number(request, "seq") or 0))

    async def workflow(self, request: Request) -> Response:
        return self._told(await self._views.workflow(_id(request)))

    async def charts(self, request: Request) -> Response:
        if "id" in request.query_params:
            return self._told(await self._views.session_charts(_id(request)))
        return self._told(await self._views.charts())

    async def days(self, request: Request) -> Response:
        return self._told(await self._views.days(request.query_params.get("after", "")))

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
        text = LiveText(self._shown)
        try:
            async with aclosing(self._loop.watch(session_id, after=after)) as events:
                async for event in events:
                    mark = f"id: {event.cursor}\n" if event.cursor else ""
                    yield f"{mark}data: {json.dumps(text.told(event))}\n\n"
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


def _nothing() -> Response:
    return AsciiJson({"error": "there is no such record"}, status_code=404)


async def _failed(request: Request, error: Exception) -> Response:
    statuses = {SessionNotFoundError: 404, StoreUnavailable: 503, PowerLoopError: 409, ValueError: 400}
    return AsciiJson(
        {"error": redact_text(str(error))}, status_code=next(code for kind, code in statuses.items() if isinstance(error, kind))
    )


async def _page(request: Request) -> Response:
    return FileResponse(FILES["index.html"])


async def _static(request: Request) -> Response:
    path = FILES.get(request.path_params["name"])
    return FileResponse(path) if path is not None else Response(status_code=404)
