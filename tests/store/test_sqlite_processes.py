"""Several real processes on one SQLite file: opening, writing, dying, forking, and waiting for each other."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys

import pytest

from power_loop.contracts.errors import StoreUnavailable
from power_loop.contracts.store import SchemaPolicy, Statement
from power_loop.store.open import open_database
from power_loop.store.sqlite import SqliteDatabase

HEAD = """
import asyncio, json, os, signal, sys, time
from power_loop.contracts.errors import StoreUnavailable
from power_loop.contracts.store import Statement
from power_loop.store.open import open_database
from power_loop.store.sqlite import SqliteDatabase
path = sys.argv[1]
def say(word): print(word, flush=True)
def put(key): return [Statement("INSERT INTO t VALUES (?)", (key,), 1)]
def wait_for_the_word():
    say("ready")
    sys.stdin.readline()
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HEAD + script, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def at_once(script: str, *arguments: object, n: int = 8) -> list[str]:
    """Start ``n`` processes, let them go together, and give what each said last."""
    processes = [start(script, *arguments, name) for name in range(n)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=100)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * n
    return said


@pytest.fixture
async def path(tmp_path):
    """A database with one table ``t``, closed."""
    database = SqliteDatabase(tmp_path / "app.db")
    await database.write([Statement("CREATE TABLE t (k TEXT PRIMARY KEY)")])
    await database.close()
    return tmp_path / "app.db"


def keys(path) -> list[str]:
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found = [key for (key,) in connection.execute("SELECT k FROM t ORDER BY k")]
    connection.close()
    return found


# --- opening and writing -----------------------------------------------------------------------------------

OPEN = """
async def main():
    wait_for_the_word()
    opened = await open_database(path)
    await opened.database.write([Statement("INSERT INTO pl_sessions (session_id) VALUES (?)", (sys.argv[2],), 1)])
    await opened.database.close()
asyncio.run(main())
"""


# acceptance: 76
async def test_eight_processes_open_one_new_database_at_once_and_all_succeed(tmp_path):
    path = tmp_path / "new" / "folder" / "app.db"
    at_once(OPEN, path)
    opened = await open_database(str(path), schema_policy=SchemaPolicy.VERIFY)
    assert await opened.database.read("SELECT count(*) FROM pl_sessions") == [(8,)]
    await opened.database.close()


WRITE = """
async def main():
    database = SqliteDatabase(path)
    async def writer(name):
        longest = 0
        for n in range(40):
            began = time.perf_counter()
            await database.write(put(f"{name}-{n}"))
            longest = max(longest, time.perf_counter() - began)
        return longest
    await database.read("SELECT 1")
    wait_for_the_word()
    began = time.perf_counter()
    longest = await asyncio.gather(*(writer(f"{sys.argv[2]}-{n}") for n in range(3)))
    took = time.perf_counter() - began
    await database.close()
    say(json.dumps([max(longest), took]))
asyncio.run(main())
"""


# acceptance: 114
async def test_eight_processes_write_without_an_error_and_none_waits_long(path):
    told = [json.loads(said) for said in at_once(WRITE, path)]
    assert len(keys(path)) == 8 * 3 * 40
    slowest = max(took for _, took in told)
    assert max(wait for wait, _ in told) < max(1.0, slowest / 2), "a starved one waits for the others' end, however slow the machine"


# --- dying -------------------------------------------------------------------------------------------------

DIE = """
where, at = sys.argv[2], int(sys.argv[3])
seen = 0
def faults(now):
    global seen
    seen += now == where
    if seen == at:
        os.kill(os.getpid(), signal.SIGKILL)
async def main():
    database = SqliteDatabase(path, faults=faults)
    for n in range(100):
        await database.write(put(f"{n:03}"))
        say(f"{n:03}")
asyncio.run(main())
"""


@pytest.mark.parametrize(("where", "beyond"), [("before_begin", 0), ("before_commit", 0), ("after_commit", 1)])
@pytest.mark.parametrize("at", [1, 7])
async def test_a_killed_process_leaves_what_it_acknowledged_and_no_half_batch(path, where, beyond, at):
    process = start(DIE, path, where, at)
    acknowledged = process.communicate(timeout=100)[0].split()
    assert process.returncode == -signal.SIGKILL
    assert keys(path) == [f"{n:03}" for n in range(len(acknowledged) + beyond)]
    database = SqliteDatabase(path)
    await database.write([Statement("INSERT INTO t VALUES (?)", ("next",), 1)])
    await database.close()


