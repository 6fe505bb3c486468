"""The schema on MySQL and MariaDB, where every statement of it commits: created, migrated, verified or refused, by any number at once."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import engines
import pymysql
import pytest

from power_loop.contracts.errors import StoreSchemaError, StoreUnavailable
from power_loop.contracts.store import Conflict, SchemaPolicy, Statement
from power_loop.store.dsn import parse_dsn
from power_loop.store.migrate import bring_up, script
from power_loop.store.mysql import MysqlDatabase
from power_loop.store.mysql_dialect import MysqlDialect
from power_loop.store.open import open_database
from power_loop.store.schema import Column, Migration, Schema, Table, View
from power_loop.store.tables import SCHEMA

DIALECT = MysqlDialect()
CREATE, VERIFY = SchemaPolicy.AUTO_CREATE, SchemaPolicy.VERIFY
NEXT = Schema(
    (
        *SCHEMA.migrations,
        Migration(
            SCHEMA.version + 1,
            "made up",
            tables=(Table("extras", (Column("id", "auto"), Column("note", "text", null=True)), ("id",)),),
            views=(View("noted", "SELECT note FROM {p}extras"),),
            columns=(("sessions", Column("mood", "text", null=True)), ("records", Column("weight", "int", default=1))),
        ),
    )
)


@pytest.fixture(params=["mariadb", "mysql"])
def server(request):
    return engines.own(request.param)


@pytest.fixture
async def dsn(server, tmp_path):
    async with engines.fresh("mariadb" if "maria" in server.build.name else "mysql", tmp_path) as dsn:
        yield dsn


async def open_and_close(dsn, **how):
    await (await open_database(dsn, **how)).database.close()


async def refused(dsn, **how):
    with pytest.raises(StoreSchemaError) as error:
        await open_database(dsn, **how)
    return error.value


def run_by_hand(dsn, text):
    """As a person would: all of it at once, in a session with the server's own settings."""
    where = parse_dsn(dsn)
    flags = pymysql.constants.CLIENT.MULTI_STATEMENTS
    with pymysql.connect(host=where.host, port=where.port, user=where.user, database=where.database, client_flag=flags) as connection:
        with connection.cursor() as cursor:
            cursor.execute(text)
            while cursor.nextset():
                pass
        connection.commit()


async def look_of(database):
    """Everything that the schema consists of, as the server shows it."""
    columns = "table_name, column_name, column_type, is_nullable, collation_name, column_key, extra"
    sql = f"SELECT {columns} FROM information_schema.columns WHERE table_schema = DATABASE() ORDER BY table_name, ordinal_position"
    return await database.read(sql)


# acceptance: 76
async def test_eight_processes_that_open_an_empty_database_at_once_all_succeed(dsn):
    program = f"import asyncio\nfrom power_loop.store.sql_store import open_store\nasyncio.run(open_store({dsn!r}))"
    processes = [await asyncio.create_subprocess_exec(sys.executable, "-W", "ignore", "-c", program) for _ in range(8)]
    assert await asyncio.gather(*(process.wait() for process in processes)) == [0] * 8
    opened = await open_database(dsn, schema_policy=VERIFY)
    before = await look_of(opened.database)
    await open_and_close(dsn)
    assert await look_of(opened.database) == before
    await opened.database.close()


# acceptance: 77
async def test_the_script_that_verify_asks_for_makes_what_auto_create_makes_and_may_run_twice(dsn):
    error = await refused(dsn, schema_policy=VERIFY)
    run_by_hand(dsn, error.ddl)
    opened = await open_database(dsn, schema_policy=VERIFY)
    by_hand = await look_of(opened.database)
    run_by_hand(dsn, error.ddl)
    assert await look_of(opened.database) == by_hand
    await opened.database.write(
        [Statement(f"DROP {'VIEW' if 'messages' in name and name != 'pl_records' else 'TABLE'} {name}") for name in names(by_hand)]
    )
    await opened.database.close()
    await open_and_close(dsn)
    opened = await open_database(dsn, schema_policy=VERIFY)
    assert await look_of(opened.database) == by_hand
    await opened.database.close()


def names(look):
    return list(dict.fromkeys(row[0] for row in look))


async def test_every_text_of_the_schema_is_compared_byte_by_byte_and_holds_every_character(dsn):
    opened = await open_database(dsn)
    collations = {row[4] for row in await look_of(opened.database)} - {None}
    assert collations in ({"utf8mb4_nopad_bin"}, {"utf8mb4_0900_bin"})
    await opened.database.close()


async def test_a_client_that_strips_comments_makes_no_other_tables(dsn):
    stripped = [statement.replace("/*!80017 utf8mb4_0900_bin *//*M! utf8mb4_nopad_bin */", "") for statement in script(DIALECT)]
    with pytest.raises(pymysql.err.ProgrammingError):
        run_by_hand(dsn, stripped[0])


