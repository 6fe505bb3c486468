"""A session on a store in memory, whose clock is moved by hand, and the small tools on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from power_loop.contracts.tool import ToolHandlerResult, ToolRun
from power_loop.store.dialect import SqliteDialect
from power_loop.store.memory import MemoryDatabase
from power_loop.store.sql_store import SessionStore
from power_loop.tools.presets import create_default_tool_registry

SMALL = (
    *("todo", "note_add", "note_update", "note_delete", "schedule_wakeup", "list_wakeups", "cancel_wakeup"),
    *("current_time", "recall_compacted", "recall_send", "recall_output", "request_user_input"),
)
START_MS = 1_800_000_000_000


class HandClock:
    """Stands still until somebody moves it."""

    def __init__(self) -> None:
        self.at = START_MS

    def now_ms(self) -> int:
        return self.at

    def monotonic(self) -> float:
        return self.at / 1000

    async def sleep(self, seconds: float) -> None:
        self.at += round(seconds * 1000)


class Desk:
    """The small tools, as one session calls them."""

    def __init__(self, store: SessionStore, session: str, clock: HandClock) -> None:
        self.store, self.session, self.clock = store, session, clock
        self.registry = create_default_tool_registry(include=SMALL)
        self.told: list[tuple[str, Any]] = []

    async def call(self, name: str, *, key: str = "", **args: Any) -> ToolHandlerResult:
        run = ToolRun(
            session_id=self.session, tool_name=name, store=self.store, idempotency_key=key, tell=lambda *each: self.told.append(each)
        )
        return await self.registry.invoke_async(name, args, run=run)

    async def good(self, name: str, **args: Any) -> str:
        result = await self.call(name, **args)
        assert result.ok, result.content
        return result.content

    async def bad(self, name: str, **args: Any) -> str:
        result = await self.call(name, **args)
        assert not result.ok, result.content
        return result.content


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    clock = HandClock()
    store = SessionStore(MemoryDatabase.with_schema(), SqliteDialect(), clock=clock)
    yield Desk(store, await store.create_session(), clock)
    await store.close()
