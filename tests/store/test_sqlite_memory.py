"""The memory database as a simulation uses it: pauses, faults between the steps, several ways into the same data."""

from __future__ import annotations

import asyncio

import pytest

from power_loop.contracts.errors import StoreUnavailable
from power_loop.contracts.store import CommitUnknown, Statement
from power_loop.store.memory import MemoryDatabase

PUT = [Statement("INSERT INTO pl_sessions (session_id) VALUES ('s')", (), 1)]
COUNT = "SELECT count(*) FROM pl_sessions"


@pytest.fixture
async def core():
    core = MemoryDatabase.with_schema()
    yield core
    await core.close()


async def test_the_pauses_stand_before_and_after_each_verb(core):
    heard: list[str] = []

    async def pause(where: str) -> None:
        heard.append(where)

    database = core.connect(pause=pause)
    await database.write(PUT)
    await database.read(COUNT)
    assert heard == ["before_write", "after_write", "before_read", "after_read"]
    await database.close()


async def test_without_pauses_a_verb_is_done_when_it_returns(core):
    write = core.write(PUT)
    assert write.done()
    assert core.read(COUNT).result() == [(1,)]
    await write


@pytest.mark.parametrize(("where", "count"), [("before_write", 0), ("after_write", 1)])
async def test_what_a_pause_raises_the_verb_raises_and_the_place_decides_what_is_written(core, where, count):
    async def pause(here: str) -> None:
        if here == where:
            raise CommitUnknown("the process died here")

    database = core.connect(pause=pause)
    with pytest.raises(CommitUnknown):
        await database.write(PUT)
    assert await core.read(COUNT) == [(count,)]
    await database.close()


async def test_who_is_cancelled_between_the_steps_has_written_all_the_same(core):
    go_on = asyncio.Event()

    async def pause(where: str) -> None:
        await go_on.wait()

    database = core.connect(pause=pause)

    async def write() -> None:
        await database.write(PUT)

    task = asyncio.create_task(write())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert await core.read(COUNT) == [(1,)]
    await database.close()


async def test_several_ways_lead_to_the_same_data_and_each_is_closed_for_itself(core):
    first, second = core.connect(), core.connect()
    await first.write(PUT)
    await first.close()
    assert await second.read(COUNT) == [(1,)]
    with pytest.raises(StoreUnavailable, match="closed"):
        await first.read(COUNT)
    await second.close()


async def test_memory_databases_share_nothing_with_each_other():
    first, second = MemoryDatabase.with_schema(), MemoryDatabase.with_schema()
    await first.write(PUT)
    assert await second.read(COUNT) == [(0,)]
    await first.close()
    await second.close()


async def test_an_event_loop_that_shuts_down_in_a_pause_leaves_nobody_waiting(core):
    async def pause(where: str) -> None:
        await asyncio.Event().wait()

    database = core.connect(pause=pause)
    write = database.write(PUT)
    await asyncio.sleep(0)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    with pytest.raises(StoreUnavailable, match="shut down"):
        await write
    await database.close()
