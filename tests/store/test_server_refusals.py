"""Servers that refuse again and again, fall silent in the middle, or are spoken to through something else."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import engines
import pytest
import servers_mysql
from small_state import put, told, values

from power_loop.contracts.errors import StoreUnavailable
from power_loop.contracts.store import Statement
from power_loop.store import mysql_schema, mysql_wire, postgres_connect
from power_loop.store.dsn import parse_dsn
from power_loop.store.mysql import MysqlDatabase
from power_loop.store.mysql_line import TRIES as MYSQL_TRIES
from power_loop.store.mysql_text import literal
from power_loop.store.open import open_database
from power_loop.store.postgres import TRIES as POSTGRES_TRIES
from power_loop.store.postgres import PostgresDatabase

BOTH = ["mariadb", "mysql"]


@pytest.fixture
async def postgres(tmp_path):
    async with engines.fresh("postgresql", tmp_path) as dsn:
        yield dsn


@pytest.fixture(params=BOTH)
async def mysql(request, tmp_path):
    async with engines.cleared(request.param, tmp_path) as dsn:
        yield dsn


@pytest.fixture
async def rival(mysql):
    """A second program's connection."""
    async with servers_mysql.connected(mysql) as wire:
        yield wire


# --- again and again ---------------------------------------------------------------------------------

ALWAYS_GIVES_WAY = """
CREATE SEQUENCE tried;
CREATE FUNCTION give_way() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM nextval('tried'); RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001'; END $$;
CREATE TRIGGER gives_way BEFORE INSERT ON pl_state FOR EACH ROW EXECUTE FUNCTION give_way();
"""


@pytest.mark.parametrize("parts", [[put("a")], [put("a"), put("a")]], ids=["one statement", "a transaction"])
async def test_a_batch_that_postgresql_undoes_again_and_again_is_refused_at_last(postgres, parts):
    database = (await open_database(postgres)).database
    rival = await asyncpg.connect(postgres)
    await rival.execute(ALWAYS_GIVES_WAY)
    text = await told(StoreUnavailable, database.write(parts))
    assert "others changed the same rows again and again" in text
    assert "nothing of the batch was written" in text
    assert await rival.fetchval("SELECT last_value FROM tried") == POSTGRES_TRIES
    await rival.close()
    await database.close()


async def test_a_batch_that_mysql_undoes_again_and_again_is_refused_at_last(mysql, rival):
    database = MysqlDatabase(parse_dsn(mysql))
    signal = b"SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'deadlock'"
    body = b"BEGIN SET @tried = COALESCE(@tried, 0) + 1; %s; END" % signal
    await rival.run([b"CREATE TRIGGER gives_way BEFORE INSERT ON pl_state FOR EACH ROW " + body])
    try:
        text = await told(StoreUnavailable, database.write([put("a")]))
    finally:
        await rival.run([b"DROP TRIGGER gives_way"])
    assert "others were given way again and again" in text
    assert "nothing of the batch was written" in text
    assert await database.read("SELECT @tried") == [(MYSQL_TRIES,)]
    await database.close()


# --- in the middle -----------------------------------------------------------------------------------


async def test_a_read_whose_connection_is_killed_in_the_middle_is_read_again(mysql, rival):
    database = MysqlDatabase(parse_dsn(mysql))
    [(ours,)] = await database.read("SELECT CONNECTION_ID()")
    await rival.run([b"LOCK TABLES pl_state WRITE"])
    read = asyncio.ensure_future(values(database))
    state = b"SELECT count(*) FROM information_schema.processlist WHERE id = %d AND state LIKE 'Waiting for%%'" % ours
    while (await rival.rows(state))[0][0] == 0:
        pass
    await rival.run([b"KILL %d" % ours, b"UNLOCK TABLES"])
    assert await read == {}
    await database.close()


