"""What the tests at the door share: a place for sessions on any engine, and loops that come and go on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import engines
import pytest

from power_loop import SessionStore, StatefulAgentLoop, ToolRegistry, open_store
from power_loop.context.pairing import check_pairs
from power_loop.testing import ScriptedLLM, calls

# Of MySQL and MariaDB one is enough here; the engine's own tests know both.
ENGINES = [engine for engine in engines.ALL if engine != "mysql"]


class Home:
    """Where sessions live. Loops made here see the same sessions, as two processes on one database would."""

    def __init__(self, engine: str, folder: Path, dsn: str, shared: SessionStore | None = None) -> None:
        self.engine, self.folder, self.dsn, self._shared = engine, folder, dsn, shared
        self.loops: list[StatefulAgentLoop] = []

    @property
    def where(self) -> dict[str, Any]:
        """The parameters that lead a loop here: a file of its own opening, or the one memory store."""
        return {"store": self._shared} if self._shared is not None else {"dsn": self.dsn}

    def loop(self, *script: Any, llm: Any = None, **settings: Any) -> StatefulAgentLoop:
        """A fresh loop whose model follows ``script`` to the letter; closed with the test."""
        model = llm if llm is not None else ScriptedLLM(script)
        loop = StatefulAgentLoop(llm=model, **self.where, **settings)
        self.loops.append(loop)
        return loop

    async def told(self, tool: Any, *asked: Any, **settings: Any) -> list[Any]:
        """What the model reads after it asked ``tool`` for ``asked``; the send must end well."""
        registry = tool if isinstance(tool, ToolRegistry) else ToolRegistry([tool])
        loop = self.loop(calls(*asked), "done", tool_registry=registry, **settings)
        result = await loop.run("go")
        assert (result.status, result.final_text) == ("completed", "done")
        check_pairs(loop.llm.requests[1].messages)
        return [m["content"] for m in loop.llm.requests[1].messages if m["role"] == "tool"]

    async def store(self) -> SessionStore:
        """The store as a bystander sees it: through a loop that drives nothing."""
        return await self.loop().ensure_store()

    async def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table, by table."""
        store = await self.store()
        found = await store.database.read(store.dialect.relations)
        names = sorted({name for name, kind, _ in found if kind == "table" and name.startswith(store.table_prefix)})
        return {name: sorted(await store.database.read(f"SELECT * FROM {name}"), key=repr) for name in names}

    async def close(self) -> None:
        for loop in self.loops:
            await loop.aclose()
        if self._shared is not None:
            await self._shared.close()


@asynccontextmanager
async def home_on(engine: str, folder: Path) -> AsyncIterator[Home]:
    """An empty place; its loops are closed with it."""
    async with engines.cleared(engine, folder) as dsn:
        place = Home(engine, folder, dsn, await open_store(dsn) if engine == "memory" else None)
        yield place
        await place.close()


@pytest.fixture(params=ENGINES)
async def home(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Home]:
    """The same claim on every engine."""
    async with home_on(request.param, tmp_path) as place:
        yield place


@pytest.fixture
async def file_home(tmp_path: Path) -> AsyncIterator[Home]:
    """A SQLite file, for claims about files and processes."""
    place = Home("sqlite", tmp_path, str(tmp_path / "app.db"))
    yield place
    await place.close()


@pytest.fixture
async def all_homes(tmp_path: Path) -> AsyncIterator[list[Home]]:
    """One of each engine that is there, for claims that compare them."""
    async with AsyncExitStack() as stack:
        there = [engine for engine in ENGINES if engine in engines.IN_PROCESS or engines.is_there(engine)]
        yield [await stack.enter_async_context(home_on(engine, tmp_path)) for engine in there]