HOLD = """
def hold(connection):
    say("holding")
    time.sleep(600)
async def main():
    await SqliteDatabase(path).maintain(hold)
asyncio.run(main())
"""


async def test_a_process_stopped_at_the_gate_costs_others_an_error_and_its_death_nothing(path):
    process = start(HOLD, path)
    assert process.stdout is not None
    assert process.stdout.readline() == "holding\n"
    process.send_signal(signal.SIGSTOP)
    database = SqliteDatabase(path, busy_timeout_ms=100)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=r"other processes.*nothing of the batch was written"):
            await database.write([Statement("INSERT INTO t VALUES ('a')", (), 1)])
    assert await database.read("SELECT * FROM t") == []
    process.kill()
    process.communicate()
    await database.write([Statement("INSERT INTO t VALUES ('b')", (), 1)])
    await database.write([Statement("INSERT INTO t VALUES ('c')", (), 1)])
    await database.close()
    assert keys(path) == ["b", "c"]


EXIT = """
async def main():
    database = SqliteDatabase(path)
    await database.write(put("a"))
    database.write(put("b"))
    keep.append(database)
keep = []
asyncio.run(main())
say("end")
"""


async def test_a_program_may_end_without_closing(path):
    process = start(EXIT, path)
    assert process.communicate(timeout=100)[0] == "end\n"
    assert process.returncode == 0
    assert keys(path) in (["a"], ["a", "b"])


# --- forking -----------------------------------------------------------------------------------------------

FORK = """
first_to_close = sys.argv[2]
to_child, to_parent = os.pipe(), os.pipe()
def wait(pipe): os.read(pipe[0], 1)
def tell(pipe): os.write(pipe[1], b"x")
database = SqliteDatabase(path)
async def add(*keys):
    for key in keys: await database.write(put(key))
async def add_and_close(*keys):
    await add(*keys)
    await database.close()
asyncio.run(add("0-before"))
child = os.fork()
if child == 0:
    asyncio.run(add("1-child"))
    if first_to_close == "parent":
        tell(to_parent)
        wait(to_child)
    if first_to_close == "parent":
        asyncio.run(add("2-child"))  # and end like a crash: nothing but what it wrote is left
    else:
        asyncio.run(add_and_close("2-child"))
        tell(to_parent)
    os._exit(0)
asyncio.run(add("3-parent"))
wait(to_parent)
asyncio.run(add_and_close("4-parent"))
if first_to_close == "parent":
    tell(to_child)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.parametrize("first_to_close", ["parent", "child"])
async def test_a_forked_child_opens_the_file_anew_and_both_keep_all_they_wrote(path, first_to_close):
    process = start(FORK, path, first_to_close)
    process.communicate(timeout=100)
    assert process.returncode == 0
    assert keys(path) == ["0-before", "1-child", "2-child", "3-parent", "4-parent"]


FORK_UNDER_LOAD = """
import threading
database = SqliteDatabase(path)
written = []
async def load(name):
    n = 0
    while not enough.is_set():
        await database.write(put(f"{name}-{n:06}"))
        written.append(f"{name}-{n:06}")
        n += 1
async def child(name):
    for n in range(5): await database.write(put(f"child-{name}-{n}"))
    await database.close()
async def parent():
    await asyncio.gather(*(load(name) for name in "abc"))
enough = threading.Event()
thread = threading.Thread(target=lambda: asyncio.run(parent()))
thread.start()
children = []
for name in range(6):  # the first while the database is being opened
    while len(written) < 20 * name: time.sleep(0.001)
    pid = os.fork()
    if pid == 0:
        asyncio.run(child(name))
        os._exit(0)
    children.append(pid)
assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 6
enough.set()
thread.join()
asyncio.run(database.close())
say(len(written) + 6 * 5)
"""


async def test_forking_in_the_middle_of_writes_loses_none_and_hangs_nobody(path):
    process = start(FORK_UNDER_LOAD, path)
    said = process.communicate(timeout=100)[0]
    assert process.returncode == 0
    assert len(keys(path)) == int(said)
