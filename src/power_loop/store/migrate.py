"""Opening means: look what is there, then create it, bring it up to date, leave it alone, or refuse it by name.

Works through the two verbs, so it is the same for every engine: whoever creates or migrates writes one guarded
batch; who comes second meets a `Conflict` or finds the work done, and looks again.
"""

from __future__ import annotations

from typing import NamedTuple

from power_loop.contracts.errors import StoreSchemaError
from power_loop.contracts.store import CommitUnknown, Conflict, Database, SchemaPolicy, Statement
from power_loop.store.dialect import Dialect
from power_loop.store.part import nobody_knows
from power_loop.store.schema import FIRST_VERSION, VERSIONS, Migration, Schema, as_script, check_prefix, missing
from power_loop.store.tables import SCHEMA

# Whoever loses a race finds the winner's work at the next look; the third allows for one more release in between.
ATTEMPTS = 4

# Prefixes under which the 3.x line kept its tables by default: without a look there, a program that moves on to
# this version would find its sessions gone instead of a word about them.
_EARLIER_PREFIXES = {"pl_": ("pl_", "")}


class Found(NamedTuple):
    """What a database holds under one prefix."""

    tables: dict[str, set[str]]
    """Every table of the database with its columns."""
    views: set[str]
    version: int | None
    """Of our own schema; None when no row tells."""
    earlier: str | None
    """The prefix under which a database of the 3.x line was found."""


async def bring_up(
    database: Database, dialect: Dialect, *, policy: SchemaPolicy = SchemaPolicy.AUTO_CREATE, prefix: str = "pl_", schema: Schema = SCHEMA
) -> None:
    """Make the schema right, or see that it is. Raises `StoreSchemaError` and leaves the database as it was.

    Under VERIFY no DDL is sent. A connection error stays itself; a COMMIT that raised is resolved by
    another look. ValueError for an unsafe prefix, before any statement.
    """
    prefix = dialect.fold(check_prefix(prefix))
    unknown: CommitUnknown | None = None
    for _ in range(ATTEMPTS):
        found = await look(database, dialect, prefix, schema)
        if _wrong(found, prefix, schema):  # a look is several reads, and somebody may have migrated in between
            found = await look(database, dialect, prefix, schema)
        _refuse_what_is_not_ours(found, dialect, prefix, schema)
        steps = schema.after(found.version or 0)
        if not steps:
            return
        if policy is SchemaPolicy.VERIFY:
            _refuse_to_change(found, steps, dialect, prefix, schema)
        try:
            await database.write(dialect.alone(_batch(steps, found.version, dialect, prefix), prefix))
        except Conflict:
            continue
        except CommitUnknown as error:
            unknown = error  # the next look tells whether the steps are there
    if unknown is not None:
        raise nobody_knows(f"the schema with prefix {prefix!r}", unknown) from unknown
    raise StoreSchemaError(f"others changed the schema with prefix {prefix!r} {ATTEMPTS} times while it was being created; try again")


def script(dialect: Dialect, prefix: str = "pl_", schema: Schema = SCHEMA) -> list[str]:
    """The statements that make an empty database right; running them twice changes nothing."""
    check_prefix(prefix)
    return _statements(schema.migrations, None, dialect, prefix)


# --- looking ----------------------------------------------------------------------------------------


async def look(database: Database, dialect: Dialect, prefix: str, schema: Schema) -> Found:
    tables: dict[str, set[str]] = {}
    views: set[str] = set()
    for name, kind, column in await database.read(dialect.relations):
        if kind == "view":
            views.add(name)
        else:
            tables.setdefault(name, set()).add(column)
    version = await _version(database, tables, prefix)
    return Found(tables, views, version, await _earlier(database, tables, prefix))


async def _earlier(database: Database, tables: dict[str, set[str]], prefix: str) -> str | None:
    """The prefix of a database of the 3.x line: it numbered its schema below ours, and its messages were a table."""
    for earlier in _EARLIER_PREFIXES.get(prefix, (prefix,)):
        if "session_id" in tables.get(earlier + "messages", ()):
            version = await _version(database, tables, earlier)
            if version is not None and version < FIRST_VERSION:
                return earlier
    return None


