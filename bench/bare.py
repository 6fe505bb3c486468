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


class Bare:
    """A plain connection, on which batches that sends wrote are written again; ``batches`` is how many there will be."""

    def __init__(self, ddl: Sequence[str], path: Path, synchronous: str, batches: int) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute(f"PRAGMA synchronous = {synchronous}")
        self._connection.execute("PRAGMA wal_autocheckpoint = 0")
        for statement in ddl:
            self._connection.execute(statement)
        self._fill_the_log(batches * LOG_BYTES_A_BATCH)

    def again(self, batches: Sequence[Batch]) -> list[float]:
        """Write ``batches``, one transaction each; the seconds that each took."""
        return [self._written(batch) for batch in batches]

    def _written(self, batch: Batch) -> float:
        began = time.perf_counter()
        self._connection.execute("BEGIN IMMEDIATE")
        for sql, params, _ in batch:
            self._connection.execute(sql, params)
        self._connection.execute("COMMIT")
        return time.perf_counter() - began

    def close(self) -> None:
        self._connection.close()

    def _fill_the_log(self, size: int) -> None:
        """From here on the log is written over, as in a database that has been at work: while it grows, a sync takes twice as long."""
        self._connection.execute("CREATE TABLE filler (x)")
        self._connection.execute("INSERT INTO filler VALUES (zeroblob(?))", (size,))
        self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
