"""PostgreSQL: what a batch costs, what the server's errors become, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import sys

import asyncpg
import engines
import pytest
from small_state import change, put, told, values

from power_loop import StatefulAgentLoop
from power_loop.contracts.errors import StoreUnavailable
from power_loop.contracts.store import CommitUnknown, Conflict, Statement
from power_loop.store import postgres_connect
from power_loop.store.dsn import parse_dsn
from power_loop.store.open import open_database
from power_loop.store.postgres import PostgresDatabase
from power_loop.store.sql_store import open_store
from power_loop.testing import ScriptedLLM

TURN = 1000


@pytest.fixture
def server():
    return engines.server("postgresql")


@pytest.fixture
async def dsn(tmp_path):
    async with engines.fresh("postgresql", tmp_path) as dsn:
        yield dsn


@pytest.fixture
async def database(dsn):
    opened = await open_database(dsn)
    yield opened.database
    await opened.database.close()


@pytest.fixture
async def rival(dsn):
    """A second program's connection, for statements outside of any batch."""
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


OTHERS = "datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"


async def backends(rival, state="%"):
    return [row[0] for row in await rival.fetch(f"SELECT pid FROM pg_stat_activity WHERE {OTHERS} AND state LIKE $1", state)]


async def until(rival, sql):
    """Return once the server answers ``sql`` with true."""
    for _ in range(TURN):
        if await rival.fetchval(sql):
            return
    raise AssertionError("it never came to that")


async def kill_all(rival):
    await rival.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OTHERS}")
    await until(rival, f"SELECT count(*) = 0 FROM pg_stat_activity WHERE {OTHERS}")


# --- what it costs -------------------------------------------------------------------------------------


@pytest.fixture
async def statements(server, dsn, rival):
    """Everything that a connection opened from now on says to the server, in order; the server's own log is asked."""
    if server.pid is None:
        pytest.skip("the log of somebody else's server is not ours to read")
    name = parse_dsn(dsn).database
    await rival.execute(f"ALTER DATABASE {name} SET log_statement = 'all'")
    begins = server.log.stat().st_size

    def said():
        text = server.log.read_text(errors="replace")[begins:]
        return [line.partition("LOG:  ")[2] for line in text.splitlines() if "LOG:  statement:" in line or "LOG:  execute" in line]

    return said


async def test_a_batch_whose_parts_do_not_concern_each_other_is_one_statement(dsn, statements):
    database = PostgresDatabase(parse_dsn(dsn))
    await database.write([Statement("CREATE TABLE t (k text PRIMARY KEY, n int)"), Statement("CREATE TABLE u (k text)")])
    await database.write([Statement("INSERT INTO t VALUES (?, ?)", ("a", 1))])
    before = len(statements())
    parts = [Statement("UPDATE t SET n = n + ? WHERE k = ?", (1, "a"), 1), *(Statement("INSERT INTO u VALUES (?)", (k,)) for k in "xyz")]
    await database.write(parts)
    assert len(statements()) == before + 1
    assert await database.read("SELECT n, (SELECT count(*) FROM u) FROM t") == [(2, 3)]
    await database.close()


async def test_a_plain_send_is_two_statements_however_long_the_history(dsn, statements):
    store = await open_store(dsn)
    loop = StatefulAgentLoop(llm=ScriptedLLM(["yes"] * 6), store=store)
    session = await loop.new_session()
    for _ in range(6):
        before = len(statements())
        await loop.send("hi", session)
        said = [text for text in statements()[before:] if "pg_notify" not in text]
    assert len(said) == 2, said
    assert all(" WITH s0 AS (UPDATE pl_sessions" in text for text in said)
    await loop.aclose()
    await store.close()


async def test_the_statements_of_a_schema_are_sent_together(dsn, statements):
    await (await open_database(dsn)).database.close()
    assert [text.partition(" SET LOCAL")[0] for text in statements() if "execute" not in text] == [
        "statement: BEGIN", "statement:", "statement: COMMIT",
    ]  # fmt: skip


