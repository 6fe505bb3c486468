"""The bare work: the statements that sends wrote, done again on a plain `sqlite3` connection."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from power_loop import SessionStore, StatefulAgentLoop
from power_loop.contracts.store import Batch, Database


class Recorder:
    """A database that remembers the batches that went through it."""

    def __init__(self, inner: Database) -> None:
        self._inner = inner
        self.batches: list[Batch] = []

    def read(self, sql: str, params: Sequence[Any] = ()) -> Any:
        return self._inner.read(sql, params)

    def write(self, batch: Batch) -> Any:
        self.batches.append(tuple(batch))
        return self._inner.write(batch)

    async def close(self) -> None:
        await self._inner.close()


def recording(store: SessionStore) -> Recorder:
    """Have ``store`` remember what it writes from now on."""
    recorder = Recorder(store._database)
    store._database = recorder
    return recorder


async def recorded(loop: StatefulAgentLoop) -> Recorder:
    return recording(await loop.ensure_store())


def forgetful(store: SessionStore, recorder: Recorder) -> None:
    """Have ``store`` write as if nobody had recorded it."""
    store._database = recorder._inner


# Four pages, and what stands before each.
LOG_BYTES_A_BATCH = 4 * 4_200


def again(batches: Sequence[Batch], ddl: Sequence[str], path: Path, synchronous: str) -> list[float]:
    """Do ``batches`` again, one transaction each; the seconds that each took."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    for statement in ddl:
        connection.execute(statement)
    _fill_the_log(connection, len(batches) * LOG_BYTES_A_BATCH)
    took: list[float] = []
    for batch in batches:
        began = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        for sql, params, _ in batch:
            connection.execute(sql, params)
        connection.execute("COMMIT")
        took.append(time.perf_counter() - began)
    connection.close()
    return took


def _fill_the_log(connection: sqlite3.Connection, size: int) -> None:
    """From here on the log is written over, as it is in a database that has been at work: while it grows, a sync takes twice as long."""
    connection.execute("CREATE TABLE filler (x)")
    connection.execute("INSERT INTO filler VALUES (zeroblob(?))", (size,))
    connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
