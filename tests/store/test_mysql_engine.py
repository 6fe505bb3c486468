"""MySQL and MariaDB: what the server is told, what its errors become, and that nothing of a batch is left half done."""

from __future__ import annotations

import asyncio
import sys
import time

import engines
import pytest
import servers_mysql
from small_state import change, put, told, values

from power_loop.contracts.errors import StoreUnavailable
from power_loop.contracts.store import Conflict, Statement
from power_loop.store import mysql_wire
from power_loop.store.dsn import parse_dsn
from power_loop.store.mysql import MysqlDatabase
from power_loop.store.mysql_text import literal
from power_loop.store.mysql_wire import refusal
from power_loop.store.open import open_database

BOTH = ["mariadb", "mysql"]


@pytest.fixture(params=BOTH)
def server(request):
    return engines.own(request.param)


@pytest.fixture(params=BOTH)
async def dsn(request, tmp_path):
    async with engines.cleared(request.param, tmp_path) as dsn:
        yield dsn


@pytest.fixture
async def database(dsn):
    opened = await open_database(dsn)
    yield opened.database
    await opened.database.close()


@pytest.fixture
async def rival(dsn):
    """A second program's connection, for statements outside of any batch."""
    async with servers_mysql.connected(dsn) as wire:
        yield wire


async def open_transactions(dsn, rival):
    """How many transactions of other connections to the same database are open."""
    sql = (
        b"SELECT count(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id"
        b" WHERE p.db = DATABASE() AND p.id <> CONNECTION_ID()"
    )
    await rival.rows(b"SELECT SLEEP(0.15)")  # InnoDB shows what it saw before, to whoever asks again within a tenth of a second
    return (await rival.rows(sql))[0][0]


async def connections(rival):
    sql = b"SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
    return [row[0] for row in await rival.rows(sql)]


# --- what the session is ------------------------------------------------------------------------------


