"""How MySQL and MariaDB spell what other engines spell differently; one text for both of them."""

from __future__ import annotations

from power_loop.contracts.store import Statement
from power_loop.store.dialect import column_of, key_of, uniques_of
from power_loop.store.mysql_text import spelt
from power_loop.store.schema import Column, ColumnType, Index, Table, View

# 191 characters is the most that every row format indexes as utf8mb4; any text and any bytes fit a LONG one.
_TYPES: dict[ColumnType, str] = {
    "key": "VARCHAR(191)", "text": "LONGTEXT", "big": "BIGINT", "int": "INT", "real": "DOUBLE", "blob": "LONGBLOB", "auto": "BIGINT",
}  # fmt: skip

# Ids differ by case and by trailing blanks. The collation that says so has one name on MySQL (from 8.0.17) and another on
# MariaDB; each reads only the comment that is meant for it. Where a client strips comments the script fails; it does not
# make tables that compare otherwise.
_TAIL = (
    " ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=/*!80017 utf8mb4_0900_bin *//*M! utf8mb4_nopad_bin */"
)  # fmt: skip


class MysqlDialect:
    """MySQL 8.0.17 and newer, MariaDB 10.6 and newer."""

    name = "mysql"

    # SYSDATE, because NOW stands still while a statement waits for a lock; as seconds since 1970 it knows no time zone.
    now = "CAST(UNIX_TIMESTAMP(SYSDATE(3)) * 1000 AS SIGNED)"
    begun: str = now.replace("SYSDATE", "NOW")

    # One after the other: joined, MariaDB opens each table once for each column (23 ms instead of 4).
    relations = (
        "SELECT table_name, CASE table_type WHEN 'VIEW' THEN 'view' ELSE 'table' END, NULL FROM information_schema.tables"
        " WHERE table_schema = DATABASE() UNION ALL SELECT table_name, 'table', column_name FROM information_schema.columns"
        " WHERE table_schema = DATABASE()"
        " AND table_name NOT IN (SELECT table_name FROM information_schema.views WHERE table_schema = DATABASE())"
    )

    def fold(self, name: str) -> str:
        """As written. (Where the server was set up to keep names in small letters, a prefix has to be written so.)"""
        return name

    def alone(self, statements: list[Statement], prefix: str) -> list[Statement]:
        """The engine itself takes the lock and brings the version's row to the end; see `mysql_schema`."""
        return statements

    def create_table(self, table: Table, prefix: str) -> list[str]:
        """One statement: there is no ``CREATE INDEX IF NOT EXISTS`` that both know."""
        parts = [*(_column(column) for column in table.columns), key_of(table), *uniques_of(table)]
        parts += [_index(index, table) for index in table.indexes]
        body = ",\n  ".join(parts)
        return [spelt(f"CREATE TABLE IF NOT EXISTS {prefix}{table.name} (\n  {body}\n)") + _TAIL]

    def create_view(self, view: View, prefix: str) -> str:
        # Whoever may read the tables of the view reads it, also after the user who made it is gone.
        return spelt(f"CREATE OR REPLACE SQL SECURITY INVOKER VIEW {prefix}{view.name} AS {view.select.replace('{p}', prefix)}")

    def replace_view(self, view: View, prefix: str) -> list[str]:
        return [self.create_view(view, prefix)]  # DDL is in no transaction here, and takes other columns

    def add_column(self, table: str, column: Column, prefix: str) -> str:
        """MySQL refuses it when the column is there, and the engine takes that for done."""
        return spelt(f"ALTER TABLE {prefix}{table} ADD COLUMN /*M! IF NOT EXISTS */ {_column(column)}")

    def first_rows(self, table: str, key: str, where: str, order: str, limit: int) -> str:
        # The statement's own LIMIT: a sub-select that skips what is locked makes MariaDB look at, and lock, every row.
        return f"{where} ORDER BY {order} LIMIT {limit}"


def _column(column: Column) -> str:
    if column.type == "auto":
        return f"{column.name} BIGINT NOT NULL AUTO_INCREMENT"  # InnoDB keeps its counter through restarts
    return column_of(column, _TYPES)


def _index(index: Index, table: Table) -> str:
    # Its name is the table's own affair; it covers all rows, and of a text as much as a key may be long.
    long = {column.name for column in table.columns if column.type in ("text", "blob")}
    return f"INDEX {index.name} ({', '.join(name + '(191)' if name in long else name for name in index.columns)})"