async def test_parts_that_meet_in_a_row_or_a_table_see_each_other(database):
    await database.write([put("a"), change("a", "1"), change("a", "2"), Statement("DELETE FROM pl_state WHERE state_key = 'b'", (), 0)])
    assert await values(database) == {"a": "2"}
    copy = "INSERT INTO pl_state SELECT 'o', 'copy', value, 0, 0, 0 FROM pl_state WHERE state_key = 'c'"
    await database.write([put("c", "3"), Statement(copy, (), 1)])
    assert (await values(database))["copy"] == "3"


async def test_a_long_batch_is_written_whole(database):
    await database.write([put(f"k{n}") for n in range(200)])
    assert len(await values(database)) == 200


async def test_no_more_connections_are_opened_than_allowed(dsn, rival):
    database = PostgresDatabase(parse_dsn(f"{dsn}?pool_max=2"))
    assert await backends(rival) == []
    answers = await asyncio.gather(*(database.read("SELECT pg_backend_pid()") for _ in range(20)))
    assert 1 <= len({rows[0][0] for rows in answers}) <= 2
    assert len(await backends(rival)) <= 2
    await database.close()
    await until(rival, f"SELECT count(*) = 0 FROM pg_stat_activity WHERE {OTHERS}")


async def test_a_session_is_bounded_in_all_that_it_waits_for(dsn):
    database = PostgresDatabase(parse_dsn(f"{dsn}?statement_timeout=7000&application_name=mine"))
    names = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "transaction_isolation", "application_name")
    shown = (await database.read("SELECT " + ", ".join(f"current_setting('{name}')" for name in names)))[0]
    assert shown == ("10s", "7s", "15s", "read committed", "mine")
    await database.close()


async def test_a_pooler_that_prepares_nothing_is_served_all_the_same(dsn):
    database = PostgresDatabase(parse_dsn(f"{dsn}?statement_cache_size=0"))
    await database.write([Statement("CREATE TABLE t (k text)")])
    for key in "abc":
        await database.write([Statement("INSERT INTO t VALUES (?)", (key,), 1)])
    assert await database.read("SELECT count(*) FROM t WHERE k <= ?", ("b",)) == [(2,)]
    assert await database.read("SELECT count(*) FROM pg_prepared_statements") == [(0,)]
    await database.close()


# --- values --------------------------------------------------------------------------------------------


async def test_a_text_that_postgresql_cannot_keep_is_refused_by_name_and_leaves_nothing(database):
    for batch in ([put("a"), put("b", "x\0y")], [put("a"), put("b"), change("b", "x\0y")]):
        assert "NUL" in await told(ValueError, database.write(batch))
    await told(ValueError, database.write([put("a", "\ud800")]))
    assert await database.read("SELECT count(*) FROM pl_state WHERE state_key = ?", ("x\0y",)) == [(0,)], "it cannot be there"
    assert await values(database) == {}


async def test_a_value_of_the_wrong_kind_is_refused_and_leaves_nothing(database):
    for wrong in (7, b"x", object()):
        await told(ValueError, database.write([put("a"), put("b", wrong)]))
        await told(ValueError, database.write([put("a"), put("b"), change("b", wrong)]))
    for wrong in ("7", 2**63):
        await told(ValueError, database.write([put("a"), put("b", version=wrong)]))
    assert await values(database) == {}
    await database.write([put("a", version=True)])


async def test_too_few_or_too_many_values_are_a_mistake_of_the_caller(database):
    for params in ((), ("a", "b")):
        await told(Exception, database.read("SELECT ?::text", params))
        await told(Exception, database.write([Statement("UPDATE pl_state SET value = ?", params)]))
    await database.write([put("a")])


# --- batches that meet others ------------------------------------------------------------------------------


