"""What opening does about the schema: created, migrated, verified, or refused by name with nothing touched."""

from __future__ import annotations

import os
import sqlite3

import pytest

from power_loop.contracts.errors import PowerLoopError, StoreSchemaError, StoreUnavailable
from power_loop.contracts.store import Batch, CommitUnknown, SchemaPolicy, Statement
from power_loop.store.dialect import SqliteDialect
from power_loop.store.memory import MemoryDatabase
from power_loop.store.migrate import bring_up, script
from power_loop.store.open import open_database
from power_loop.store.schema import Column, Index, Migration, Schema, Table, View
from power_loop.store.tables import SCHEMA
from power_loop.testing.crash import UnsureDatabase

CREATE, VERIFY = SchemaPolicy.AUTO_CREATE, SchemaPolicy.VERIFY
DIALECT = SqliteDialect()
NEXT = Schema(
    (
        *SCHEMA.migrations,
        Migration(
            42,
            "made up",
            tables=(
                Table(
                    "extras", (Column("id", "auto"), Column("note", "text", null=True)), ("id",), indexes=(Index("extras_note", ("note",)),)
                ),
            ),
            views=(View("noted", "SELECT note FROM {p}extras"),),
            columns=(("sessions", Column("mood", "text", null=True)), ("records", Column("weight", "int", default=1))),
        ),
    )
)


async def open_and_close(path, **how) -> None:
    await (await open_database(str(path), **how)).database.close()


async def refused(path, **how) -> StoreSchemaError:
    with pytest.raises(StoreSchemaError) as error:
        await open_database(str(path), **how)
    return error.value


def run_by_hand(path, text: str) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(text)
    connection.close()


def content(folder) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in sorted(os.listdir(folder))}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "app.db"


class Counting(MemoryDatabase):
    """Keeps what was written."""

    written: tuple[Batch, ...] = ()

    def write(self, batch: Batch):
        self.written = (*self.written, batch)
        return super().write(batch)


# --- creating -----------------------------------------------------------------------------------------------


# acceptance: 76
async def test_auto_create_makes_everything_and_a_second_opening_changes_nothing(path, tmp_path):
    await open_and_close(path)
    before = content(tmp_path)
    await open_and_close(path)
    await open_and_close(path, schema_policy=VERIFY)
    assert content(tmp_path) == before
    assert SCHEMA.version == 41


# acceptance: 76
async def test_auto_create_in_memory_writes_once_and_then_nothing():
    database = Counting()
    await bring_up(database, DIALECT)
    assert len(database.written) == 1
    await bring_up(database, DIALECT)
    await bring_up(database, DIALECT, policy=VERIFY)
    assert len(database.written) == 1
    await database.close()


async def test_the_copied_schema_of_a_memory_database_is_the_one_that_ddl_makes():
    made, copied = MemoryDatabase(), MemoryDatabase.with_schema()
    await bring_up(made, DIALECT)
    master = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name"
    assert await made.read(master) == await copied.read(master)
    await bring_up(copied, DIALECT, policy=VERIFY)
    await made.close()
    await copied.close()


async def test_what_was_created_only_in_part_is_completed(path):
    run_by_hand(path, ";\n".join(script(DIALECT)[:5]))
    await open_and_close(path)
    await open_and_close(path, schema_policy=VERIFY)


# --- verifying ----------------------------------------------------------------------------------------------


# acceptance: 77
async def test_the_script_that_verify_asks_for_makes_verify_pass_and_may_run_twice(path, tmp_path):
    error = await refused(path, schema_policy=VERIFY)
    assert str(error).endswith(error.ddl)
    assert isinstance(error, PowerLoopError)
    run_by_hand(path, error.ddl)
    run_by_hand(path, error.ddl)
    await open_and_close(path, schema_policy=VERIFY)
    assert os.listdir(tmp_path) == ["app.db"]


# acceptance: 77
async def test_the_script_makes_verify_pass_in_memory_too():
    database = MemoryDatabase()
    with pytest.raises(StoreSchemaError) as error:
        await bring_up(database, DIALECT, policy=VERIFY)
    for statement in error.value.ddl.split(";\n")[:-1]:
        await database.write([Statement(statement)])
    await bring_up(database, DIALECT, policy=VERIFY)
    await database.close()


# acceptance: 78
async def test_verify_on_a_missing_path_creates_no_file_and_no_folder(tmp_path):
    await refused(tmp_path / "folder" / "app.db", schema_policy=VERIFY)
    assert os.listdir(tmp_path) == []


