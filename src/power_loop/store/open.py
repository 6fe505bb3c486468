"""From a DSN to a database whose schema is right. Which engine is decided here, at run time, and only that one is loaded."""

from __future__ import annotations

import os
from typing import NamedTuple, assert_never

from power_loop.contracts.store import Database, SchemaPolicy
from power_loop.store.dialect import Dialect
from power_loop.store.dsn import Dsn, parse_dsn
from power_loop.store.migrate import bring_up, script
from power_loop.store.schema import check_prefix


class Opened(NamedTuple):
    """A database and what its statements must know about it."""

    database: Database
    dialect: Dialect
    prefix: str


async def open_database(
    dsn: str | os.PathLike[str], *, schema_policy: SchemaPolicy = SchemaPolicy.AUTO_CREATE, table_prefix: str = "pl_"
) -> Opened:
    """The database at ``dsn``, its schema made or seen to be right.

    Raises ValueError for a bad DSN or prefix before anything is opened, `StoreSchemaError`, or `StoreUnavailable`.
    """
    prefix = check_prefix(table_prefix)
    database, dialect = _engine(parse_dsn(dsn), schema_policy, prefix)
    prefix = dialect.fold(prefix)
    try:
        await bring_up(database, dialect, policy=schema_policy, prefix=prefix)
    except BaseException:
        await database.close()
        raise
    return Opened(database, dialect, prefix)


def ddl_of(dsn: str | os.PathLike[str], *, table_prefix: str = "pl_") -> list[str]:
    """The statements that create the schema at ``dsn``; nothing is opened. Raises ValueError for a bad DSN or prefix."""
    prefix = check_prefix(table_prefix)
    _, dialect = _engine(parse_dsn(dsn), SchemaPolicy.VERIFY, prefix)
    return script(dialect, dialect.fold(prefix))


def check_dsn(dsn: str | os.PathLike[str]) -> None:
    """Raise ValueError for a DSN at which no database can be; nothing is opened."""
    _engine(parse_dsn(dsn), SchemaPolicy.VERIFY, "")


def _engine(dsn: Dsn, policy: SchemaPolicy, prefix: str) -> tuple[Database, Dialect]:
    match dsn.engine:
        case "sqlite":
            from power_loop.store.sqlite import SqliteDatabase

            synchronous = "normal" if dsn.options.get("synchronous") == "normal" else "full"
            file = SqliteDatabase(dsn.path, synchronous=synchronous, busy_timeout_ms=int(dsn.options.get("busy_timeout_ms", 5000)))
            return file, file.dialect
        case "memory":
            from power_loop.store.memory import MemoryDatabase

            memory = MemoryDatabase() if policy is SchemaPolicy.VERIFY else MemoryDatabase.with_schema(prefix)
            return memory, memory.dialect
        case "postgresql":
            from power_loop.store.postgres import PostgresDatabase

            postgres = PostgresDatabase(dsn)
            return postgres, postgres.dialect
        case "mysql":
            from power_loop.store.mysql import MysqlDatabase

            mysql = MysqlDatabase(dsn)
            return mysql, mysql.dialect
        case _:
            assert_never(dsn.engine)
