"""The file of a SQLite database: no trace of a look, no side files after closing, a log that stays short."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import sqlite3
import threading

import pytest

from power_loop.contracts.errors import StoreUnavailable
from power_loop.contracts.store import Statement
from power_loop.store.open import open_database
from power_loop.store.sqlite import SqliteDatabase
from power_loop.store.sqlite_file import CHECKPOINT_BYTES, CHECKPOINT_COMMITS, COMMITS_A_LOOK, LOG_BYTES
from power_loop.store.sqlite_worker import Close

CREATE = Statement("CREATE TABLE IF NOT EXISTS t (k TEXT PRIMARY KEY, v TEXT)")


def put(key: str, value: str = "x") -> list[Statement]:
    return [Statement("INSERT INTO t VALUES (?, ?)", (key, value), 1)]


@pytest.fixture
async def database(tmp_path):
    database = SqliteDatabase(tmp_path / "app.db")
    await database.write([CREATE])
    yield database
    await database.close()


# acceptance: 13
async def test_a_closed_file_copied_elsewhere_opens_there_with_the_same_content(tmp_path):
    opened = await open_database(str(tmp_path / "app.db"))
    await opened.database.write([CREATE])
    for n in range(100):
        await opened.database.write(put(f"k{n:03}"))
    await opened.database.close()
    assert sorted(os.listdir(tmp_path)) == ["app.db", "app.db.writer"]
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(tmp_path / "app.db", tmp_path / "elsewhere" / "copy.db")
    copy = (await open_database(str(tmp_path / "elsewhere" / "copy.db"))).database
    assert await copy.read("SELECT count(*), min(k), max(k) FROM t") == [(100, "k000", "k099")]
    await copy.close()


# acceptance: 13
async def test_a_file_that_others_still_have_open_is_whole_without_its_side_files_after_closing(database, tmp_path):
    await database.write(put("a"))
    other = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
    other.execute("SELECT count(*) FROM t").fetchall()
    await database.close()
    shutil.copy(tmp_path / "app.db", tmp_path / "copy.db")
    other.close()
    copy = sqlite3.connect(tmp_path / "copy.db")
    assert copy.execute("SELECT k FROM t").fetchall() == [("a",)]
    copy.close()


async def test_an_acknowledged_write_is_in_the_file_while_it_is_still_open(database, tmp_path):
    await database.write(put("a"))
    other = sqlite3.connect(tmp_path / "app.db")
    assert other.execute("SELECT k FROM t").fetchall() == [("a",)]
    other.close()


async def test_nothing_is_created_before_the_first_write(tmp_path):
    database = SqliteDatabase(tmp_path / "folder" / "app.db")
    assert await database.read("SELECT name FROM sqlite_master") == []
    await database.close()
    assert os.listdir(tmp_path) == []


async def test_reading_alone_changes_no_byte_and_leaves_no_side_file(database, tmp_path):
    await database.write(put("a"))
    await database.close()
    (tmp_path / "app.db.writer").unlink()
    before = (tmp_path / "app.db").read_bytes()
    reader = SqliteDatabase(tmp_path / "app.db")
    assert await reader.read("SELECT k FROM t") == [("a",)]
    await reader.close()
    assert os.listdir(tmp_path) == ["app.db"]
    assert (tmp_path / "app.db").read_bytes() == before


async def test_a_reader_sees_what_others_write_meanwhile(database, tmp_path):
    reader = SqliteDatabase(tmp_path / "app.db")
    for n in range(3):
        await database.write(put(f"k{n}"))
        assert await reader.read("SELECT count(*) FROM t") == [(n + 1,)]
    await database.close()
    assert await reader.read("SELECT count(*) FROM t") == [(3,)]
    await reader.close()


async def test_a_path_with_odd_characters_is_taken_as_it_is(tmp_path):
    path = tmp_path / "100% a?b#c ü:memory:.db"
    database = SqliteDatabase(path)
    await database.write([CREATE])
    await database.write(put("a"))
    await database.close()
    assert path.exists()
    again = SqliteDatabase(path)
    assert await again.read("SELECT k FROM t") == [("a",)]
    await again.close()


async def test_a_relative_path_means_the_folder_of_its_opening(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    database = SqliteDatabase("app.db")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    await database.write([CREATE])
    await database.close()
    assert (tmp_path / "app.db").exists()


@pytest.mark.parametrize(("synchronous", "level"), [("full", 2), ("normal", 1)])
async def test_the_file_is_opened_as_durable_as_asked(tmp_path, synchronous, level):
    database = SqliteDatabase(tmp_path / "app.db", synchronous=synchronous)

    def settings(connection: sqlite3.Connection) -> list[object]:
        return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode", "wal_autocheckpoint")]

    assert await database.maintain(settings) == [level, "wal", 0]
    await database.close()


# --- the log --------------------------------------------------------------------------------------------


def log_bytes(tmp_path) -> int:
    return os.stat(tmp_path / "app.db-wal").st_size


async def test_many_small_commits_write_over_the_log_instead_of_growing_it(database, tmp_path):
    size = 0
    for n in range(5 * CHECKPOINT_COMMITS):
        await database.write([Statement("INSERT INTO t VALUES (?, ?)", (f"k{n}", "x" * 10_000))])
        size = max(size, log_bytes(tmp_path))
    assert size < LOG_BYTES


async def test_a_log_that_large_batches_made_long_is_cut(database, tmp_path):
    await database.write(put("large", "x" * 2 * LOG_BYTES))
    for n in range(COMMITS_A_LOOK):
        await database.write(put(f"k{n}"))
    await database.read("SELECT 1")  # answered after the thread has tidied up
    assert log_bytes(tmp_path) < LOG_BYTES


async def test_few_commits_look_at_the_log_since_that_makes_the_next_fsync_dearer(database, tmp_path, monkeypatch):
    await database.write(put("first"))
    looks: list[object] = []
    monkeypatch.setattr(os, "stat", lambda path, *rest, stat=os.stat: looks.append(path) or stat(path, *rest))
    for n in range(4 * COMMITS_A_LOOK):
        await database.write(put(f"k{n}"))
    monkeypatch.undo()
    assert sum(str(path).endswith("-wal") for path in looks) <= 4


async def test_a_reader_elsewhere_stops_no_writer_and_no_checkpoint_for_long(database, tmp_path):
    reader = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM t").fetchall()
    for n in range(3):
        await database.write(put(f"k{n}", "x" * CHECKPOINT_BYTES * 2))
    reader.execute("COMMIT")
    reader.close()
    await database.write(put("last"))
    assert await database.read("SELECT count(*) FROM t") == [(4,)]


# --- the thread ------------------------------------------------------------------------------------------


async def test_work_that_nobody_awaits_is_done(database):
    for n in range(10):
        database.write(put(f"k{n}"))
    gc.collect()
    assert await database.read("SELECT count(*) FROM t") == [(10,)]


async def test_maintenance_may_fail_without_harm(database):
    def broken(connection: sqlite3.Connection) -> None:
        raise ValueError("not today")

    with pytest.raises(ValueError, match="not today"):
        await database.maintain(broken)
    await database.write(put("a"))


async def test_work_that_meets_a_thread_on_its_way_out_is_answered(database):
    worker = database._worker
    worker.jobs.put(Close(None))
    await asyncio.to_thread(worker.thread.join, 10)
    with pytest.raises(StoreUnavailable, match="closed"):
        await database.write(put("a"))


async def test_closing_gives_the_thread_and_every_file_back(tmp_path):
    files, threads = open_files(tmp_path), threading.active_count()
    for n in range(3):
        database = SqliteDatabase(tmp_path / f"{n}.db")
        await database.write([CREATE])
        await database.close()
    assert (open_files(tmp_path), threading.active_count()) == (files, threads)


async def test_a_database_that_nobody_holds_any_more_ends_its_thread_and_keeps_what_was_submitted(tmp_path):
    database = SqliteDatabase(tmp_path / "app.db")
    await database.write([CREATE])
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "power-loop-sqlite")
    database.write(put("a"))
    del database
    gc.collect()
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()
    assert sorted(os.listdir(tmp_path)) == ["app.db", "app.db.writer"]
    with sqlite3.connect(tmp_path / "app.db") as connection:
        assert connection.execute("SELECT k FROM t").fetchall() == [("a",)]
    connection.close()


async def test_closing_from_several_threads_while_others_write_answers_everybody(tmp_path):
    database = SqliteDatabase(tmp_path / "app.db")
    await database.write([CREATE])

    async def write_until_closed(name: str) -> int:
        n = 0
        while True:
            try:
                await database.write(put(f"{name}{n}"))
            except StoreUnavailable:
                return n
            n += 1

    writers = [asyncio.to_thread(asyncio.run, write_until_closed(name)) for name in "abc"]
    running = asyncio.gather(*writers)
    while not (await database.read("SELECT count(*) FROM t"))[0][0]:
        pass
    await database.close()
    written = sum(await running)
    with sqlite3.connect(tmp_path / "app.db") as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (written,)
    connection.close()


def open_files(folder) -> list[str]:
    if not os.path.exists("/proc/self/fd"):
        return []
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    return sorted(os.readlink(link) for link in links if os.path.exists(link) and os.readlink(link).startswith(str(folder)))
