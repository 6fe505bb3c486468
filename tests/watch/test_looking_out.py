"""What watching costs: next to nothing while nothing happens, and one look for all who watch."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from power_loop import SessionStore, StatefulAgentLoop, open_store
from power_loop.store.memory import MemoryDatabase
from power_loop.store.sqlite import SqliteDatabase
from power_loop.testing import ManualClock, ScriptedLLM


class Counting(MemoryDatabase):
    """Counts its verbs."""

    counts: Counter[str]

    def read(self, sql: str, params: Sequence[Any] = ()) -> Any:
        self.counts["read"] += 1
        return super().read(sql, params)

    async def version(self) -> object:
        self.counts["version"] += 1
        return await super().version()


def counting() -> tuple[SessionStore, Counting, ManualClock]:
    clock, database = ManualClock(), Counting.with_schema()
    assert isinstance(database, Counting)
    database.counts = Counter()
    return SessionStore(database, Counting.dialect, clock=clock), database, clock


async def watch(loop: StatefulAgentLoop, session: str, seen: list[str]) -> None:
    async for event in loop.watch(session):
        seen.append(str(event.type))


async def end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_while_nothing_happens_the_database_is_asked_once_a_second_whether_anything_did() -> None:
    store, database, clock = counting()
    loop = StatefulAgentLoop(llm=ScriptedLLM(["x"]), store=store)
    session = await loop.new_session()
    watching = asyncio.create_task(watch(loop, session, []))
    await clock.advance(10)
    database.counts.clear()
    await clock.advance(100)
    assert database.counts == {"version": 100}
    await end(watching)
    await clock.advance(5)
    assert database.counts == {"version": 100}


async def test_a_thousand_watchers_of_many_sessions_share_one_look() -> None:
    store, database, clock = counting()
    loop, other = (StatefulAgentLoop(llm=ScriptedLLM(["yes"]), store=store) for _ in range(2))
    sessions = [await loop.new_session() for _ in range(250)]
    seen: list[list[str]] = [[] for _ in range(1000)]
    tasks = [asyncio.create_task(watch(loop, sessions[n % 250], seen[n])) for n in range(1000)]
    await clock.advance(10)
    database.counts.clear()
    await clock.advance(10)
    assert database.counts["read"] == 0
    await other.send("go", sessions[7])
    await clock.advance(2)
    assert [n for n in range(1000) if seen[n]] == [7, 257, 507, 757]
    assert all(seen[n][-1] == "result" for n in (7, 257, 507, 757))
    assert database.counts["read"] < 40
    await end(*tasks)


async def test_another_process_is_noticed_within_a_second_and_at_once_when_it_goes_on(tmp_path: Path) -> None:
    clock, other = ManualClock(), await open_store(str(tmp_path / "app.db"))
    database = SqliteDatabase(tmp_path / "app.db")
    loop = StatefulAgentLoop(llm=ScriptedLLM(["x"]), store=SessionStore(database, SqliteDatabase.dialect, clock=clock))
    driver = StatefulAgentLoop(llm=ScriptedLLM(["one", "two"]), store=other)
    session = await driver.new_session()
    async with aclosing(loop.watch(session)) as events:
        waiting = asyncio.ensure_future(anext(events))
        while not clock.sleepers:
            await asyncio.sleep(0)
        for _ in range(50):
            await clock.advance(1)
        await driver.send("go", session)
        while not waiting.done():
            await clock.advance(1)
        assert (await waiting).type == "message_appended"
    await other.close()
    await database.close()


async def test_a_version_differs_after_every_commit_of_anyone(tmp_path: Path) -> None:
    one, other = await open_store(str(tmp_path / "app.db")), await open_store(str(tmp_path / "app.db"))
    session = await one.create_session()
    versions = [await one.database_version()]
    for store in (one, other, other, one):
        await store.set_runtime_state(session, "k", len(versions))
        versions += [await one.database_version(), await one.database_version()]
    assert versions[1::2] == versions[2::2]
    assert len(set(versions)) == 5
    await one.close()
    await other.close()


async def test_an_id_that_is_used_again_is_another_session(tmp_path: Path) -> None:
    store, _, clock = counting()
    loop = StatefulAgentLoop(llm=ScriptedLLM(["one", "two"]), store=store)
    session = await loop.new_session(session_id="mine")
    await loop.send("go", session)
    seen: list[str] = []
    watching = asyncio.create_task(watch(loop, session, seen))
    await clock.advance(2)
    seen.clear()
    clock.jump(5)
    await store.close_session(session)
    await loop.new_session(session_id="mine")
    await clock.advance(2)
    assert watching.done()
    assert seen == []