# acceptance: 78
async def test_verify_sends_no_ddl_and_writes_nothing(path, tmp_path):
    database = Counting()
    with pytest.raises(StoreSchemaError):
        await bring_up(database, DIALECT, policy=VERIFY)
    assert database.written == ()
    await database.close()
    path.touch()
    await refused(path, schema_policy=VERIFY)
    assert content(tmp_path) == {"app.db": b""}


async def test_verify_of_a_memory_dsn_finds_nothing():
    await refused(":memory:", schema_policy=VERIFY)


# --- migrating ----------------------------------------------------------------------------------------------


async def migrated(database: MemoryDatabase) -> list[tuple[object, ...]]:
    return await database.read("SELECT session_id, head, mood FROM pl_sessions")


async def test_an_older_schema_is_migrated_in_place_and_keeps_its_data():
    database = MemoryDatabase.with_schema()
    await database.write([Statement("INSERT INTO pl_sessions (session_id, head) VALUES ('s', 7)")])
    await bring_up(database, DIALECT, schema=NEXT)
    assert await migrated(database) == [("s", 7, None)]
    assert await database.read("SELECT note FROM pl_noted") == []
    assert await database.read("SELECT version FROM pl_schema_migrations") == [(42,)]
    await bring_up(database, DIALECT, policy=VERIFY, schema=NEXT)
    await database.close()


async def test_verify_of_an_older_schema_gives_the_upgrade_script():
    database = MemoryDatabase.with_schema()
    with pytest.raises(StoreSchemaError, match=r"version 41.*42 is needed") as error:
        await bring_up(database, DIALECT, policy=VERIFY, schema=NEXT)
    assert "mood" in error.value.ddl
    assert "pl_inbox" not in error.value.ddl
    for statement in error.value.ddl.split(";\n")[:-1]:
        await database.write([Statement(statement)])
    await bring_up(database, DIALECT, policy=VERIFY, schema=NEXT)
    await database.close()


async def test_of_two_that_migrate_at_once_the_second_finds_the_work_done():
    rival = MemoryDatabase.with_schema()

    async def overtake(where: str) -> None:
        if where == "before_write" and (await rival.read("SELECT version FROM pl_schema_migrations")) == [(41,)]:
            await bring_up(rival, DIALECT, schema=NEXT)

    database = rival.connect(pause=overtake)
    await bring_up(database, DIALECT, schema=NEXT)
    assert await migrated(database) == []
    await database.close()
    await rival.close()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_creation_whose_commit_raised_is_looked_at_and_completed(when):
    database = UnsureDatabase(MemoryDatabase(), 1, when)
    await bring_up(database, DIALECT)
    await bring_up(database, DIALECT, policy=VERIFY)
    assert database.commits == {"before": 2, "after": 1}[when]
    await database.close()


async def test_a_creation_of_which_nobody_knows_says_so():
    class NeverSure(MemoryDatabase):
        async def write(self, batch):
            raise CommitUnknown("no answer")

    database = NeverSure()
    with pytest.raises(StoreUnavailable, match="nobody knows whether the schema"):
        await bring_up(database, DIALECT)
    await database.close()


async def test_a_created_database_of_a_later_version_equals_a_migrated_one():
    made, moved = MemoryDatabase(), MemoryDatabase.with_schema()
    await bring_up(made, DIALECT, schema=NEXT)
    await bring_up(moved, DIALECT, schema=NEXT)
    columns = "SELECT m.name, i.name FROM sqlite_master m, pragma_table_info(m.name) i ORDER BY 1, 2"
    assert await made.read(columns) == await moved.read(columns)
    await made.close()
    await moved.close()


# --- refusing -----------------------------------------------------------------------------------------------


# acceptance: 79
@pytest.mark.parametrize("policy", [CREATE, VERIFY])
async def test_a_newer_schema_is_refused_and_not_a_byte_is_changed(path, tmp_path, policy):
    await open_and_close(path)
    run_by_hand(path, "UPDATE pl_schema_migrations SET version = 42")
    before = content(tmp_path)
    assert "newer power-loop" in str(await refused(path, schema_policy=policy))
    assert content(tmp_path) == before


# acceptance: 79
async def test_a_newer_schema_in_a_file_of_another_journal_mode_stays_in_that_mode(path, tmp_path):
    run_by_hand(path, ";\n".join(script(DIALECT)) + "; UPDATE pl_schema_migrations SET version = 42;")
    before = content(tmp_path)
    await refused(path)
    assert content(tmp_path) == before


