"""The schema on PostgreSQL: created, migrated, verified or refused, by any number of processes at once."""

from __future__ import annotations

import asyncio
import sys

import asyncpg
import engines
import pytest

from power_loop.contracts.errors import StoreSchemaError, StoreUnavailable
from power_loop.contracts.store import SchemaPolicy, Statement
from power_loop.store.dsn import parse_dsn
from power_loop.store.migrate import bring_up, script
from power_loop.store.open import open_database
from power_loop.store.postgres import PostgresDatabase
from power_loop.store.postgres_dialect import PostgresDialect
from power_loop.store.schema import Column, Index, Migration, Schema, Table, View
from power_loop.store.tables import SCHEMA

DIALECT = PostgresDialect()
CREATE, VERIFY = SchemaPolicy.AUTO_CREATE, SchemaPolicy.VERIFY
EXTRAS = Table("extras", (Column("id", "auto"), Column("note", "text", null=True)), ("id",), indexes=(Index("extras_note", ("note",)),))
NEXT = Schema(
    (
        *SCHEMA.migrations,
        Migration(
            SCHEMA.version + 1,
            "made up",
            tables=(EXTRAS,),
            views=(View("noted", "SELECT note FROM {p}extras"),),
            columns=(("sessions", Column("mood", "text", null=True)), ("records", Column("weight", "int", default=1))),
        ),
    )
)


@pytest.fixture
async def dsn(tmp_path):
    async with engines.fresh("postgresql", tmp_path) as dsn:
        yield dsn


@pytest.fixture
async def hand(dsn):
    """A connection of somebody with a shell."""
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


async def open_and_close(dsn, **how):
    await (await open_database(dsn, **how)).database.close()


async def refused(dsn, **how):
    with pytest.raises(StoreSchemaError) as error:
        await open_database(dsn, **how)
    return error.value


async def everything(hand):
    """What the schema consists of, and the transaction that wrote each row of its version."""
    columns = "table_name, column_name, data_type, collation_name, is_nullable, column_default, is_identity"
    seen = [
        tuple(row)
        for row in await hand.fetch(f"SELECT {columns} FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2")
    ]
    seen += [tuple(row) for row in await hand.fetch("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1")]
    if await hand.fetchval("SELECT to_regclass('pl_schema_migrations')") is not None:
        seen += [tuple(row) for row in await hand.fetch("SELECT xmin::text, id, version FROM pl_schema_migrations")]
    return seen


# acceptance: 76
async def test_eight_processes_that_open_an_empty_database_at_once_all_succeed(dsn, hand):
    program = f"import asyncio\nfrom power_loop.store.sql_store import open_store\nasyncio.run(open_store({dsn!r}))"
    processes = [await asyncio.create_subprocess_exec(sys.executable, "-W", "ignore", "-c", program) for _ in range(8)]
    assert await asyncio.gather(*(process.wait() for process in processes)) == [0] * 8
    before = await everything(hand)
    await open_and_close(dsn)
    await open_and_close(dsn, schema_policy=VERIFY)
    assert await everything(hand) == before


# acceptance: 77
async def test_the_script_that_verify_asks_for_makes_what_auto_create_makes_and_may_run_twice(dsn, hand):
    error = await refused(dsn, schema_policy=VERIFY)
    assert str(error).endswith(error.ddl)
    await hand.execute(error.ddl)
    await open_and_close(dsn, schema_policy=VERIFY)
    by_hand = await everything(hand)
    await hand.execute(error.ddl)
    assert await everything(hand) == by_hand
    await hand.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await open_and_close(dsn)
    assert [row for row in await everything(hand) if len(row) != 3] == [row for row in by_hand if len(row) != 3]


