"""On servers a look for what is due goes along an index as far as that, and not past all that is due later."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import engines
import pytest
import servers_mysql

from power_loop import SessionStore, open_store
from power_loop.contracts.store import Statement
from power_loop.store.mysql_text import rendered
from power_loop.store.postgres_text import numbered

LATER, HOUR_MS = 2_000, 3_600_000
SESSION = ("session_id", "agent", "runnable_at", "created_at", "updated_at")
TIMER = ("session_id", "status", "due_at", "anchor_at", "note", "tz", "created_at", "updated_at")


class Place:
    """A store on a server, and what it asked there."""

    def __init__(self, dsn: str, store: SessionStore) -> None:
        self.dsn, self.store = dsn, store
        self.asked: list[tuple[str, Sequence[Any]]] = []
        self._read, self._write = store.database.read, store.database.write
        store.database.read, store.database.write = self._noted, self._wrote  # type: ignore[method-assign] - it listens

    async def insert(self, table: str, columns: Sequence[str], rows: list[tuple[Any, ...]]) -> None:
        one = f"({', '.join('?' * len(columns))})"
        sql = f"INSERT INTO pl_{table} ({', '.join(columns)}) VALUES {', '.join([one] * len(rows))}"
        await self._write([Statement(sql, [value for row in rows for value in row])])
        await self._read(f"ANALYZE {'TABLE' if self.store.dialect.name == 'mysql' else ''} pl_{table}")

    async def rows_looked_at(self, sql: str, params: Sequence[Any]) -> int:
        """How many rows the server went through for it, on a connection of its own."""
        if self.store.dialect.name == "postgresql":
            return await self._looked_at_by_postgres(sql, params)
        async with servers_mysql.connected(self.dsn) as wire:
            await wire.run([b"FLUSH STATUS", rendered(sql, params, wire.backslash_escapes)])
            status = await wire.rows(b"SHOW SESSION STATUS LIKE 'Handler_read%'")
        return sum(int(count) for _, count in status)

    async def _looked_at_by_postgres(self, sql: str, params: Sequence[Any]) -> int:
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute("SET enable_seqscan = off")  # so few rows it would rather read whole
            plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN (ANALYZE, TIMING OFF) {numbered(sql)}", *params))
        finally:
            await connection.close()
        return sum(int(count) for count in re.findall(r"(?:actual rows=|Rows Removed by Filter: )(\d+)", plan))

    async def _noted(self, sql: str, params: Sequence[Any] = ()) -> Any:
        self.asked.append((sql, params))
        return await self._read(sql, params)

    async def _wrote(self, batch: Any) -> Any:
        self.asked += [(sql, params) for sql, params, _ in batch]
        return await self._write(batch)


@pytest.fixture(params=engines.SERVERS)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """With many timers and sessions that are due in an hour, and one of each that is due now."""
    async with engines.fresh(request.param, tmp_path) as dsn:
        place = Place(dsn, await open_store(dsn))
        now = place.store.clock.now_ms()
        dues = [now - 1, *(now + HOUR_MS + n for n in range(LATER))]
        await place.insert("sessions", SESSION, [(f"s{n}", "a", due, 1, 1) for n, due in enumerate(dues)])
        await place.insert("timers", TIMER, [(f"s{n}", "armed", due, due, "", "UTC", 1, 1) for n, due in enumerate(dues)])
        yield place
        await place.store.close()


async def test_a_look_for_due_timers_passes_none_that_is_due_later(place: Place) -> None:
    await place.store.fire_due(agents=["a"])
    assert await place.rows_looked_at(*place.asked[0]) < 20


async def test_a_claim_passes_no_session_that_is_due_later(place: Place) -> None:
    await place.store.claim("me", limit=10, agents=["a"])
    assert await place.rows_looked_at(*place.asked[0]) < 20
