"""An ASGI application asked as a browser asks it: one request at a time, with its cookies, and no network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """What came back; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Browser:
    """Keeps cookies; ``host`` is what its address bar shows."""

    def __init__(self, app: Any, host: str = "127.0.0.1:8000") -> None:
        self._app, self.host, self.cookie = app, host, ""

    async def get(self, url: str, **headers: str) -> Answer:
        return await self.ask("GET", url, b"", **headers)

    async def post(self, url: str, data: Any, **headers: str) -> Answer:
        return await self.ask("POST", url, json.dumps(data).encode(), **{"content_type": "application/json", **headers})

    async def ask(self, method: str, url: str, body: bytes = b"", **headers: str) -> Answer:
        told: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            told.append(dict(message))

        await self._app(self._scope(method, url, headers), receive, send)
        answer = {name.decode().lower(): value.decode() for name, value in told[0]["headers"]}
        self.cookie = answer.get("set-cookie", self.cookie).split(";")[0]
        return Answer(told[0]["status"], answer, b"".join(message.get("body", b"") for message in told[1:]))

    def _scope(self, method: str, url: str, headers: Mapping[str, str]) -> dict[str, Any]:
        path, _, query = url.partition("?")
        sent = {"host": self.host, "cookie": self.cookie} | {name.replace("_", "-"): value for name, value in headers.items()}
        return {
            "type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(),
            "query_string": query.encode(), "root_path": "", "scheme": "http",
            "headers": [(name.encode(), value.encode()) for name, value in sent.items() if value],
        }  # fmt: skip

    async def events(self, url: str, **headers: str) -> AsyncGenerator[dict[str, Any]]:
        """The server-sent events of ``url`` as they come, each with its ``id``; leaving the loop hangs up."""
        told: asyncio.Queue[bytes] = asyncio.Queue()
        left = asyncio.Event()
        asked = False

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            told.put_nowait(message.get("body", b""))

        task = asyncio.ensure_future(self._app(self._scope("GET", url, headers), receive, send))
        try:
            while True:
                for block in (await told.get()).decode().split("\n\n"):
                    lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(":"))
                    if "data" in lines:
                        yield {"id": lines.get("id"), **json.loads(lines["data"])}
        finally:
            left.set()
            await task
