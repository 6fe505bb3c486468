"""What the tests of runs share: a house of sessions, loops that come and go in it, and ears for what they tell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from power_loop import AgentEvent, AgentHooks, HookPoint, SessionStore, StatefulAgentLoop, open_store
from power_loop.contracts.clock import SystemClock
from power_loop.store.memory import MemoryDatabase
from power_loop.testing import ScriptedLLM

PATIENCE_S = 60.0


class QuickClock(SystemClock):
    """Real time, in which every wait is noted and none takes long."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)


async def breathe(_: str) -> None:
    """A database away from the event loop: every verb lets others run before and after it."""
    await asyncio.sleep(0)


class House:
    """One database. Each loop has its own way in, as each process would; all that they tell lands in ``heard``."""

    def __init__(self) -> None:
        self.database = MemoryDatabase.with_schema()
        self.clock = QuickClock()
        self.heard: list[AgentEvent] = []
        self._loops: list[StatefulAgentLoop] = []
        self._stores: list[SessionStore] = []

    def loop(self, *script: Any, llm: Any = None, on: dict[str, Callable[[Any], Any]] | None = None, **settings: Any) -> StatefulAgentLoop:
        """A loop whose model follows ``script``; ``on`` are handlers by their point."""
        store = SessionStore(self.database.connect(pause=breathe), MemoryDatabase.dialect, clock=self.clock)
        hooks = AgentHooks()
        for point, handler in (on or {}).items():
            hooks.register(HookPoint(point), handler)
        loop = StatefulAgentLoop(llm=llm if llm is not None else ScriptedLLM(script), store=store, hooks=hooks, **settings)
        loop.event_bus.subscribe(None, self.heard.append)
        self._loops.append(loop)
        self._stores.append(store)
        return loop

    def types(self) -> list[str]:
        """What was told, in order."""
        return [str(event.type) for event in self.heard]

    def told(self, type: str) -> list[dict[str, Any]]:
        """The payloads of one type, in order."""
        return [dict(event.payload) for event in self.heard if event.type == type]

    async def until(self, holds: Callable[[], Any]) -> None:
        """Let everything run until ``holds()`` does."""
        async with asyncio.timeout(PATIENCE_S):  # of real time: a thread may have a part in it
            while not holds():
                await asyncio.sleep(0)

    async def until_told(self, type: str, times: int = 1) -> None:
        await self.until(lambda: self.types().count(type) >= times)

    async def late_of(self, loop: StatefulAgentLoop, session: str) -> list[Any]:
        """What came late, once it is there."""
        async with asyncio.timeout(60):
            while not (found := await loop.store.late_results(session)):
                await asyncio.sleep(0.001)  # of a thread, perhaps
        return found

    async def look(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        """Read the database past all loops."""
        return await self.database.read(sql, params)

    async def kinds(self, session: str) -> list[str]:
        """The records of a session, by kind, in order."""
        return [kind for (kind,) in await self.look("SELECT kind FROM pl_records WHERE session_id = ? ORDER BY seq", session)]

    async def holder(self, session: str) -> str | None:
        """Who holds the session's lease."""
        return (await self.look("SELECT holder FROM pl_sessions WHERE session_id = ?", session))[0][0]

    async def close(self) -> None:
        for loop in self._loops:
            await loop.aclose(drain_timeout_s=1.0)
        for store in self._stores:
            await store.close()
        await self.database.close()


@pytest.fixture
async def house() -> AsyncIterator[House]:
    place = House()
    yield place
    await place.close()


@pytest.fixture
async def file_loop(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[StatefulAgentLoop]]]:
    """Loops on one SQLite file; closed with the test."""
    loops: list[StatefulAgentLoop] = []

    async def make(*script: Any, llm: Any = None, **settings: Any) -> StatefulAgentLoop:
        model = llm if llm is not None else ScriptedLLM(script)
        loop = StatefulAgentLoop(llm=model, store=await open_store(str(tmp_path / "app.db")), **settings)
        loops.append(loop)
        return loop

    yield make
    for loop in loops:
        await loop.aclose(drain_timeout_s=1.0)
        if loop.store is not None:
            await loop.store.close()