async def test_a_batch_that_was_chosen_to_end_a_deadlock_is_tried_again(dsn, rival):
    # Who begins to wait last finds the deadlock, and gives way: a third one keeps our batch back until the rival waits.
    database, third = PostgresDatabase(parse_dsn(f"{dsn}?deadlock_timeout=1")), await asyncpg.connect(dsn)
    await rival.execute("SET deadlock_timeout = '1min'")
    await database.write(
        [Statement("CREATE TABLE t (k text PRIMARY KEY, n int)"), Statement("INSERT INTO t SELECT unnest(ARRAY['a', 'b', 'm']), 0")]
    )
    await rival.execute("BEGIN; UPDATE t SET n = n + 10 WHERE k = 'a'")
    await third.execute("BEGIN; UPDATE t SET n = n + 10 WHERE k = 'm'")
    write = asyncio.ensure_future(database.write([Statement("UPDATE t SET n = n + 1 WHERE k = ?", (k,), 1) for k in ("b", "m", "a")]))
    await until(third, "SELECT count(*) = 1 FROM pg_locks WHERE NOT granted")
    update = asyncio.ensure_future(rival.execute("UPDATE t SET n = n + 10 WHERE k = 'b'; COMMIT"))
    await until(third, "SELECT count(*) = 2 FROM pg_locks WHERE NOT granted")
    await third.execute("COMMIT")
    await asyncio.gather(write, update)
    assert await database.read("SELECT k, n FROM t ORDER BY k") == [("a", 11), ("b", 11), ("m", 11)]
    await third.close()
    await database.close()


@pytest.mark.parametrize("parts", [[change("a", "ours")], [put("b"), change("a", "ours")]], ids=["one statement", "a transaction"])
async def test_a_batch_that_waits_in_vain_is_refused_and_leaves_nothing(dsn, database, rival, parts):
    await database.write([put("a")])
    impatient = PostgresDatabase(parse_dsn(f"{dsn}?lock_timeout=20"))
    await rival.execute("BEGIN; UPDATE pl_state SET value = 'rival'")
    text = await told(StoreUnavailable, impatient.write(parts))
    assert "others held the rows" in text
    assert "nothing of the batch was written" in text
    await rival.execute("COMMIT")
    assert await values(impatient) == {"a": "rival"}
    assert await backends(rival, "idle in transaction%") == []
    await impatient.close()


async def test_a_refused_batch_holds_no_lock_and_no_transaction_afterwards(database, rival):
    await database.write([put("a")])
    await told(Conflict, database.write([change("a", "1"), change("gone", "2")]))
    await told(Conflict, database.write([change("a", "1"), put("a")]))
    await told(StoreUnavailable, database.write([change("a", "1"), Statement("UPDATE no_such_table SET x = 1")]))
    assert await backends(rival, "idle in transaction%") == []
    await rival.execute("SET lock_timeout = 1; UPDATE pl_state SET value = 'free'")


async def test_a_conflict_says_how_many_rows_were_touched(database):
    for guard in (change("gone", "1"), Statement("DELETE FROM pl_state WHERE state_key = ?", ("gone",), 2)):
        assert f"0 instead of {guard.touches}" in await told(
            Conflict, database.write([guard, Statement("UPDATE pl_waiters SET holder = 'h'")])
        )


# acceptance: 39 (no open transaction)
async def test_who_is_cancelled_leaves_no_transaction_open(database, rival):
    await database.write([put("a", "0")])
    for steps in range(8):
        tasks = [asyncio.ensure_future(cancellable(database, [put(f"{steps}-{n}"), change("a", str(n))])) for n in range(4)]
        for _ in range(steps):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await database.write([put("end")])
    assert await backends(rival, "idle in transaction%") == []


async def cancellable(database, batch):
    await database.write(batch)


# --- connections that are lost ---------------------------------------------------------------------------


async def test_ended_connections_are_replaced_without_a_word(database, rival):
    await asyncio.gather(*(database.read("SELECT 1") for _ in range(5)))
    for round_no in range(3):
        await kill_all(rival)
        await database.write([put(f"k{round_no}")])
        await kill_all(rival)
        assert len(await values(database)) == round_no + 1


