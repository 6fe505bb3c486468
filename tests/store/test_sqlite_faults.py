"""SQLite when something goes wrong: the disk, the path, the file, COMMIT itself. An error is "not written" or unknown."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest
from scarce import no_threads

from power_loop.contracts.errors import StoreUnavailable
from power_loop.contracts.store import CommitUnknown, Conflict, Statement
from power_loop.store.database import NOT_WRITTEN
from power_loop.store.gate import WriterGate
from power_loop.store.open import open_database
from power_loop.store.sqlite import SqliteDatabase
from power_loop.store.sqlite_file import SqliteFile

CREATE = Statement("CREATE TABLE IF NOT EXISTS t (k TEXT PRIMARY KEY, v TEXT)")


def put(key: str, value: str = "x") -> list[Statement]:
    return [Statement("INSERT INTO t VALUES (?, ?)", (key, value), 1)]


async def keys(database: SqliteDatabase) -> list[str]:
    return [key for (key,) in await database.read("SELECT k FROM t ORDER BY k")]


class Faults:
    """Raises ``error`` at the next ``where``, once."""

    def __init__(self) -> None:
        self.where: str | None = None
        self.error: Exception = sqlite3.OperationalError("disk I/O error")

    def __call__(self, where: str) -> None:
        if where == self.where:
            self.where = None
            raise self.error


async def together(database: SqliteDatabase, *batches: list[Statement]) -> list[Exception | None]:
    """The outcomes of batches that share one transaction: they wait while the thread is kept busy."""
    go_on = threading.Event()
    busy = database.maintain(lambda _: go_on.wait(10))
    writes = [database.write(batch) for batch in batches]
    go_on.set()
    await busy
    return await asyncio.gather(*writes, return_exceptions=True)


@pytest.fixture
def faults():
    return Faults()


@pytest.fixture
async def database(tmp_path, faults):
    database = SqliteDatabase(tmp_path / "app.db", faults=faults)
    await database.write([CREATE])
    yield database
    await database.close()


# --- COMMIT ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("where", "written"), [("before_commit", False), ("after_commit", True)])
async def test_a_commit_that_raised_is_unknown_to_all_who_shared_it_and_the_next_one_works(database, faults, where, written):
    faults.where = where
    outcomes = await together(database, put("a"), put("b"), put("c"))
    assert [type(outcome) for outcome in outcomes] == [CommitUnknown] * 3
    assert await keys(database) == (["a", "b", "c"] if written else [])
    await database.write(put("next"))
    assert "next" in await keys(database)


async def test_not_even_a_full_disk_makes_a_commit_that_raised_certain(database, faults):
    """The log may be written over, and bytes of an earlier round complete the frame that did not fit (the I/O sweep found it)."""
    faults.where, faults.error = "before_commit", sqlite3.OperationalError("database or disk is full")
    faults.error.sqlite_errorcode = sqlite3.SQLITE_FULL
    with pytest.raises(CommitUnknown):
        await database.write(put("a"))


async def test_a_conflict_is_certain_even_when_the_commit_it_shared_is_not(database, faults):
    await database.write(put("taken"))
    faults.where = "before_commit"
    outcomes = await together(database, put("a"), put("taken"))
    assert [type(outcome) for outcome in outcomes] == [CommitUnknown, Conflict]


async def test_a_transaction_that_cannot_begin_was_not_written(database, faults):
    faults.where = "before_begin"
    with pytest.raises(StoreUnavailable, match="nothing of the batch was written"):
        await database.write(put("a"))
    await database.write(put("b"))
    assert await keys(database) == ["b"]


async def test_a_bug_in_the_thread_answers_those_who_wait(database, faults):
    faults.where, faults.error = "before_commit", ZeroDivisionError()
    with pytest.raises(CommitUnknown):
        await database.write(put("a"))
    await database.write(put("b"))
    assert await keys(database) == ["b"]


async def test_a_write_that_not_even_reaches_the_file_is_told_so(tmp_path):
    database = SqliteDatabase(tmp_path / "a\0b" / "app.db")
    with pytest.raises(StoreUnavailable, match=f"null (byte|character).*{NOT_WRITTEN}"):
        await database.write([CREATE])
    assert database._worker is not None
    assert not database._worker.ended
    await database.close()


@pytest.mark.parametrize("verb", ["write", "maintain"])
async def test_a_machine_without_threads_fails_who_must_wait_for_the_gate_and_nobody_after(database, verb):
    other = WriterGate(f"{database.path}.writer")
    other.enter(5)
    with no_threads(), pytest.raises(StoreUnavailable, match="no thread could be started"):
        await (database.write(put("a")) if verb == "write" else database.maintain(lambda _: None))
    other.leave()
    await database.write(put("b"))
    assert await keys(database) == ["b"]
    other.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_what_ends_the_thread_leaves_nobody_without_an_answer(database):
    reached = [threading.Event(), threading.Event()]
    go_on = [threading.Event(), threading.Event()]

    def stop(at: int) -> None:
        reached[at].set()
        go_on[at].wait(10)

    def leave(_: object) -> None:
        stop(1)
        raise SystemExit

    waiting = [database.maintain(lambda _: stop(0))]
    assert await asyncio.to_thread(reached[0].wait, 10)
    waiting += [database.write(put("a")), database.maintain(leave), database.read("SELECT 1")]
    go_on[0].set()
    assert await asyncio.to_thread(reached[1].wait, 10)
    waiting += [database.write(put("b"))]
    go_on[1].set()
    outcomes = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)
    assert [type(outcome) for outcome in outcomes] == [type(None), type(None), StoreUnavailable, StoreUnavailable, StoreUnavailable]
    with pytest.raises(StoreUnavailable, match=r"SystemExit.*open it anew"):
        await database.write(put("b"))
    other = SqliteDatabase(database.path)
    await other.write(put("c"))
    assert await keys(other) == ["a", "c"], "neither the gate nor the file is held any more"
    await other.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_bug_behind_a_commit_keeps_no_outcome_back(database, monkeypatch):
    def broken(_: SqliteFile) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr(SqliteFile, "log_is_long", broken)
    writes = [database.write(put("a")), database.read("SELECT k FROM t")]
    assert (await asyncio.wait_for(asyncio.gather(*writes, return_exceptions=True), 10))[0] is None


# --- the disk -------------------------------------------------------------------------------------------


async def test_a_full_disk_harms_only_the_batch_that_did_not_fit(database):
    pages = await database.maintain(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
    await database.maintain(lambda connection: connection.execute(f"PRAGMA max_page_count={pages + 3}"))
    outcomes = await together(database, *(put(f"k{n}", "y" * (1_000_000 if n == 2 else 10)) for n in range(5)))
    assert [type(outcome) for outcome in outcomes] == [type(None), type(None), StoreUnavailable, type(None), type(None)]
    assert "disk is full" in str(outcomes[2])
    assert "nothing of the batch was written" in str(outcomes[2])
    assert await keys(database) == ["k0", "k1", "k3", "k4"]


@pytest.fixture
def small_disk():
    """A disk of 400 KB, where root may mount one; not below pytest's folder, which a later run clears away."""
    disk = Path(tempfile.mkdtemp(prefix="power-loop-disk-"))
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", disk], capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    yield disk
    subprocess.run(["umount", disk], check=True)
    disk.rmdir()


