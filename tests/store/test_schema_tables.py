"""The tables themselves: what every engine can spell, and what anyone with SQL may read."""

from __future__ import annotations

import random
import sqlite3

import pytest

from power_loop.store.dialect import SqliteDialect
from power_loop.store.migrate import script
from power_loop.store.schema import missing
from power_loop.store.tables import SCHEMA

TABLES = SCHEMA.migrations[0].tables
# Words that PostgreSQL, MySQL or MariaDB reserve and that tables like ours are tempted to use.
RESERVED = {
    "key",
    "keys",
    "order",
    "group",
    "index",
    "interval",
    "limit",
    "offset",
    "read",
    "write",
    "rank",
    "row",
    "rows",
    "user",
    "usage",
    "system",
    "primary",
    "range",
    "references",
    "release",
    "repeat",
    "call",
    "condition",
    "default",
    "end",
    "from",
    "to",
    "when",
    "check",
    "column",
    "table",
    "lead",
    "lag",
    "signal",
    "trigger",
    "window",
    "function",
    "groups",
    "lateral",
    "of",
    "over",
    "both",
    "analyze",
}


@pytest.fixture
def connection():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for statement in script(SqliteDialect()):
        connection.execute(statement)
    yield connection
    connection.close()


def test_no_name_needs_quotes_on_any_engine():
    names = {table.name for table in TABLES} | {column.name for table in TABLES for column in table.columns}
    assert not names & RESERVED
    assert all(name.isidentifier() and name == name.lower() and len(name) + 24 <= 63 for name in names)


def test_index_names_are_unique_and_fit_beside_the_longest_prefix():
    names = [index.name for table in TABLES for index in table.indexes] + [table.name for table in TABLES]
    assert len(names) == len(set(names))
    assert max(map(len, names)) + 24 <= 63


def test_keys_unique_columns_and_indexes_are_short_texts_or_numbers():
    for table in TABLES:
        types = {column.name: column.type for column in table.columns}
        keyed = [
            *table.key,
            *(name for names in table.unique for name in names),
            *(name for index in table.indexes for name in index.columns),
        ]
        assert {types[name] for name in keyed} <= {"key", "big", "int", "auto"}, table.name


def test_records_are_an_ordinary_table_and_the_thin_row_holds_no_long_text():
    by_name = {table.name: table for table in TABLES}
    assert not by_name["records"].thin
    assert by_name["records"].key == ("session_id", "seq")
    assert all(column.type != "text" for column in by_name["sessions"].columns)
    assert [table.name for table in TABLES if table.thin and any(column.type in ("text", "blob") for column in table.columns)] == []


def test_the_views_show_messages_and_projections_and_cannot_be_written(connection):
    record = "INSERT INTO pl_records (session_id, seq, epoch, kind, version, send_index, role, content, call_id, body, created_at)"
    connection.execute(f"{record} VALUES ('s', 1, 1, 'user_said', 1, 1, 'user', 'hi', NULL, NULL, 5)")
    connection.execute(f"{record} VALUES ('s', 2, 1, 'tool_returned', 1, 1, 'tool', 'ok', 'c1', 'not json', 5)")
    connection.execute(f"{record} VALUES ('s', 3, 1, 'send_projected', 1, 1, NULL, NULL, NULL, 'not json', 5)")
    assert connection.execute("SELECT seq, role, content, tool_call_id FROM pl_messages").fetchall() == [
        (1, "user", "hi", None),
        (2, "tool", "ok", "c1"),
    ]
    assert connection.execute("SELECT seq, body FROM pl_project_messages").fetchall() == [(3, "not json")]
    with pytest.raises(sqlite3.OperationalError, match="view"):
        connection.execute("DELETE FROM pl_messages")


def test_what_is_missing_is_named_and_what_is_beyond_does_not_matter():
    needed = {"a": {"x", "y"}, "b": {"x"}}
    assert missing(needed, {"a": {"x", "y", "z"}, "b": {"x"}, "c": set()}) == []
    assert missing(needed, {"a": {"z"}}) == ["a.x", "a.y", "b"]


def test_a_record_costs_its_content_and_at_most_200_bytes(tmp_path):
    connection = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
    for statement in script(SqliteDialect()):
        connection.execute(statement)
    before, chance, n, text = (tmp_path / "app.db").stat().st_size, random.Random(1), 3000, "x" * 200
    ids = [f"sess_{chance.getrandbits(96):024x}" for _ in range(20)]
    usage = '{"usage":[1200,300],"digest":"3f2a9c1d2e3f4a5b","model":"gpt-4o-mini","id":"chatcmpl-9abcdefghijklmnop"}'
    row = "INSERT INTO pl_records (session_id, seq, epoch, kind, version, send_index, round_index, role, content, body, created_at)"
    connection.execute("BEGIN")
    for seq in range(n // 20):
        for session in ids:
            values = (session, seq, 1_800_000_000_000, "model_replied", 1, seq // 3, 0, "assistant", text, usage, 1_800_000_000_000)
            connection.execute(f"{row} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
    connection.execute("COMMIT")
    connection.close()
    stored = len(text) + len(usage)
    assert ((tmp_path / "app.db").stat().st_size - before) / n <= stored + 200
