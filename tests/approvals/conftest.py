"""What the tests of approvals share: a till that pays only what somebody approved, and a model that wants it to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import engines
import pytest

from power_loop import AgentEvent, AgentLoopConfig, Approval, SessionStore, StatefulAgentLoop, ToolPolicy, ToolRun, tool
from power_loop.contracts.clock import SystemClock
from power_loop.contracts.codec import from_cells
from power_loop.contracts.records import Record
from power_loop.store.memory import MemoryDatabase
from power_loop.store.open import open_database
from power_loop.testing import FunctionLLM, call

# Of MySQL and MariaDB one is enough here.
ENGINES = [engine for engine in engines.ALL if engine != "mysql"]


PAY = call("pay", euros=5)


class LaterClock(SystemClock):
    """Real time, and whatever a test lets pass besides."""

    passed_s = 0.0

    def now_ms(self) -> int:
        return super().now_ms() + int(self.passed_s * 1000)


class Till:
    """Pays; what it paid outlives every loop."""

    def __init__(self) -> None:
        self.paid: list[int] = []
        self.looked: list[str] = []

    def tools(self, rule: Any = True, **more: Any) -> list[Any]:
        @tool(needs_approval=rule, **more)
        async def pay(run: ToolRun, euros: int) -> str:
            """Pay."""
            self.paid.append(euros)
            return f"paid {euros}"

        @tool(effects="pure")
        async def look(at: str) -> str:
            """Look."""
            self.looked.append(at)
            return f"saw {at}"

        return [pay, look]


@pytest.fixture
def till() -> Till:
    return Till()


def results(request: Any) -> list[Any]:
    """What the last round's tools said, as the model reads it."""
    found: list[Any] = []
    for message in reversed(request.messages):
        if message["role"] != "tool":
            break
        found.insert(0, message["content"])
    return found


class Bank:
    """Where sessions live: one clock, and loops that come and go as processes would."""

    def __init__(self, dsn: str, clock: LaterClock, shared: SessionStore | None = None) -> None:
        self.dsn, self.clock, self._shared = dsn, clock, shared
        self.heard: list[AgentEvent] = []
        self._stack = AsyncExitStack()

    async def loop(self, till: Till, *wanted: Any, rule: Any = True, ttl_s: float | None = None, **more: Any) -> StatefulAgentLoop:
        """A cold loop; its model asks for ``wanted`` first and then says what came of it."""

        def answer(request: Any) -> Any:
            return "so: " + " | ".join(results(request)) if request.messages[-1]["role"] == "tool" else wanted[0]

        store = self._shared
        if store is None:
            opened = await open_database(self.dsn)
            store = SessionStore(opened.database, opened.dialect, opened.prefix, clock=self.clock)
            self._stack.push_async_callback(store.close)
        more.setdefault("tools", till.tools(rule))
        config = AgentLoopConfig(tooling=ToolPolicy(approval_ttl_s=ttl_s))
        loop = StatefulAgentLoop(llm=more.pop("llm", None) or FunctionLLM(answer), store=store, config=config, **more)
        loop.event_bus.subscribe(None, self.heard.append)
        self._stack.push_async_callback(loop.aclose)
        return loop

    async def waiting(self, till: Till, *wanted: Any, **settings: Any) -> tuple[StatefulAgentLoop, str, Approval]:
        """(a loop, a session of it that waits for an approval, that approval)."""
        loop = await self.loop(till, *(wanted or (PAY,)), **settings)
        session = await loop.new_session()
        assert (await loop.send("pay 5", session)).status == "waiting_for_input"
        (approval,) = await loop.list_approvals(session)
        return loop, session, approval

    async def records(self, loop: StatefulAgentLoop, session: str, kind: type[Any]) -> list[Any]:
        rows = await (await loop.ensure_store()).rows(session, after=0)
        found: list[Record] = [from_cells(row.cells) for row in rows]
        return [record for record in found if isinstance(record, kind)]

    def told(self, type: str) -> list[dict[str, Any]]:
        return [dict(event.payload) for event in self.heard if event.type == type]

    async def close(self) -> None:
        await self._stack.aclose()


@pytest.fixture(params=ENGINES)
async def bank(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bank]:
    """The same claim on every engine."""
    async with engines.cleared(request.param, tmp_path) as dsn:
        clock = LaterClock()
        database = MemoryDatabase.with_schema()
        shared = SessionStore(database, MemoryDatabase.dialect, clock=clock) if request.param == "memory" else None
        place = Bank(dsn, clock, shared)
        yield place
        await place.close()
        if shared is not None:
            await shared.close()


@pytest.fixture
async def till_bank(tmp_path: Path) -> AsyncIterator[Bank]:
    """A SQLite file, where one engine is as good as the other."""
    place = Bank(str(tmp_path / "app.db"), LaterClock())
    yield place
    await place.close()