def enlarge(disk) -> None:
    subprocess.run(["mount", "-o", "remount,size=4m", disk], check=True)


async def test_a_disk_that_fills_up_refuses_and_takes_writes_again_once_there_is_room(small_disk):
    database = SqliteDatabase(small_disk / "app.db")
    await database.write([CREATE])
    written, refusal = [], None
    while refusal is None:
        try:
            await database.write(put(f"k{len(written):02}", "x" * 9000))
            written.append(f"k{len(written):02}")
        except (CommitUnknown, StoreUnavailable) as error:
            refusal = str(error)
    assert "disk is full" in refusal
    assert await keys(database) == written
    enlarge(small_disk)
    await database.write(put("later"))
    assert await keys(database) == [*written, "later"]
    await database.close()


# --- the path --------------------------------------------------------------------------------------------


async def refused_to_open(path) -> str:
    with pytest.raises(StoreUnavailable) as refused:
        await open_database(str(path))
    assert str(path) in str(refused.value)
    return str(refused.value)


async def test_a_directory_is_refused_by_name(tmp_path):
    assert "it is a directory" in await refused_to_open(tmp_path)


async def test_a_file_that_is_no_database_is_refused_and_untouched(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(b"dear diary\n" * 200)
    assert "no SQLite database" in await refused_to_open(path)
    assert path.read_bytes() == b"dear diary\n" * 200
    assert os.listdir(tmp_path) == ["notes.txt"]


async def test_a_pipe_is_refused_without_waiting_for_its_other_end(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "no regular file" in await refused_to_open(tmp_path / "pipe")


async def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    assert "Not a directory" in await refused_to_open(tmp_path / "file" / "app.db")


async def test_a_folder_that_cannot_be_written_is_refused():
    await refused_to_open("/proc/nowhere/app.db")


async def test_a_folder_that_is_missing_is_made(tmp_path):
    opened = await open_database(str(tmp_path / "a" / "b" / "app.db"))
    await opened.database.close()
    assert (tmp_path / "a" / "b" / "app.db").exists()


@pytest.fixture
def immutable(tmp_path):
    """A file that even root cannot write."""
    path = tmp_path / "app.db"
    with sqlite3.connect(path) as connection:
        connection.execute(CREATE.sql)
    connection.close()
    if os.geteuid() != 0:
        path.chmod(0o444)
        yield path
        path.chmod(0o644)
        return
    if not shutil.which("chattr") or subprocess.run(["chattr", "+i", path], capture_output=True).returncode:
        pytest.skip("no file can be made immutable here")
    yield path
    subprocess.run(["chattr", "-i", path], check=True)


async def test_a_read_only_file_can_be_read_and_says_why_it_cannot_be_written(immutable):
    database = SqliteDatabase(immutable)
    assert await keys(database) == []
    with pytest.raises(StoreUnavailable, match=r"cannot be written.*nothing of the batch was written"):
        await database.write(put("a"))
    assert await keys(database) == []
    await database.close()


@pytest.fixture
def cut_off(tmp_path):
    """A file whose writer died in the middle of a transaction, before there was a WAL: its journal is still there."""
    connection = sqlite3.connect(tmp_path / "whole.db", isolation_level=None)
    connection.execute("PRAGMA cache_size=1")
    for statement in (CREATE.sql, "INSERT INTO t VALUES ('kept', 'x')", "BEGIN"):
        connection.execute(statement)
    connection.executemany("INSERT INTO t VALUES (?, ?)", [(f"lost{n}", "y" * 3000) for n in range(50)])
    for end in ("", "-journal"):
        shutil.copy(f"{tmp_path}/whole.db{end}", f"{tmp_path}/app.db{end}")
    connection.close()
    return tmp_path / "app.db"


async def test_a_file_whose_creator_was_killed_in_the_middle_can_be_opened(cut_off):
    database = SqliteDatabase(cut_off)
    assert await keys(database) == ["kept"]
    await database.write(put("later"))
    assert await keys(database) == ["kept", "later"]
    await database.close()


# --- the file under us ---------------------------------------------------------------------------------------


async def test_a_file_that_was_removed_is_noticed_and_stays_lost(database, tmp_path):
    (tmp_path / "app.db").unlink()
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="removed"):
            await database.write(put("a"))
        with pytest.raises(StoreUnavailable, match="removed"):
            await database.read("SELECT 1")
    assert not (tmp_path / "app.db").exists()


async def test_a_file_that_was_replaced_is_noticed_and_the_new_one_untouched(database, tmp_path):
    other = tmp_path / "other.db"
    other.write_bytes((tmp_path / "app.db").read_bytes())
    os.replace(other, tmp_path / "app.db")
    before = (tmp_path / "app.db").read_bytes()
    with pytest.raises(StoreUnavailable, match="replaced"):
        await database.write(put("a"))
    assert (tmp_path / "app.db").read_bytes() == before


async def test_a_file_that_was_removed_is_not_made_anew_after_an_unknown_commit(database, faults, tmp_path):
    faults.where = "before_commit"
    with pytest.raises(CommitUnknown):
        await database.write(put("a"))
    (tmp_path / "app.db").unlink()
    with pytest.raises(StoreUnavailable, match="removed"):
        await database.write(put("b"))
    assert not (tmp_path / "app.db").exists()


async def test_a_lock_held_from_outside_is_waited_for_within_the_limit(tmp_path):
    database = SqliteDatabase(tmp_path / "app.db", busy_timeout_ms=50)
    await database.write([CREATE])
    outside = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
    outside.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match=r"locked.*nothing of the batch was written"):
        await database.write(put("a"))
    outside.execute("ROLLBACK")
    outside.close()
    await database.write(put("b"))
    assert await keys(database) == ["b"]
    await database.close()
