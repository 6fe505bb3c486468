"""When many wait for one file: which of them share a commit, and when they are told."""

from __future__ import annotations

import asyncio
import math
import threading

import pytest

from power_loop.contracts.store import Statement
from power_loop.store import sqlite_worker
from power_loop.store.gate import WriterGate
from power_loop.store.sqlite import SqliteDatabase

CREATE = Statement("CREATE TABLE t (n INTEGER PRIMARY KEY)", ())
PATIENCE_S = 30


class Hall:
    """Holds the file's thread at its first transaction until all writes stand in line."""

    def __init__(self) -> None:
        self.begun, self.all_here = threading.Event(), threading.Event()

    def __call__(self, moment: str) -> None:
        self.begun.set()
        if moment == "before_begin":
            assert self.all_here.wait(PATIENCE_S)

    async def crowd(self, database: SqliteDatabase, size: int) -> list[asyncio.Future[None]]:
        """The table, which has a group of its own, and so many rows, which wait while it is made."""
        writes = [database.write([CREATE])]
        assert await asyncio.to_thread(self.begun.wait, PATIENCE_S)
        writes += [database.write([Statement("INSERT INTO t VALUES (?)", (n,))]) for n in range(size)]
        self.all_here.set()
        return writes


@pytest.fixture
def groups(monkeypatch):
    """The sizes of the groups, in order."""
    sizes: list[int] = []
    commit = sqlite_worker.commit_group

    def noted(connection, batches, *rest):
        sizes.append(len(batches))
        return commit(connection, batches, *rest)

    monkeypatch.setattr(sqlite_worker, "commit_group", noted)
    return sizes


@pytest.fixture
async def hall(tmp_path):
    hall = Hall()
    database = SqliteDatabase(tmp_path / "app.db", faults=hall)
    yield hall, database
    hall.all_here.set()
    await database.close()


@pytest.mark.parametrize(
    ("quick_s", "size", "expected"),
    [(math.inf, 40, [20, 20]), (math.inf, 31, [31]), (math.inf, 150, [64, 43, 21, 22]), (0, 40, [40]), (0, 70, [64, 6])],
)
async def test_two_crowds_take_turns_where_a_commit_is_quick_and_share_it_where_it_is_not(
    hall, groups, monkeypatch, quick_s, size, expected
):
    monkeypatch.setattr(sqlite_worker, "QUICK_S", quick_s)
    hall, database = hall
    await asyncio.gather(*await hall.crowd(database, size))
    assert groups == [1, *expected]
    assert (await database.read("SELECT COUNT(*) FROM t"))[0][0] == size


async def test_a_crowd_is_told_when_nothing_but_the_commit_of_the_next_is_left(hall, groups, monkeypatch):
    monkeypatch.setattr(sqlite_worker, "QUICK_S", math.inf)
    hall, database = hall
    told = threading.Event()
    moments: list[tuple[int, str, bool]] = []

    def watched(moment: str) -> None:
        hall(moment)
        if moment == "before_commit" and len(groups) == 3:
            assert told.wait(PATIENCE_S), "those before were not told while this commit waits"
        moments.append((len(groups), moment, told.is_set()))

    database._faults = watched
    writes = await hall.crowd(database, 40)
    writes[20].add_done_callback(lambda _: told.set())
    await asyncio.gather(*writes)
    assert groups == [1, 20, 20]
    assert [moment for moment in moments if not moment[2]][-2:] == [(2, "after_commit", False), (3, "before_begin", False)]


async def test_nobody_who_is_committed_waits_for_another_process(hall, groups, monkeypatch):
    monkeypatch.setattr(sqlite_worker, "QUICK_S", math.inf)
    hall, database = hall
    told, waited = threading.Event(), []
    free, enter = WriterGate.try_enter, WriterGate.enter
    monkeypatch.setattr(WriterGate, "try_enter", lambda gate: len(groups) != 2 and free(gate))

    def entered(gate: WriterGate, timeout_s: float) -> None:
        waited.append(told.wait(PATIENCE_S))
        monkeypatch.setattr(WriterGate, "try_enter", free)
        enter(gate, timeout_s)

    monkeypatch.setattr(WriterGate, "enter", entered)
    writes = await hall.crowd(database, 40)
    writes[20].add_done_callback(lambda _: told.set())
    await asyncio.gather(*writes)
    assert (groups, waited) == ([1, 20, 20], [True])


async def test_a_read_behind_a_crowd_sees_all_of_it_and_nobody_is_forgotten_at_the_end(hall, groups, monkeypatch):
    monkeypatch.setattr(sqlite_worker, "QUICK_S", math.inf)
    hall, database = hall
    writes = await hall.crowd(database, 32)
    count = database.read("SELECT COUNT(*) FROM t")
    closed = asyncio.create_task(database.close())
    assert (await count)[0][0] == 32
    await closed
    assert all(write.done() and write.exception() is None for write in writes)