async def _version(database: Database, tables: dict[str, set[str]], prefix: str) -> int | None:
    if "version" not in tables.get(prefix + VERSIONS, ()):
        return None
    version = (await database.read(f"SELECT max(version) FROM {prefix}{VERSIONS}"))[0][0]
    return version if isinstance(version, int) else None


# --- judging --------------------------------------------------------------------------------------


def _refuse_what_is_not_ours(found: Found, dialect: Dialect, prefix: str, schema: Schema) -> None:
    version, known = found.version, schema.version
    if found.earlier is not None:
        raise StoreSchemaError(
            f"this database was written by power-loop 3.x (tables {found.earlier}sessions, {found.earlier}messages, ...) "
            "and is left untouched: write its sessions out with export_session() there and read them with `power-loop import` here; "
            "meanwhile use another file or another table prefix"
        )
    if version is not None and version > known:
        raise StoreSchemaError(
            f"the schema with prefix {prefix!r} has version {version}, made by a newer power-loop; this one knows {known}: "
            "upgrade the package, or use another file or table prefix; nothing was changed"
        )
    if wrong := _wrong(found, prefix, schema):
        raise StoreSchemaError(
            f"the tables with prefix {prefix!r} are not the ones that power-loop made ({wrong}): "
            "use another file or another table prefix; nothing was changed",
            ddl=as_script(script(dialect, prefix, schema)),
        )


def _wrong(found: Found, prefix: str, schema: Schema) -> str | None:
    """What does not fit: of a numbered schema all must be there; without a number, what is there must have our shape."""
    if found.version is not None and found.version < FIRST_VERSION:
        return f"{prefix}{VERSIONS} has version {found.version}"
    expected = schema.up_to(found.version or schema.version)
    columns, views = expected.columns(prefix), expected.views(prefix)
    if clash := sorted(views & set(found.tables)) or sorted(set(columns) & found.views):
        return f"{clash[0]} is " + ("a table" if clash[0] in views else "a view")
    if found.version is None:
        lacking = missing({name: columns[name] for name in columns if name in found.tables}, found.tables)
    else:
        lacking = missing(columns, found.tables) + sorted(views - found.views)
    return "there is no " + ", ".join(lacking) if lacking else None


def _refuse_to_change(found: Found, steps: tuple[Migration, ...], dialect: Dialect, prefix: str, schema: Schema) -> None:
    what = (
        f"no schema with prefix {prefix!r}"
        if found.version is None
        else f"version {found.version} of the schema, and {schema.version} is needed"
    )
    raise StoreSchemaError(
        f"the database has {what}; the policy is to verify only. Open it once with AUTO_CREATE, or run this script:",
        ddl=as_script(_statements(steps, found.version, dialect, prefix)),
    )


# --- changing ---------------------------------------------------------------------------------------


def _batch(steps: tuple[Migration, ...], version: int | None, dialect: Dialect, prefix: str) -> list[Statement]:
    """The same statements as a batch that only one of several migrating processes gets through."""
    statements = [Statement(sql) for sql in _statements(steps, version, dialect, prefix)]
    if version is not None:
        statements[0] = statements[0]._replace(touches=1)
    return statements


def _statements(steps: tuple[Migration, ...], version: int | None, dialect: Dialect, prefix: str) -> list[str]:
    """The DDL of the steps and the version row: last when it is new, first when it says who may migrate."""
    statements: list[str] = []
    for step in steps:
        for table in step.tables:
            statements += dialect.create_table(table, prefix)
        statements += [dialect.add_column(table, column, prefix) for table, column in step.columns]
    # A later step's view takes an earlier one's place.
    for view in {view.name: view for step in steps for view in step.views}.values():
        statements += dialect.replace_view(view, prefix) if version is not None else [dialect.create_view(view, prefix)]
    table, new = prefix + VERSIONS, steps[-1].version
    if version is not None:
        return [f"UPDATE {table} SET version = {new} WHERE id = 1 AND version = {version}", *statements]
    return [*statements, f"INSERT INTO {table} (id, version) SELECT 1, {new} WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE id = 1)"]