# acceptance: 78 (servers)
async def test_a_role_that_may_not_change_the_schema_verifies_and_works(server, dsn):
    database = parse_dsn(dsn).database
    await server.run(
        "CREATE USER IF NOT EXISTS 'plain'@'127.0.0.1'", f"GRANT SELECT, INSERT, UPDATE, DELETE ON `{database}`.* TO 'plain'@'127.0.0.1'"
    )
    plain = dsn.replace("kernel@", "plain@")
    assert "CREATE TABLE" in (await refused(plain, schema_policy=VERIFY)).ddl
    with pytest.raises(StoreUnavailable, match="this user lacks a right"):
        await open_database(plain)
    await open_and_close(dsn)
    opened = await open_database(plain, schema_policy=VERIFY)
    await opened.database.write([Statement("INSERT INTO pl_sessions (session_id) VALUES ('s')")])
    assert await opened.database.read("SELECT count(*) FROM pl_messages") == [(0,)]
    await opened.database.close()


# acceptance: 79 (servers)
@pytest.mark.parametrize("policy", [CREATE, VERIFY])
async def test_a_newer_version_is_refused_without_a_write(dsn, policy):
    await open_and_close(dsn)
    run_by_hand(dsn, "UPDATE pl_schema_migrations SET version = 99")
    run_by_hand(dsn, "DROP VIEW pl_messages")
    assert "99" in str(await refused(dsn, schema_policy=policy))
    database = MysqlDatabase(parse_dsn(dsn))
    assert await database.read("SELECT version FROM pl_schema_migrations") == [(99,)]
    assert "pl_messages" not in names(await look_of(database))
    await database.close()


# acceptance: 81 (servers)
async def test_two_prefixes_in_one_database_do_not_know_of_each_other(dsn):
    one, two = await open_database(dsn, table_prefix="a_"), await open_database(dsn, table_prefix="")
    await one.database.write([Statement("INSERT INTO a_sessions (session_id) VALUES ('s')")])
    assert await two.database.read("SELECT count(*) FROM sessions") == [(0,)]
    await one.database.close()
    await two.database.close()


# --- migrating -----------------------------------------------------------------------------------------


async def test_an_older_version_is_migrated_and_its_rows_are_kept(dsn):
    await open_and_close(dsn)
    run_by_hand(dsn, "INSERT INTO pl_sessions (session_id) VALUES ('s')")
    databases = [MysqlDatabase(parse_dsn(dsn)) for _ in range(4)]
    await asyncio.gather(*(bring_up(database, DIALECT, schema=NEXT) for database in databases))
    await bring_up(databases[0], DIALECT, schema=NEXT, policy=VERIFY)
    assert await databases[0].read("SELECT session_id, mood FROM pl_sessions") == [("s", None)]
    assert await databases[0].read("SELECT version FROM pl_schema_migrations") == [(NEXT.version,)]
    for database in databases:
        await database.close()


async def test_a_migration_that_was_cut_off_anywhere_is_completed_by_the_next(dsn):
    await open_and_close(dsn)
    database = MysqlDatabase(parse_dsn(dsn))
    await database.write([Statement(DIALECT.add_column("sessions", Column("mood", "text", null=True), "pl_"))])
    await bring_up(database, DIALECT, schema=NEXT)
    assert await database.read("SELECT version FROM pl_schema_migrations") == [(NEXT.version,)]
    await database.close()


async def test_a_batch_whose_guard_does_not_hold_leaves_the_schema_as_it_was(dsn):
    await open_and_close(dsn)
    database = MysqlDatabase(parse_dsn(dsn))
    guard = Statement("UPDATE pl_schema_migrations SET version = 41 WHERE version = 7", (), 1)
    with pytest.raises(Conflict):
        await database.write([guard, Statement("DROP TABLE pl_state")])
    assert await database.read("SELECT count(*) FROM pl_state") == [(0,)]
    await database.close()


async def test_the_version_is_written_after_what_it_stands_for(dsn):
    await open_and_close(dsn)
    database = MysqlDatabase(parse_dsn(dsn))
    first = Statement("UPDATE pl_schema_migrations SET version = 42 WHERE version = 41", (), 1)
    with pytest.raises(StoreUnavailable, match="opening it again goes on from there"):
        await database.write([first, Statement("ALTER TABLE pl_no_such_table ADD COLUMN x INT")])
    assert await database.read("SELECT version FROM pl_schema_migrations") == [(41,)]
    await database.close()


def test_the_program_that_people_have_reads_the_script(server):
    """Its own client strips what it takes for comments, unless told otherwise, and must not strip these."""
    run = subprocess.run(
        ["mariadb", "--no-defaults", "-h", "127.0.0.1", "-P", str(server.port), "-u", "kernel"],
        input="CREATE DATABASE IF NOT EXISTS by_client; USE by_client;\n" + ";\n".join(script(DIALECT)) + ";\nDROP DATABASE by_client;\n",
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
