"""A store on each engine, and one whose time stands until it is moved."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import engines
import pytest
from operating import Place

from power_loop import SessionStore, StatefulAgentLoop, open_store
from power_loop.store.memory import MemoryDatabase
from power_loop.testing import FunctionLLM, ManualClock, check_invariants, say


@pytest.fixture(params=engines.ALL)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """The same claim on every engine."""
    async with engines.fresh(request.param, tmp_path) as dsn:
        here = Place(request.param, dsn, await open_store(dsn))
        yield here
        await here.close()
        assert await check_invariants(here.store) == []
        await here.store.close()


class Stand(SessionStore):
    """A store whose time stands still until it is moved, and the loops that were made on it."""

    def __init__(self) -> None:
        self.time = ManualClock()
        super().__init__(MemoryDatabase.with_schema(), MemoryDatabase.dialect, clock=self.time)
        self.loops: list[StatefulAgentLoop] = []

    def loop(self, llm: Any = None, **settings: Any) -> StatefulAgentLoop:
        loop = StatefulAgentLoop(llm=llm or echo(), store=self, **settings)
        self.loops.append(loop)
        return loop

    async def notes(self, session_id: str) -> list[str]:
        """What timers left and nobody has heard yet."""
        return [item.record.content for item in await self.inbox(session_id)]


def echo() -> FunctionLLM:
    return FunctionLLM(lambda request: say(f"heard: {request.messages[-1]['content']}"))


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    stand = Stand()
    yield stand
    for loop in stand.loops:
        await loop.aclose()
    assert await check_invariants(stand) == []
    await stand.close()
