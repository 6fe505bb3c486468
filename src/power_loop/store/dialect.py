"""What differs between engines, each with the reason beside it. All other SQL is written once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from power_loop.contracts.store import Statement
from power_loop.store.schema import Column, ColumnType, Table, View


class Dialect(Protocol):
    """How one engine spells what the others spell differently. Statements keep ``?`` everywhere; the engine translates it."""

    @property
    def name(self) -> str: ...

    @property
    def now(self) -> str | None:
        """SQL for the database's own clock in ms. None: there is none worth asking, so ``?`` with the process's clock.

        Servers decide expiry by their own clock, because their clients' clocks differ.
        """
        ...

    @property
    def begun(self) -> str | None:
        """The same as it was when the statement began: a constant to the planner, which then goes along an index no further."""
        ...

    @property
    def relations(self) -> str:
        """A SELECT of (relation, ``table`` or ``view``, column or None) for all that the database holds."""
        ...

    def fold(self, name: str) -> str:
        """How `relations` spells a table whose name was written ``name``, without quotes."""
        ...

    def alone(self, statements: list[Statement], prefix: str) -> list[Statement]:
        """The batch that runs ``statements`` (DDL, and the row of the version) while nobody else does so under ``prefix``.

        With a lock around them, where the engine needs one. Where DDL ends a transaction, a process may die between any two:
        each of them may then run again, and the version's row, which says that all is there, comes last.
        """
        ...

    def create_table(self, table: Table, prefix: str) -> list[str]:
        """The table and its indexes; running it twice changes nothing."""
        ...

    def create_view(self, view: View, prefix: str) -> str:
        """The view; running it twice changes nothing."""
        ...

    def replace_view(self, view: View, prefix: str) -> list[str]:
        """The view in the place of one with other columns, at no moment without a view for whoever looks."""
        ...

    def add_column(self, table: str, column: Column, prefix: str) -> str: ...

    def first_rows(self, table: str, key: str, where: str, order: str, limit: int) -> str:
        """What stands behind the WHERE of an UPDATE of ``table`` that shall touch the first ``limit`` rows that fit.

        Rows that somebody else is about to touch are passed over where the engine can do so.
        """
        ...


# SQLite looks at a type's name only for its affinity; ``auto`` must be INTEGER to be the rowid itself.
_SQLITE_TYPES: dict[ColumnType, str] = {
    "key": "TEXT", "text": "TEXT", "big": "INTEGER", "int": "INTEGER", "real": "REAL", "blob": "BLOB", "auto": "INTEGER",
}  # fmt: skip


class SqliteDialect:
    """SQLite 3.31 and newer."""

    name = "sqlite"

    # All processes that share a file share a machine, hence a clock; and `unixepoch('subsec')` is younger than many an installed SQLite.
    now = begun = None

    # The table-valued pragma is asked for tables only: it fails on a view that names a missing table.
    relations = (
        "SELECT m.name, m.type, i.name FROM sqlite_master m"
        " LEFT JOIN pragma_table_info(CASE m.type WHEN 'table' THEN m.name END) i WHERE m.type IN ('table', 'view')"
    )

    def fold(self, name: str) -> str:
        """SQLite finds names in any case, and spells them as they were created."""
        return name

    def alone(self, statements: list[Statement], prefix: str) -> list[Statement]:
        """Whoever writes is alone anyway."""
        return statements

    def create_table(self, table: Table, prefix: str) -> list[str]:
        parts = [_column(column) for column in table.columns]
        # A column that counts up is the key already, and the only way to have it.
        parts += uniques_of(table) if _counts_up(table) else [key_of(table), *uniques_of(table)]
        # Without a rowid the row is its own index entry: one tree to change instead of two. For long rows it is the wrong way round.
        tail = " WITHOUT ROWID" if table.thin else ""
        body = ",\n  ".join(parts)
        created = f"CREATE TABLE IF NOT EXISTS {prefix}{table.name} (\n  {body}\n){tail}"
        return [created, *indexes_of(table, prefix)]

    def create_view(self, view: View, prefix: str) -> str:
        return f"CREATE VIEW IF NOT EXISTS {prefix}{view.name} AS {view.select.replace('{p}', prefix)}"

    def replace_view(self, view: View, prefix: str) -> list[str]:
        return anew(prefix + view.name, self.create_view(view, prefix))

    def add_column(self, table: str, column: Column, prefix: str) -> str:
        return f"ALTER TABLE {prefix}{table} ADD COLUMN {_column(column)}"

    def first_rows(self, table: str, key: str, where: str, order: str, limit: int) -> str:
        # There is one writer at a time, so there are no locks of others to pass over.
        return f"{key} IN (SELECT {key} FROM {table} WHERE {where} ORDER BY {order} LIMIT {limit})"


def _counts_up(table: Table) -> bool:
    return any(column.type == "auto" for column in table.columns)


def _column(column: Column) -> str:
    if column.type == "auto":
        return f"{column.name} INTEGER PRIMARY KEY AUTOINCREMENT"  # without the last word the highest number is given out again
    return column_of(column, _SQLITE_TYPES)


# --- what more than one engine spells so ----------------------------------------------------------------


def column_of(column: Column, types: Mapping[ColumnType, str]) -> str:
    """The column as it stands in CREATE TABLE, where the engine calls its types so."""
    null = "" if column.null else " NOT NULL"
    default = "" if column.default is None else f" DEFAULT {column.default}"
    return f"{column.name} {types[column.type]}{null}{default}"


def anew(view: str, created: str) -> list[str]:
    """For engines whose DDL is in the transaction: away with the view of that name, then ``created``."""
    return [f"DROP VIEW IF EXISTS {view}", created]


def key_of(table: Table) -> str:
    return f"PRIMARY KEY ({', '.join(table.key)})"


def uniques_of(table: Table) -> list[str]:
    return [f"UNIQUE ({', '.join(columns)})" for columns in table.unique]


def indexes_of(table: Table, prefix: str) -> list[str]:
    """The indexes as statements of their own; running them twice changes nothing."""
    return [
        f"CREATE INDEX IF NOT EXISTS {prefix}{index.name} ON {prefix}{table.name} ({', '.join(index.columns)})"
        + (f" WHERE {index.where}" if index.where else "")
        for index in table.indexes
    ]