async def test_an_answer_that_does_not_come_is_waited_for_within_the_limit_and_once(mysql, rival, monkeypatch):
    database = MysqlDatabase(parse_dsn(f"{mysql}?pool_max=1"), lock_wait_s=1)
    await database.read("SELECT 1")
    monkeypatch.setattr(mysql_wire, "ANSWER_S", -0.8)  # beyond the wait for locks
    assert "no answer came in time; nothing was read" in await told(StoreUnavailable, database.read("SELECT SLEEP(20), @@port"))
    asked = b"SELECT id FROM information_schema.processlist WHERE info = 'SELECT SLEEP(20), @@port'"
    [(ours,)] = await rival.rows(asked)
    await rival.run([b"KILL %d" % ours])
    monkeypatch.undo()
    assert await database.read("SELECT 1") == [(1,)]
    await database.close()


async def test_an_answer_that_postgresql_does_not_give_is_waited_for_once(postgres):
    making = PostgresDatabase(parse_dsn(postgres))
    await making.write([Statement("CREATE SEQUENCE tried")])
    database = PostgresDatabase(parse_dsn(f"{postgres}?pool_max=1&command_timeout=0.4"))
    text = await told(StoreUnavailable, database.read("SELECT nextval('tried'), pg_sleep(20)"))
    assert "no answer came in time; nothing was read" in text
    assert await making.read("SELECT last_value, is_called FROM tried") == [(1, True)]
    await database.close()
    await making.close()


@pytest.mark.parametrize("engine", [*BOTH, "postgresql"])
async def test_a_read_that_is_cancelled_in_the_middle_leaves_the_line_to_the_next_one_as_it_was(engine, tmp_path):
    """The next one has to wait on the same line until the answer that nobody wants has come."""
    async with engines.cleared(engine, tmp_path) as dsn:
        database = (await open_database(f"{dsn}?pool_max=1")).database
        slow = "pg_sleep(2)" if engine == "postgresql" else "SLEEP(2)"
        told: list[str] = []
        unwanted, next_one = database.read(f"SELECT 'unwanted', {slow}"), database.read("SELECT 1")
        next_one.add_done_callback(lambda _: told.append("the next one"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(unwanted, 0.2)
        assert told == [], "the line still reads for nobody, and whoever waited went on before it was done"
        assert await asyncio.gather(*(database.read(f"SELECT {n}") for n in range(5))) == [[(n,)] for n in range(5)]
        await database.write([put("a")])
        assert await values(database) == {"a": "x"}
        await database.close()


async def test_who_finds_the_schema_kept_by_another_process_is_told_so(mysql, rival, monkeypatch):
    monkeypatch.setattr(mysql_schema, "_LOCK_S", 0)
    assert await mysql_schema.lock_schema(rival)
    database = MysqlDatabase(parse_dsn(mysql))
    text = await told(StoreUnavailable, database.write([Statement("CREATE TABLE t (k INT)")]))
    assert "another process is changing the schema; nothing of the batch was written" in text
    await database.close()


# --- what will not do --------------------------------------------------------------------------------


async def test_a_server_that_will_not_do_is_left_at_once_with_the_reason(mysql, monkeypatch):
    monkeypatch.setattr(mysql_wire, "refusal", lambda variables, galera: f"it is version {variables['version']}")
    database = MysqlDatabase(parse_dsn(mysql))
    assert "it is version" in await told(StoreUnavailable, database.read("SELECT 1"))
    await database.close()


def test_a_number_that_is_none_is_kept_by_no_server():
    for value in (float("inf"), float("nan")):
        with pytest.raises(ValueError, match="cannot be kept in a database"):
            literal(value, False)


async def test_a_pooler_that_knows_none_of_our_settings_is_used_without_them(postgres, monkeypatch):
    asked: list[Any] = []
    really = postgres_connect.connect

    async def through_a_pooler(dsn, *, server_settings, **options):
        asked.append(server_settings)
        if server_settings:
            raise asyncpg.ProtocolViolationError("unsupported startup parameter: lock_timeout")
        return await really(dsn, server_settings=server_settings, **options)

    monkeypatch.setattr(postgres_connect, "connect", through_a_pooler)
    database = PostgresDatabase(parse_dsn(f"{postgres}?pool_max=1"))
    assert await database.read("SELECT 1") == [(1,)]
    await database.close()
    assert [bool(settings) for settings in asked] == [True, False]
