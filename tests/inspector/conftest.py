"""What the tests of the inspector share: a database with something in it, and the application asked without a network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import browsers
import engines
import pytest
import pytest_asyncio
from asgi import Browser

from power_loop import StatefulAgentLoop, open_store, tool
from power_loop.inspector.app import inspector_app
from power_loop.testing import ScriptedLLM, call, calls, say

TOKEN = "the-token-of-the-link"
HOSTILE = "<img src=x onerror=alert(1)> \u202eback \x1b[31mred \ud800 "


@tool(effects="pure")
def look_up(city: str) -> str:
    """The weather in a city."""
    return HOSTILE + "x" * 9_000


@tool
def book(city: str) -> str:
    """Book a room."""
    raise ValueError("no such city")


def script(sends: int) -> list[Any]:
    return [step for n in range(sends) for step in (calls(call("look_up", city="Oslo"), call("book", city="Nowhere")), say(f"done {n}"))]


class Place:
    """A store with a session ``demo`` of some sends, and the inspector over it."""

    def __init__(self, dsn: str, sends: int) -> None:
        self.dsn, self.sends = dsn, sends

    async def open(self, *, allow_actions: bool = False) -> None:
        self.store = await open_store(self.dsn)
        self.loop = StatefulAgentLoop(llm=ScriptedLLM(script(self.sends)), store=self.store, tools=[look_up, book])
        await self.loop.new_session(session_id="demo", metadata={"tenant": "acme"})
        for n in range(self.sends):
            await self.loop.send(f"trip {n} {HOSTILE}", "demo")
        self.watcher = StatefulAgentLoop(llm=ScriptedLLM([]), store=self.store, name="inspector")
        self.browser = Browser(inspector_app(self.watcher, self.store, token=TOKEN, allow_actions=allow_actions))
        await self.browser.get(f"/?token={TOKEN}")

    async def close(self) -> None:
        await self.watcher.aclose()
        await self.loop.aclose()
        await self.store.close()


@pytest.fixture(params=[engine for engine in engines.ALL if engine not in ("mysql", "memory")])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """The same claims on every engine."""
    async with engines.cleared(request.param, tmp_path) as dsn:
        made = Place(dsn, 4)
        await made.open()
        yield made
        await made.close()


@pytest.fixture
async def file_place(tmp_path: Path) -> AsyncIterator[Place]:
    """A SQLite file, where the engine makes no difference."""
    made = Place(str(tmp_path / "app.db"), 2)
    await made.open(allow_actions=True)
    yield made
    await made.close()


# A browser belongs to the event loop that started it, so those that share one share that loop, with the sessions that they look at.


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Any]:
    async with browsers.running() as one:
        yield one


@pytest_asyncio.fixture(loop_scope="session")
async def browsed_place(tmp_path: Path) -> AsyncIterator[Place]:
    made = Place(str(tmp_path / "app.db"), 2)
    await made.open(allow_actions=True)
    yield made
    await made.close()
