"""SQLite files that are damaged, that lie in odd places, and whose users fork or come too late."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from power_loop.contracts.errors import StoreUnavailable
from power_loop.contracts.store import Statement
from power_loop.store import sqlite_file
from power_loop.store.sqlite import SqliteDatabase
from power_loop.store.sqlite_care import copied_file

CREATE = Statement("CREATE TABLE t (k TEXT PRIMARY KEY)")
PAGE = 4096


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A database with a table of several pages, closed."""
    database = SqliteDatabase(tmp_path / "app.db")
    await database.write([CREATE, *(Statement("INSERT INTO t VALUES (?)", (str(n) * 200,)) for n in range(100))])
    await database.close()
    return tmp_path / "app.db"


def damage(path: Path) -> None:
    """All but the first two pages."""
    content = path.read_bytes()
    path.write_bytes(content[: 2 * PAGE] + b"\xff" * (len(content) - 2 * PAGE))


async def test_a_damaged_file_is_said_to_be_damaged_with_the_way_out(path: Path) -> None:
    damage(path)
    database = SqliteDatabase(path)
    with pytest.raises(StoreUnavailable, match=r"it is damaged; restore a backup.*nothing was read"):
        await database.read("SELECT * FROM t")
    await database.close()


async def test_a_mistake_in_a_read_beside_another_program_is_told_as_one(path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("DELETE FROM t")
    database = SqliteDatabase(path)
    with pytest.raises(StoreUnavailable, match="no such table: gone"):
        await database.read("SELECT * FROM gone")
    await database.close()
    other.close()


async def test_a_file_system_without_shared_memory_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # SQLite's own stand-in for one: locks that are files (sqlite.org/vfs.html).
    plain = sqlite_file.file_uri
    monkeypatch.setattr(sqlite_file, "file_uri", lambda path, options: plain(path, f"{options}&vfs=unix-dotfile"))
    database = SqliteDatabase(tmp_path / "app.db")
    with pytest.raises(StoreUnavailable, match=r"cannot share memory between processes \(journal mode 'delete'\); put it on a local disk"):
        await database.write([CREATE])
    await database.close()


async def test_a_database_that_was_closed_before_its_first_verb_makes_no_file(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "app.db")
    await database.close()
    with pytest.raises(StoreUnavailable, match="it is closed; open it anew"):
        await database.write([CREATE])
    assert os.listdir(tmp_path) == []


async def test_a_backup_does_not_take_the_place_of_a_file_that_came_meanwhile(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database, target = SqliteDatabase(path), path.with_name("copy.db")
    sync = os.fsync

    def somebody_comes(file: int) -> None:
        target.touch()
        sync(file)

    monkeypatch.setattr(os, "fsync", somebody_comes)
    with pytest.raises(FileExistsError):
        await database.copy_to(str(target), overwrite=False)
    assert os.stat(target).st_size == 0
    assert [name for name in os.listdir(path.parent) if name.endswith(".part")] == []
    await database.close()


FORK_AFTER_CLOSING = """
import asyncio, os, sys
from power_loop.contracts.store import Statement
from power_loop.store.sqlite import SqliteDatabase
async def use(key):
    database = SqliteDatabase(sys.argv[1], busy_timeout_ms=60_000)
    await database.write([Statement("INSERT INTO t VALUES (?)", (key,), 1)])
    await database.close()
    return database
database = asyncio.run(use("parent"))
child = os.fork()
if not child:
    asyncio.run(use("child"))
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


def test_a_fork_after_closing_waits_for_nobody(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FORK_AFTER_CLOSING, path], timeout=60, check=False)
    assert done.returncode == 0
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM t WHERE k IN ('parent', 'child')").fetchone() == (2,)
    connection.close()


async def test_two_backups_to_one_place_at_once_leave_a_whole_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database, target, sync = SqliteDatabase(path), path.with_name("copy.db"), os.fsync

    def another_begins(file: int) -> None:
        monkeypatch.setattr(os, "fsync", sync)
        sync(file)
        other = threading.Thread(target=copied_file, args=(str(path), str(target), True, ()))
        other.start()
        other.join()

    monkeypatch.setattr(os, "fsync", another_begins)
    await database.copy_to(str(target), overwrite=True)
    with closing(sqlite3.connect(target)) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert [name for name in os.listdir(path.parent) if name.endswith(".part")] == []
    await database.close()