async def test_a_read_whose_connection_is_ended_in_the_middle_is_read_again(database, rival):
    await database.read("SELECT 1")
    await rival.execute("BEGIN; LOCK TABLE pl_state")
    read = asyncio.ensure_future(values(database))
    await until(rival, "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted")
    await rival.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OTHERS}; COMMIT")
    assert await read == {}


@pytest.mark.parametrize(
    ("parts", "outcome"),
    [([change("a", "ours")], CommitUnknown), ([put("b"), change("a", "ours")], StoreUnavailable)],
    ids=["one statement", "a transaction"],
)
async def test_a_batch_whose_connection_is_ended_while_it_waits_is_not_said_to_be_written(database, rival, parts, outcome):
    await database.write([put("a")])
    await rival.execute("BEGIN; UPDATE pl_state SET value = 'rival'")
    write = asyncio.ensure_future(database.write(parts))
    await until(rival, "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()")
    await rival.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OTHERS}")
    await told(outcome, write)
    await rival.execute("COMMIT")
    assert await values(database) == {"a": "rival"}


async def test_a_line_that_goes_dead_is_given_up_and_its_locks_are_taken_from_it(dsn, database, rival):
    await database.write([put("a")])
    impatient = PostgresDatabase(parse_dsn(f"{dsn}?command_timeout=2"))
    await rival.execute("BEGIN; UPDATE pl_state SET value = 'rival'")
    await told(CommitUnknown, impatient.write([change("a", "ours")]))
    waiting = "SELECT count(*) = 0 FROM pg_locks WHERE NOT granted"
    await until(rival, waiting)
    await rival.execute("COMMIT")
    await impatient.write([change("a", "ours")])
    assert await values(impatient) == {"a": "ours"}
    await impatient.close()


