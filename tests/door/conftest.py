"""What the tests at the door share: a place for sessions on either engine, and loops that come and go on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from power_loop import SessionStore, StatefulAgentLoop, open_store
from power_loop.testing import ScriptedLLM

ENGINES = ("sqlite", "memory")


class Home:
    """Where sessions live. Loops made here see the same sessions, as two processes on one database would."""

    def __init__(self, engine: str, folder: Path, shared: SessionStore | None) -> None:
        self.engine, self.folder, self._shared = engine, folder, shared
        self.dsn = str(folder / "app.db")
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

    async def store(self) -> SessionStore:
        """The store as a bystander sees it: through a loop that drives nothing."""
        return await self.loop().ensure_store()

    async def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table, by table."""
        database = (await self.store()).database
        names = await database.read("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'pl_%' ORDER BY name")
        return {name: sorted(await database.read(f"SELECT * FROM {name}"), key=repr) for (name,) in names}

    async def close(self) -> None:
        for loop in self.loops:
            await loop.aclose()
        if self._shared is not None:
            await self._shared.close()


@pytest.fixture(params=ENGINES)
async def home(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Home]:
    """The same claim on a SQLite file and in memory."""
    place = Home(request.param, tmp_path, await open_store(":memory:") if request.param == "memory" else None)
    yield place
    await place.close()


@pytest.fixture
async def file_home(tmp_path: Path) -> AsyncIterator[Home]:
    """A SQLite file, for claims about files and processes."""
    place = Home("sqlite", tmp_path, None)
    yield place
    await place.close()


@pytest.fixture
async def both_homes(tmp_path: Path) -> AsyncIterator[list[Home]]:
    """One of each engine, for claims that compare them."""
    places = [Home("sqlite", tmp_path, None), Home("memory", tmp_path, await open_store(":memory:"))]
    yield places
    for place in places:
        await place.close()
