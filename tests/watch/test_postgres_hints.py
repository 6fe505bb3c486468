"""On PostgreSQL commits of other processes are announced; without the announcement they are noticed all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import engines

from power_loop import SessionStore, StatefulAgentLoop, open_store
from power_loop.store.dsn import parse_dsn
from power_loop.store.postgres_connect import Address
from power_loop.store.postgres_hints import GATHER_S, Grapevine
from power_loop.testing import ManualClock, ScriptedLLM


async def listeners(store: SessionStore) -> int:
    return (await store.database.read("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1886353264"))[0][0]


async def test_a_watcher_whose_clock_stands_still_hears_of_a_send_elsewhere(tmp_path: Path) -> None:
    async with engines.fresh("postgresql", tmp_path) as dsn:
        driving, opened = await open_store(dsn), await open_store(dsn)
        store = SessionStore(opened.database, opened.dialect, clock=ManualClock())
        driver, watcher = (
            StatefulAgentLoop(llm=ScriptedLLM(["one", "two"]), store=driving),
            StatefulAgentLoop(llm=ScriptedLLM([]), store=store),
        )
        session = await driver.new_session()
        async with aclosing(watcher.watch(session)) as events:
            first = asyncio.ensure_future(anext(events))
            async with asyncio.timeout(60):
                while not await listeners(driving):
                    await asyncio.sleep(0.01)  # a server answers in its own time
            await driver.send("go", session)
            assert (await asyncio.wait_for(first, 60)).type == "message_appended"
        async with asyncio.timeout(60):
            while await listeners(driving):
                await asyncio.sleep(0.01)  # a server answers in its own time
        await driving.close()
        await opened.close()


async def test_while_nobody_listens_nobody_is_told_and_asking_is_rare() -> None:
    asked: list[str] = []

    async def read(sql: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        asked.append(params[1])
        return [(0,)]

    grapevine = Grapevine(Address(parse_dsn("postgresql://localhost/x")), read)
    for n in range(50):
        grapevine.announce(f"s{n % 2}")
    async with asyncio.timeout(60):
        while not asked:
            await asyncio.sleep(GATHER_S)  # the grapevine gathers in real time
    await asyncio.sleep(GATHER_S)
    for n in range(50):
        grapevine.announce(f"s{n % 2}")
    await asyncio.sleep(2 * GATHER_S)
    assert asked == ["s0\ns1"]


def test_a_short_program_that_ends_before_it_tells_does_not_silence_those_behind_it() -> None:
    asked: list[str] = []

    async def read(sql: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        asked.append(params[1])
        return [(1,)]

    async def program(session: str, *, lasts_s: float) -> None:
        grapevine.announce(session)
        await asyncio.sleep(lasts_s)  # the grapevine gathers in real time

    grapevine = Grapevine(Address(parse_dsn("postgresql://localhost/x")), read)
    asyncio.run(program("first", lasts_s=0))
    asyncio.run(program("second", lasts_s=4 * GATHER_S))
    asyncio.run(program("third", lasts_s=4 * GATHER_S))
    assert asked == ["first\nsecond", "third"]