# acceptance: 78 (servers)
async def test_a_role_that_may_not_change_the_schema_verifies_and_works(dsn, hand):
    name = f"plain_{parse_dsn(dsn).database}"
    await hand.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'plain'; REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    plain = dsn.replace("kernel@", f"{name}:plain@")
    assert "CREATE TABLE" in (await refused(plain, schema_policy=VERIFY)).ddl
    with pytest.raises(StoreUnavailable, match="this user lacks a right"):
        await open_database(plain)
    await open_and_close(dsn)
    await hand.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}")
    opened = await open_database(plain, schema_policy=VERIFY)
    await opened.database.write([Statement("INSERT INTO pl_sessions (session_id) VALUES (?)", ("s",))])
    await opened.database.write([Statement("INSERT INTO pl_waiters (session_id, holder, alive_until) VALUES ('s', 'h', 0)")])
    assert await opened.database.read("SELECT count(*) FROM pl_messages") == [(0,)]
    await opened.database.close()
    await hand.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


# acceptance: 79 (servers)
@pytest.mark.parametrize("policy", [CREATE, VERIFY])
async def test_a_newer_version_is_refused_without_a_write(dsn, hand, policy):
    await open_and_close(dsn)
    await hand.execute("UPDATE pl_schema_migrations SET version = 99; DROP VIEW pl_messages")
    before = await everything(hand)
    assert "newer power-loop" in str(await refused(dsn, schema_policy=policy))
    assert await everything(hand) == before


# acceptance: 81 (servers)
async def test_two_prefixes_in_one_database_do_not_know_of_each_other(dsn, hand):
    for prefix in ("pl_", "", "Other_2"):
        opened = await open_database(dsn, table_prefix=prefix)
        await opened.database.write([Statement(f"INSERT INTO {prefix}sessions (session_id) VALUES (?)", (prefix,))])
        assert await opened.database.read(f"SELECT session_id FROM {prefix}sessions") == [(prefix,)]
        await opened.database.close()
    await hand.execute("UPDATE pl_schema_migrations SET version = 99")
    await open_and_close(dsn, table_prefix="Other_2", schema_policy=VERIFY)


async def test_the_same_names_in_another_schema_of_the_database_do_not_matter(dsn, hand):
    await hand.execute("CREATE SCHEMA other; CREATE TABLE other.pl_sessions (id int); CREATE TABLE other.pl_messages (id int)")
    await open_and_close(dsn)
    await open_and_close(dsn, schema_policy=VERIFY)


async def test_a_schema_of_ones_own_can_be_chosen_in_the_dsn(dsn, hand):
    await hand.execute("CREATE SCHEMA agents")
    await open_and_close(f"{dsn}?search_path=agents")
    assert await hand.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'agents'") == len(SCHEMA.columns(""))
    await refused(dsn, schema_policy=VERIFY)


async def test_tables_of_our_names_in_another_shape_are_refused_and_untouched(dsn, hand):
    await hand.execute("CREATE TABLE pl_sessions (id int)")
    before = await everything(hand)
    assert "pl_sessions.session_id" in str(await refused(dsn))
    assert await everything(hand) == before


async def test_of_many_that_migrate_at_once_all_succeed_and_the_rows_are_kept(dsn, hand):
    await open_and_close(dsn)
    await hand.execute("INSERT INTO pl_sessions (session_id, head) VALUES ('s', 7)")
    databases = [PostgresDatabase(parse_dsn(dsn)) for _ in range(4)]
    await asyncio.gather(*(bring_up(database, DIALECT, schema=NEXT) for database in databases))
    await bring_up(databases[0], DIALECT, schema=NEXT, policy=VERIFY)
    assert await databases[0].read("SELECT session_id, head, mood FROM pl_sessions") == [("s", 7, None)]
    assert await databases[0].read("SELECT version FROM pl_schema_migrations") == [(NEXT.version,)]
    for database in databases:
        await database.close()


async def test_what_was_created_only_in_part_is_completed(dsn, hand):
    await hand.execute(";\n".join(script(DIALECT)[:5]))
    await open_and_close(dsn)
    await open_and_close(dsn, schema_policy=VERIFY)


async def test_keys_are_compared_byte_by_byte_whatever_the_databases_language(dsn, hand):
    await open_and_close(dsn)
    collations = "SELECT DISTINCT collation_name FROM information_schema.columns WHERE table_name LIKE 'pl_%' AND column_name IN {}"
    found = await hand.fetch(collations.format("('session_id', 'owner', 'state_key', 'item_key', 'holder')"))
    assert [row[0] for row in found] == ["C"]
