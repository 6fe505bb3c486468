"""`SessionStore`: everything that is durably true of sessions, on any engine.

The verbs are grouped in `sessions`, `log`, `messages`, `watch`, `inbox`, `claims` and `values`; this joins them on one database.
"""

from __future__ import annotations

import warnings
from typing import Self

from power_loop.contracts.clock import Clock, Ids, SystemClock, SystemIds
from power_loop.contracts.store import Database, SchemaPolicy
from power_loop.store.archive import Archive
from power_loop.store.care import Care
from power_loop.store.claims import Claims
from power_loop.store.dialect import Dialect
from power_loop.store.firing import Firing
from power_loop.store.inbox import Inbox
from power_loop.store.jobs import Jobs
from power_loop.store.late_results import LateResults
from power_loop.store.messages import Messages
from power_loop.store.migrate import script
from power_loop.store.notes import Notes
from power_loop.store.open import open_database
from power_loop.store.outside import Outside
from power_loop.store.retention import Retention
from power_loop.store.sessions import Sessions
from power_loop.store.tables import SCHEMA
from power_loop.store.values import Values
from power_loop.store.watch import Watch


class SessionStore(
    Retention, Sessions, Archive, Outside, Watch, Messages, Notes, Inbox, Claims, Values, Firing, Jobs, LateResults, Care
):  # fmt: skip
    """One open store; may be shared by any number of loops, event loops and threads."""

    def __init__(
        self, database: Database, dialect: Dialect, prefix: str = "pl_", *, clock: Clock | None = None, ids: Ids | None = None,
        max_spawn_depth: int = 3,
    ) -> None:  # fmt: skip
        if type(max_spawn_depth) is not int or max_spawn_depth < 1:
            raise ValueError(f"max_spawn_depth is {max_spawn_depth!r}; it must be at least 1")
        super().__init__(database, dialect, prefix, clock or SystemClock(), ids or SystemIds())
        self.max_spawn_depth = max_spawn_depth

    @classmethod
    async def open(
        cls, path: str = ":memory:", *, max_spawn_depth: int = 3, table_prefix: str = "pl_", schema: SchemaPolicy | str | None = None
    ) -> Self:
        """Open the store at a DSN or SQLite path. Raises what `open_store` raises."""
        policy = SchemaPolicy(schema) if schema is not None else SchemaPolicy.AUTO_CREATE
        opened = await open_database(path, schema_policy=policy, table_prefix=table_prefix)
        return cls(opened.database, opened.dialect, opened.prefix, max_spawn_depth=max_spawn_depth)

    @property
    def dialect(self) -> Dialect:
        return self._dialect

    @property
    def schema_version(self) -> int:
        return SCHEMA.version

    def ddl(self) -> list[str]:
        """The statements that create this store's tables; each may be run again."""
        return script(self._dialect, self._prefix)

    async def close(self) -> None:
        """Finish what was submitted and give the database back. May be called more than once."""
        await self._database.close()


async def open_store(
    dsn: str = ":memory:",
    *,
    max_spawn_depth: int = 3,
    table_prefix: str = "pl_",
    schema: SchemaPolicy | str | None = None,
    create_schema: bool | None = None,
) -> SessionStore:
    """The store at ``dsn``; its schema is created or migrated, or under ``VERIFY`` only looked at.

    Raises `ValueError` for a bad DSN or prefix, `StoreSchemaError`, or `StoreUnavailable`.
    """
    if create_schema is not None:
        warnings.warn("create_schema is deprecated; use schema='auto_create' or schema='verify'", DeprecationWarning, stacklevel=2)
        schema = SchemaPolicy.AUTO_CREATE if create_schema else SchemaPolicy.VERIFY
    return await SessionStore.open(dsn, max_spawn_depth=max_spawn_depth, table_prefix=table_prefix, schema=schema)
