"""The words in which tables are described, before any engine's SQL: columns, tables, views, migrations, prefixes.

What the tables are is in `tables`; how an engine spells them is in `dialect`; when they are created is in `migrate`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

ColumnType = Literal["key", "text", "big", "int", "real", "blob", "auto"]
"""``key``: at most 191 characters, compared byte by byte (the longest that MySQL indexes as utf8mb4 on every row
format); ``text``: any length; ``big``: 64 bits; ``auto``: a ``big`` that the engine counts up, never used twice."""

# 24 characters leave room for our longest name below PostgreSQL's limit of 63 bytes for an identifier.
_PREFIX = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,23}", re.ASCII)

VERSIONS = "schema_migrations"
FIRST_VERSION = 40
"""Below it stand the versions of the 3.x line, which kept other tables."""


class Column(NamedTuple):
    """One column; ``default`` is a number or None, so that no engine has to quote it."""

    name: str
    type: ColumnType
    null: bool = False
    default: int | None = None


class Index(NamedTuple):
    """An index by columns; ``where`` narrows it on engines that can, and only ever saves room."""

    name: str
    columns: tuple[str, ...]
    where: str | None = None


class Table(NamedTuple):
    """A table; its name stands without the prefix."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    unique: tuple[tuple[str, ...], ...] = ()
    indexes: tuple[Index, ...] = ()
    thin: bool = False
    """Its rows are short and found by key alone, so an engine may keep them inside the key's tree."""


class View(NamedTuple):
    """A view; ``{p}`` in its SELECT stands for the prefix."""

    name: str
    select: str


class Migration(NamedTuple):
    """One numbered step from the version before. Released ones are never edited; within a major version they only add."""

    version: int
    name: str
    tables: tuple[Table, ...] = ()
    views: tuple[View, ...] = ()
    columns: tuple[tuple[str, Column], ...] = ()
    """(table, new column); the column is nullable or has a default, so that older processes go on writing."""


class Schema(NamedTuple):
    """All migrations, oldest first, and what they amount to."""

    migrations: tuple[Migration, ...]

    @property
    def version(self) -> int:
        return self.migrations[-1].version

    def after(self, version: int) -> tuple[Migration, ...]:
        """The steps that a database of ``version`` has not had."""
        return tuple(step for step in self.migrations if step.version > version)

    def up_to(self, version: int) -> Schema:
        """The schema as it was at ``version``."""
        return Schema(tuple(step for step in self.migrations if step.version <= version))

    def columns(self, prefix: str) -> dict[str, set[str]]:
        """The columns that each table has after all steps, by prefixed table name."""
        known: dict[str, set[str]] = {}
        for step in self.migrations:
            for table in step.tables:
                known[prefix + table.name] = {column.name for column in table.columns}
            for name, column in step.columns:
                known[prefix + name].add(column.name)
        return known

    def views(self, prefix: str) -> set[str]:
        return {prefix + view.name for step in self.migrations for view in step.views}


def check_prefix(prefix: str) -> str:
    """``prefix`` itself, or ValueError: it becomes part of SQL, where nothing can be quoted the same on every engine."""
    if prefix and not _PREFIX.fullmatch(prefix):
        raise ValueError(
            f"table prefix {prefix!r}: use at most 24 ASCII letters, digits and underscores, not beginning with a digit, or an empty string"
        )
    return prefix


def missing(needed: Mapping[str, Iterable[str]], found: Mapping[str, Iterable[str]]) -> list[str]:
    """What of ``needed`` (table → columns) is not in ``found``, as ``table`` or ``table.column``, in order of name.

    Columns beyond the needed ones do not matter: a newer release of the same version may have added them.
    """
    lacking: list[str] = []
    for table in sorted(needed):
        if table not in found:
            lacking.append(table)
        else:
            lacking += [f"{table}.{column}" for column in sorted(set(needed[table]) - set(found[table]))]
    return lacking


def as_script(statements: Sequence[str]) -> str:
    """The statements as one text that a database's own shell runs."""
    return "".join(f"{statement};\n" for statement in statements)