# acceptance: 79
async def test_a_newer_schema_that_another_process_has_open_is_refused_without_a_write(path):
    await open_and_close(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("UPDATE pl_schema_migrations SET version = 42")
    before = path.read_bytes()
    assert "newer power-loop" in str(await refused(path))
    assert path.read_bytes() == before
    other.close()


EARLIER = """
CREATE TABLE {e}schema_migrations (id INTEGER PRIMARY KEY, version INTEGER);
INSERT INTO {e}schema_migrations VALUES (1, {version});
CREATE TABLE {e}sessions (session_id TEXT PRIMARY KEY, title TEXT);
CREATE TABLE {e}messages (session_id TEXT, seq INTEGER, role TEXT, content TEXT);
"""


# acceptance: 80 (3.x)
@pytest.mark.parametrize("version", [1, 9])
@pytest.mark.parametrize(("earlier", "prefix"), [("", "pl_"), ("", ""), ("pl_", "pl_"), ("mine_", "mine_")])
@pytest.mark.parametrize("policy", [CREATE, VERIFY])
async def test_a_database_of_the_3x_line_is_refused_by_name_and_untouched(path, tmp_path, version, earlier, prefix, policy):
    run_by_hand(path, EARLIER.format(e=earlier, version=version))
    before = content(tmp_path)
    text = str(await refused(path, table_prefix=prefix, schema_policy=policy))
    assert all(word in text for word in ("3.x", "export_session", "power-loop import", "another table prefix"))
    assert content(tmp_path) == before


async def test_beside_a_database_of_the_3x_line_another_prefix_may_be_used_meanwhile(path):
    run_by_hand(path, EARLIER.format(e="pl_", version=9))
    await open_and_close(path, table_prefix="pl4_")


@pytest.mark.parametrize(
    ("foreign", "says"),
    [
        ("CREATE TABLE pl_sessions (id INTEGER)", "pl_sessions.session_id"),
        ("CREATE TABLE pl_messages (session_id TEXT)", "pl_messages is a table"),
        ("CREATE VIEW pl_records AS SELECT 1 AS seq", "pl_records is a view"),
        ("CREATE TABLE pl_schema_migrations (version TEXT)", "pl_schema_migrations.id"),
        ("CREATE TABLE pl_schema_migrations (id INT, version INT); INSERT INTO pl_schema_migrations VALUES (1, 40)", "pl_sessions"),
        ("CREATE TABLE pl_schema_migrations (id INT, version INT); INSERT INTO pl_schema_migrations VALUES (1, 12)", "version 12"),
    ],
)
@pytest.mark.parametrize("policy", [CREATE, VERIFY])
async def test_tables_of_our_names_in_another_shape_are_refused_and_untouched(path, tmp_path, foreign, says, policy):
    run_by_hand(path, foreign)
    before = content(tmp_path)
    assert says in str(await refused(path, schema_policy=policy))
    assert content(tmp_path) == before


async def test_other_tables_and_broken_views_in_the_same_database_do_not_matter(path):
    run_by_hand(path, "CREATE TABLE schema_migrations (version TEXT); CREATE TABLE users (id INT); CREATE VIEW v AS SELECT x FROM nowhere;")
    await open_and_close(path)
    await open_and_close(path, schema_policy=VERIFY)


# --- prefixes -----------------------------------------------------------------------------------------------


# acceptance: 81
async def test_two_prefixes_in_one_database_are_independent(path):
    for prefix in ("pl_", "", "Other_2", "_" * 24):
        opened = await open_database(str(path), table_prefix=prefix)
        await opened.database.write([Statement(f"INSERT INTO {prefix}sessions (session_id) VALUES (?)", (prefix,))])
        assert await opened.database.read(f"SELECT session_id FROM {prefix}sessions") == [(prefix,)]
        await opened.database.close()
    run_by_hand(path, "UPDATE pl_schema_migrations SET version = 42")
    await open_and_close(path, table_prefix="Other_2", schema_policy=VERIFY)


# acceptance: 81
@pytest.mark.parametrize("prefix", ["1a", "a-b", "a b", "a;", 'a"', "ä", "x" * 25, "a\n", "a.b"])
async def test_an_unsafe_prefix_is_a_value_error_before_any_statement(tmp_path, prefix):
    with pytest.raises(ValueError, match="table prefix"):
        await open_database(str(tmp_path / "app.db"), table_prefix=prefix)
    with pytest.raises(ValueError, match="table prefix"):
        script(DIALECT, prefix)
    assert os.listdir(tmp_path) == []