FORK = """
import asyncio, os, sys
from power_loop.contracts.store import Statement
from power_loop.store.open import open_database
put = lambda key: [Statement("INSERT INTO t VALUES (?)", (key,), 1)]
database = asyncio.run(open_database(sys.argv[1])).database
async def write(*keys):
    for key in keys:
        await database.write(put(key))
asyncio.run(write("before"))
child = os.fork()
asyncio.run(write(*(f"{'parent' if child else 'child'}{n}" for n in range(5))))
asyncio.run(database.close())
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


async def test_a_child_process_opens_connections_of_its_own(dsn, database, rival):
    await rival.execute("CREATE TABLE t (k text PRIMARY KEY)")
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", FORK, dsn)
    assert await process.wait() == 0
    assert await database.read("SELECT count(*) FROM t") == [(11,)]


async def test_a_server_that_dies_and_comes_back_is_used_again(monkeypatch):
    monkeypatch.setattr(postgres_connect, "COMES_BACK_S", 0.1)
    if engines.server("postgresql").pid is None:
        pytest.skip("somebody else's server is not ours to kill")
    server = type(engines.server("postgresql"))(fsync=True)
    try:
        await server.create("app")
        opened = await open_database(server.dsn("app"))
        await opened.database.write([put("a")])
        server.kill()
        assert "app" in await told(StoreUnavailable, opened.database.write([put("b")]))
        assert "nobody answers there" in await told(StoreUnavailable, opened.database.read("SELECT 1"))
        server.start()
        assert await values(opened.database) == {"a": "x"}
        await opened.database.write([put("b")])
        await opened.database.close()
    finally:
        server.stop()


# --- servers that will not do ----------------------------------------------------------------------------


async def test_what_is_wrong_with_the_address_is_said_without_the_password(dsn, rival):
    name = f"u_{parse_dsn(dsn).database}"
    await rival.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'sesame'")
    ours = dsn.replace("kernel@", f"{name}:sesame@")
    for wrong, said in (
        (ours.replace("sesame", "opensesame"), "it refused the user or the password"),
        (ours.replace(f"/{parse_dsn(dsn).database}", "/gone"), "there is no database of this name"),
        (f"{ours}?sslmode=require", "SSL"),
        (f"{ours}?no_such_setting=1", "no_such_setting"),
    ):
        database = PostgresDatabase(parse_dsn(wrong))
        for work in (database.read("SELECT 1"), database.write([put("a")])):
            text = await told(StoreUnavailable, work)
            assert said in text
            assert "sesame" not in text
        await database.close()
    await rival.execute(f"DROP ROLE {name}")


async def test_a_password_of_any_letters_opens_the_door(dsn, rival):
    name = f"v_{parse_dsn(dsn).database}"
    await rival.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'pä:ß/漢@ %'")
    database = PostgresDatabase(parse_dsn(dsn.replace("kernel@", f"{name}:p%C3%A4%3A%C3%9F%2F%E6%BC%A2%40 %25@")))
    assert await database.read("SELECT current_user::text") == [(name,)]
    await database.close()
    await rival.execute(f"DROP ROLE {name}")


@pytest.mark.parametrize("option", ["pool_max=many", "command_timeout=soon", "statement_cache_size=x", "connect_timeout=x"])
def test_an_option_that_must_be_a_number_is_refused_before_anything_is_opened(option):
    with pytest.raises(ValueError, match=option.partition("=")[0]):
        PostgresDatabase(parse_dsn(f"postgresql://u@h/d?{option}"))


async def test_an_option_that_the_driver_does_not_take_is_a_value_error(dsn):
    with pytest.raises(ValueError, match="sslmode"):
        await open_database(f"{dsn}?sslmode=perhaps")


def test_without_the_driver_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    for name in [name for name in sys.modules if name.startswith("power_loop.store.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"pip install \"power-loop\[postgres\]\""):
        __import__("power_loop.store.postgres")


# --- claims ----------------------------------------------------------------------------------------------


async def test_first_rows_takes_each_row_once_and_passes_over_what_others_hold(database, rival):
    await database.write([Statement("INSERT INTO pl_sessions (session_id, runnable_at) VALUES (?, ?)", (f"s{n}", n)) for n in range(8)])
    await rival.execute("BEGIN; UPDATE pl_sessions SET agent = 'x' WHERE session_id = 's0'")

    async def claim(token):
        tail = database.dialect.first_rows("pl_sessions", "session_id", "runnable_at <= ? AND holder IS NULL", "runnable_at", 2)
        await database.write([Statement("UPDATE pl_sessions SET holder = ? WHERE " + tail, (token, 100))])
        return {row[0] for row in await database.read("SELECT session_id FROM pl_sessions WHERE holder = ?", (token,))}

    claimed = await asyncio.gather(*(claim(f"t{n}") for n in range(3)))
    await rival.execute("ROLLBACK")
    assert sorted(map(len, claimed)) == [2, 2, 2]
    assert set.union(*claimed) == {f"s{n}" for n in range(1, 7)}


async def test_a_database_whose_encoding_lacks_characters_is_refused_with_the_way_out(dsn, rival):
    name = f"latin_{parse_dsn(dsn).database}"
    await rival.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    try:
        with pytest.raises(StoreUnavailable, match="its encoding LATIN1 lacks characters; make a database with ENCODING 'UTF8'"):
            await open_database(dsn.replace(parse_dsn(dsn).database, name))
    finally:
        await rival.execute(f"DROP DATABASE {name}")


async def test_of_several_servers_the_one_that_is_as_wanted_is_spoken_to(dsn):
    where = f"{parse_dsn(dsn).host}:{parse_dsn(dsn).port}"
    database = PostgresDatabase(parse_dsn(f"{dsn.replace(where, f'127.0.0.1:1,{where}')}?target_session_attrs=primary"))
    assert await database.read("SELECT 1") == [(1,)]
    await database.close()
