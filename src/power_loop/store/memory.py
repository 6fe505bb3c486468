"""A database in memory that keeps the whole contract: the verified fake, and what `:memory:` opens.

Real SQLite, called in place: there is no disk to wait for, so a thread would only add its hops. A lock makes it
safe for several threads and event loops. Nothing is decided by chance or by time; a simulation may stand between
any two steps through ``pause``.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from power_loop.contracts.errors import StoreUnavailable
from power_loop.contracts.store import Batch, Row
from power_loop.contracts.text import findable
from power_loop.store.database import NOT_READ, Settled
from power_loop.store.dialect import SqliteDialect
from power_loop.store.migrate import script
from power_loop.store.sqlite_care import SqliteCare
from power_loop.store.sqlite_commit import commit_group
from power_loop.store.sqlite_errors import unavailable

T = TypeVar("T")

Pause = Callable[[str], Awaitable[None]]
"""Called with ``before_read``, ``after_read``, ``before_write`` or ``after_write``; what it raises, the verb raises:
at ``after_write`` the batch is written by then."""

_NAME = ":memory:"


class _Core:
    """The data, shared by every `MemoryDatabase` that is connected to it."""

    def __init__(self, image: bytes | None) -> None:
        self.lock = threading.Lock()
        self.connection = sqlite3.connect(_NAME, isolation_level=None, check_same_thread=False, cached_statements=256)
        if image is not None:
            self.connection.deserialize(image)
        self.users = self.writes = 0

    def __del__(self) -> None:
        # Nobody has a way in any more: there is nothing to lose, and nothing to warn of.
        self.connection.close()

    def read(self, sql: str, params: Sequence[Any]) -> list[Row]:
        with self.lock:
            try:
                return self.connection.execute(sql, params).fetchall()
            except sqlite3.ProgrammingError:
                raise
            except sqlite3.Error as error:
                raise unavailable(_NAME, error, NOT_READ) from error

    def write(self, batch: Batch) -> None:
        with self.lock:
            (outcome,) = commit_group(self.connection, (batch,), _NAME)
            self.writes += 1
        if outcome is not None:
            raise outcome

    def maintain(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self.lock:
            return work(self.connection)


class MemoryDatabase(SqliteCare):
    """One way into a private database; `connect` gives further ones into the same, as other processes have.

    The data live until the last of them is closed.
    """

    dialect: SqliteDialect = SqliteDialect()

    def __init__(self, *, pause: Pause | None = None) -> None:
        self._enter(_Core(None), pause)

    @classmethod
    def with_schema(cls, prefix: str = "pl_", *, pause: Pause | None = None) -> MemoryDatabase:
        """One that has our tables already, at a fraction of the time that their DDL takes."""
        return cls._into(_Core(_image(prefix)), pause)

    def connect(self, *, pause: Pause | None = None) -> MemoryDatabase:
        """Another way into the same data, with a ``pause`` and a life of its own."""
        return self._into(self._core, pause)

    @classmethod
    def _into(cls, core: _Core, pause: Pause | None) -> MemoryDatabase:
        database = cls.__new__(cls)
        database._enter(core, pause)
        return database

    def _enter(self, core: _Core, pause: Pause | None) -> None:
        core.users += 1
        self._core = core
        self._pause = pause
        self._closed = False
        self._running: set[asyncio.Task[None]] = set()

    # --- the port ---------------------------------------------------------------------------------

    def read(self, sql: str, params: Sequence[Any] = ()) -> Settled[list[Row]]:
        """See `Database.read`."""
        return self._do(lambda: self._core.read(sql, findable(params)), "read")

    def write(self, batch: Batch) -> Settled[None]:
        """See `Database.write`."""
        return self._do(lambda: self._core.write(batch), "write")

    async def version(self) -> object:
        """See `Hints.version`."""
        return self._core.writes

    def maintain(self, work: Callable[[sqlite3.Connection], T]) -> Settled[T]:
        """Run ``work`` on the connection, outside of any transaction."""
        return self._do(lambda: self._core.maintain(work), "maintain")

    async def close(self) -> None:
        """See `Database.close`."""
        if self._running:
            await asyncio.wait(self._running)
        if not self._closed:
            self._closed = True
            self._core.users -= 1
            if not self._core.users:
                self._core.connection.close()

    def discard(self) -> None:
        """Throw the data away at once, whoever is still connected: for the end of a simulation, where nobody closes any more."""
        self._core.connection.close()

    # --- one job --------------------------------------------------------------------------------------

    def _do(self, work: Callable[[], T], verb: str) -> Settled[T]:
        loop = asyncio.get_running_loop()
        future: Settled[T] = Settled(loop=loop)
        if self._closed:
            future.set_exception(StoreUnavailable("the memory database is closed; open another"))
        elif self._pause is None:
            _settle(future, work)
        else:
            # A task of its own: as with a thread, the work goes on when the one who asked for it is cancelled.
            task = loop.create_task(self._do_with_pauses(future, work, verb, self._pause))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return future

    async def _do_with_pauses(self, future: Settled[T], work: Callable[[], T], verb: str, pause: Pause) -> None:
        try:
            await pause("before_" + verb)
            value = work()
            await pause("after_" + verb)
        except Exception as error:  # the pause's: a simulation may raise whatever it wants the verb to raise
            future.set_exception(error)
        except asyncio.CancelledError:
            future.set_exception(StoreUnavailable("the event loop was shut down in the middle of it; look whether it was written"))
            raise
        else:
            future.set_result(value)


def _settle(future: Settled[T], work: Callable[[], T]) -> None:
    try:
        value = work()
    except Exception as error:  # what the driver raises for a value that it cannot bind is open-ended
        future.set_exception(error)
    else:
        future.set_result(value)


@lru_cache(maxsize=8)
def _image(prefix: str) -> bytes:
    """The bytes of an empty database with our tables."""
    connection = sqlite3.connect(_NAME, isolation_level=None)
    for statement in script(SqliteDialect(), prefix):
        connection.execute(statement)
    image = connection.serialize()
    connection.close()
    return image