async def test_the_session_is_ours_whatever_the_servers_settings_are(database):
    assert await database.read("SELECT @@session.autocommit, @@session.completion_type") == [(1, "NO_CHAIN")]
    shown = dict(await database.read("SHOW VARIABLES WHERE Variable_name IN ('tx_isolation', 'transaction_isolation')"))
    assert set(shown.values()) == {"READ-COMMITTED"}
    mode = (await database.read("SELECT @@session.sql_mode"))[0][0]
    assert {"STRICT_ALL_TABLES", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES", "PIPES_AS_CONCAT"} <= set(mode.split(","))


async def test_the_servers_clock_is_right_in_any_time_zone(database):
    zone, now = (await database.read(f"SELECT @@session.time_zone, {database.dialect.now}"))[0]
    assert zone == "+05:00"
    assert abs(now - time.time() * 1000) < 5000
    assert type(now) is int


async def test_no_more_connections_are_opened_than_allowed(dsn, rival):
    database = MysqlDatabase(parse_dsn(f"{dsn}?pool_max=2"))
    answers = await asyncio.gather(*(database.read("SELECT CONNECTION_ID()") for _ in range(20)))
    assert 1 <= len({rows[0][0] for rows in answers}) <= 2
    assert len(await connections(rival)) <= 2
    await database.close()
    while await connections(rival):  # the server takes a moment to see the end
        pass


# --- values ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backslash_escapes", [False, True])
async def test_every_text_and_every_byte_arrives_as_it_was_in_both_ways_to_read_backslashes(database, rival, backslash_escapes):
    await rival.run([b"SET SESSION sql_mode = %s" % (b"''" if backslash_escapes else b"'NO_BACKSLASH_ESCAPES'")])
    assert rival.backslash_escapes is backslash_escapes
    texts = ["\\", "'", "\\'", "'; DROP TABLE pl_state; -- ", "a\0b\x1a\r\n\t%s?{}", "\U0001f600\\\U0010ffff'", '"`']
    pairs = [bytes([first, second]) for first in (0x27, 0x5C, 0xC3, 0xE2, 0xF0, 0xFF) for second in range(256)]
    for value in (*texts, b"".join(pairs)):
        text = b"SELECT " + literal(value, backslash_escapes)
        assert await rival.rows(text) == [(value,)]


async def test_a_text_too_long_for_its_column_is_refused_and_not_cut(database):
    assert "Data too long" in await told(StoreUnavailable, database.write([put("k" * 192)]))
    longest = "\U0001f600" * 191
    await database.write([put(longest)])
    assert await values(database) == {longest: "x"}


async def test_a_batch_longer_than_the_server_accepts_is_refused_with_the_way_out(database):
    huge = "x" * (64 << 20)
    text = await told(StoreUnavailable, database.write([put("a"), put("b", huge)]))
    assert "max_allowed_packet" in text
    assert await values(database) == {}


async def test_sums_and_counts_are_plain_numbers(database):
    await database.write([put("a", version=2**62), put("b", version=1)])
    assert await database.read("SELECT SUM(version), COUNT(*), AVG(version) > 1.5, 0.5 FROM pl_state") == [(2**62 + 1, 2, 1, 0.5)]


async def test_bars_between_texts_join_them_as_on_other_engines(database):
    assert await database.read("SELECT 'a' || ?", ("b",)) == [("ab",)]


async def test_too_few_or_too_many_values_are_a_mistake_of_the_caller(database):
    for params in ((), ("a", "b")):
        await told(ValueError, database.read("SELECT ?", params))


# --- batches that meet others ------------------------------------------------------------------------------


async def test_a_batch_that_was_chosen_to_end_a_deadlock_is_tried_again(database, rival):
    await database.write([put(key) for key in ("a", "b", "1", "2", "3", "4")])
    # Whoever changed less gives way, so the rival changes more.
    await rival.run([b"START TRANSACTION", b"UPDATE pl_state SET value = 'rival' WHERE state_key IN ('a', '1', '2', '3', '4')"])
    deadlocks = b"SELECT count FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks'"
    before = (await rival.rows(deadlocks))[0][0]
    write = database.write([change("b", "ours"), change("a", "ours")])
    await waits_for_a_lock(rival)
    await rival.run([b"UPDATE pl_state SET value = 'rival' WHERE state_key = 'b'", b"COMMIT"])
    await write
    assert (await rival.rows(deadlocks))[0][0] == before + 1
    assert await values(database) == {"a": "ours", "b": "ours"} | dict.fromkeys("1234", "rival")


async def test_a_batch_that_waits_in_vain_is_refused_and_leaves_nothing(dsn, database, rival):
    await database.write([put("a")])
    await rival.run([b"START TRANSACTION", b"UPDATE pl_state SET value = 'rival'"])
    impatient = MysqlDatabase(parse_dsn(dsn), lock_wait_s=1)
    text = await told(StoreUnavailable, impatient.write([put("b"), change("a", "ours")]))
    assert "others held the rows" in text
    assert "nothing of the batch was written" in text
    await rival.run([b"COMMIT"])
    assert await values(impatient) == {"a": "rival"}
    assert await open_transactions(dsn, rival) == 0
    await impatient.close()


async def test_a_refused_batch_holds_no_lock_afterwards(dsn, database, rival):
    await database.write([put("a")])
    await told(Conflict, database.write([change("a", "1"), change("gone", "2")]))
    await told(Conflict, database.write([change("a", "1"), put("a")]))
    await told(StoreUnavailable, database.write([change("a", "1"), Statement("UPDATE no_such_table SET x = 1")]))
    assert await open_transactions(dsn, rival) == 0
    await rival.run([b"SET SESSION innodb_lock_wait_timeout = 1", b"UPDATE pl_state SET value = 'free'"])
    assert await values(database) == {"a": "free"}


# acceptance: 39 (no open transaction)
async def test_who_is_cancelled_leaves_no_transaction_open(dsn, database, rival):
    await database.write([put("a", "0")])
    for steps in range(8):
        tasks = [asyncio.ensure_future(cancellable(database, [change("a", str(n)), put(f"{steps}-{n}")])) for n in range(4)]
        for _ in range(steps):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await database.write([put("end")])
    assert await open_transactions(dsn, rival) == 0


async def cancellable(database, batch):
    await database.write(batch)


async def waits_for_a_lock(rival):
    """Return once some transaction of the server waits for a row."""
    while (await rival.rows(b"SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'"))[0][1] == "0":
        pass


# --- connections that are lost ---------------------------------------------------------------------------


async def test_killed_connections_are_replaced_without_a_word(database, rival):
    await asyncio.gather(*(database.read("SELECT 1") for _ in range(5)))
    for round_no in range(3):
        await kill_all(rival)
        await database.write([put(f"k{round_no}")])
        await kill_all(rival)
        assert len(await values(database)) == round_no + 1


async def test_a_batch_whose_connection_is_killed_while_it_waits_is_not_written(database, rival):
    await database.write([put("a")])
    await rival.run([b"START TRANSACTION", b"UPDATE pl_state SET value = 'rival'"])
    write = asyncio.ensure_future(database.write([put("b"), change("a", "ours")]))
    await waits_for_a_lock(rival)
    await kill_all(rival)
    error = (await asyncio.gather(write, return_exceptions=True))[0]
    assert type(error).__name__ in ("StoreUnavailable", "CommitUnknown")
    await rival.run([b"COMMIT"])
    assert await values(database) == {"a": "rival"}


FORK = """
import asyncio, os, sys
from power_loop.contracts.store import Statement
from power_loop.store.dsn import parse_dsn
from power_loop.store.mysql import MysqlDatabase
database = MysqlDatabase(parse_dsn(sys.argv[1]))
async def write(*keys):
    for key in keys:
        await database.write([Statement("INSERT INTO pl_sessions (session_id) VALUES (?)", (key,), 1)])
asyncio.run(write("before"))
child = os.fork()
asyncio.run(write(*(f"{'parent' if child else 'child'}{n}" for n in range(5))))
asyncio.run(database.close())
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


async def test_a_child_process_opens_connections_of_its_own(dsn, database):
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", FORK, dsn)
    assert await process.wait() == 0
    assert await database.read("SELECT count(*) FROM pl_sessions") == [(11,)]


async def kill_all(rival):
    for connection in await connections(rival):
        await rival.run([b"KILL %d" % connection])
    while await connections(rival):
        pass


async def test_a_server_that_dies_and_comes_back_is_waited_for_and_used_again(monkeypatch):
    server = servers_mysql.Mysql(engines.own("mariadb").build, fsync=True)
    try:
        await server.create("app")
        opened = await open_database(server.dsn("app"))
        await opened.database.write([put("a")])
        server.kill()
        assert "nobody answers there" in await told(StoreUnavailable, opened.database.write([put("never")]))
        monkeypatch.setattr(mysql_wire, "COMES_BACK_S", 60.0)  # however busy the machine is
        later = [opened.database.write([put(key)]) for key in ("b", "c")]
        await asyncio.to_thread(server.start)
        await asyncio.gather(*later)
        assert await values(opened.database) == {"a": "x", "b": "x", "c": "x"}
        await opened.database.close()
    finally:
        server.stop()


# --- servers that will not do ----------------------------------------------------------------------------


# acceptance: 186 (part)
async def test_what_is_wrong_with_the_address_is_said_without_the_password(server):
    host = server.dsn("").partition("@")[2].rstrip("/")
    await server.run("CREATE DATABASE IF NOT EXISTS app", "CREATE USER IF NOT EXISTS 'u'@'127.0.0.1' IDENTIFIED BY 'sesame'")
    for dsn, said in (
        (f"mysql://u:opensesame@{host}/app", "it refused the user or the password"),
        (f"mysql://u:sesame@{host}/app", "this user may not use this database"),
        (f"mysql://kernel@{host}/gone", "there is no database of this name"),
        ("mysql://u:sesame@127.0.0.1:1/app", "nobody answers there"),
    ):
        database = MysqlDatabase(parse_dsn(dsn))
        for work in (database.read("SELECT 1"), database.write([put("a")])):
            text = await told(StoreUnavailable, work)
            assert said in text
            assert "sesame" not in text
        await database.close()


async def test_a_password_of_any_letters_opens_the_door(server):
    host = server.dsn("").partition("@")[2].rstrip("/")
    await server.run("CREATE DATABASE IF NOT EXISTS app", "CREATE USER IF NOT EXISTS 'v'@'127.0.0.1' IDENTIFIED BY 'pä:ß/漢@'")
    await server.run("GRANT ALL ON app.* TO 'v'@'127.0.0.1'")
    database = MysqlDatabase(parse_dsn(f"mysql://v:p%C3%A4%3A%C3%9F%2F%E6%BC%A2%40@{host}/app"))
    assert await database.read("SELECT DATABASE()") == [("app",)]
    await database.close()


def test_old_servers_and_clusters_are_refused_by_name():
    for version in ("10.5.29-MariaDB-log", "8.0.16", "5.7.44-log", "8.0.11-TiDB-v7.5.0", "nonsense"):
        assert version in (refusal({"version": version}, False) or "")
    for version in ("10.6.0-MariaDB", "11.8.3-MariaDB-ubu2404", "8.0.17", "8.4.6-commercial", "9.7.4-2"):
        assert refusal({"version": version, "wsrep_on": "OFF"}, False) is None
    galera = {"version": "10.11.19-MariaDB", "wsrep_on": "ON"}
    assert "allow_galera=1" in (refusal(galera, False) or "")
    assert refusal(galera, True) is None


@pytest.mark.parametrize(
    "dsn",
    [
        "mysql://u@h", "mysql://u@h/d?charset=latin1", "mysql://u@h/d?pool_max=0", "mysql://u@h/d?ssl_verify=perhaps",
        "mysql://u@h/d?ssl_key=x",
    ],
)  # fmt: skip
def test_options_that_no_server_could_satisfy_are_refused_before_anything_is_opened(dsn):
    with pytest.raises(ValueError, match="mysql"):
        MysqlDatabase(parse_dsn(dsn))


def test_without_the_driver_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "aiomysql.connection", None)
    for name in [name for name in sys.modules if name.startswith("power_loop.store.mysql")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"pip install \"power-loop\[mysql\]\""):
        __import__("power_loop.store.mysql")


# --- claims ----------------------------------------------------------------------------------------------


async def test_first_rows_gives_each_row_to_one_of_many_who_ask_at_once(database):
    await database.write([Statement("INSERT INTO pl_sessions (session_id, runnable_at) VALUES (?, ?)", (f"s{n}", n)) for n in range(8)])

    async def claim(token):
        tail = database.dialect.first_rows("pl_sessions", "session_id", "runnable_at <= ? AND holder IS NULL", "runnable_at", 2)
        await database.write([Statement("UPDATE pl_sessions SET holder = ? WHERE " + tail, (token, 100))])
        return {row[0] for row in await database.read("SELECT session_id FROM pl_sessions WHERE holder = ?", (token,))}

    claimed = await asyncio.gather(*(claim(f"t{n}") for n in range(5)))
    assert sorted(map(len, claimed)) == [0, 2, 2, 2, 2]
    assert set.union(*claimed) == {f"s{n}" for n in range(8)}


async def test_a_server_of_this_machine_is_reached_through_its_socket(server):
    where = server.dsn("nothing").replace(f"127.0.0.1:{server.port}", "")
    with pytest.raises(StoreUnavailable, match=r"socket/nothing: it refused the user.*'kernel'@'localhost'"):  # known from 127.0.0.1 only
        await open_database(f"{where}?unix_socket={server.folder / 'socket'}")
    with pytest.raises(StoreUnavailable, match="kernel@/nowhere/socket/nothing: nobody answers there"):
        await open_database(f"{where}?unix_socket=/nowhere/socket")


async def test_what_an_administrator_set_for_everybody_cuts_no_answer_short(database):
    assert await database.read("SELECT @@SESSION.sql_select_limit, @@SESSION.sql_big_selects") == [(2**64 - 1, 1)]
