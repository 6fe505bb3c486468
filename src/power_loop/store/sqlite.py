"""SQLite behind the two verbs: one file, one connection, one thread, and commits that are shared by all who wait.

The thread's side is in `sqlite_worker`, the transaction in `sqlite_commit`, the file in `sqlite_file`.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from power_loop.contracts.errors import StoreUnavailable
from power_loop.contracts.forks import mind_forks
from power_loop.contracts.made import made
from power_loop.contracts.store import Batch, Row
from power_loop.contracts.text import findable
from power_loop.store.database import Settled
from power_loop.store.dialect import SqliteDialect
from power_loop.store.sqlite_care import SqliteCare, copied_file, on_a_thread
from power_loop.store.sqlite_commit import Faults
from power_loop.store.sqlite_file import SqliteFile, Synchronous
from power_loop.store.sqlite_worker import Care, Close, Job, Read, SqliteWorker, Version, Write

T = TypeVar("T")


class SqliteDatabase(SqliteCare):
    """A file at ``path``; nothing is opened before the first verb, and nothing created before the first write.

    With ``synchronous="full"`` a write that returned survives power loss; with ``"normal"`` it survives the process
    only. ``busy_timeout_ms`` bounds the wait for other processes. ``faults`` is for tests.
    """

    dialect: SqliteDialect = SqliteDialect()

    def __init__(
        self, path: str | os.PathLike[str], *, synchronous: Synchronous = "full", busy_timeout_ms: int = 5000, faults: Faults | None = None
    ) -> None:
        self._worker: SqliteWorker | None = None
        self._file = SqliteFile(os.fspath(path), synchronous=synchronous, busy_timeout_ms=busy_timeout_ms)
        self._faults = faults
        self._closed = False
        self._starting = threading.Lock()
        self._left_behind: list[SqliteWorker] = []
        mind_forks(
            self,
            before=SqliteDatabase.before_fork,
            in_parent=SqliteDatabase.after_fork_in_parent,
            in_child=SqliteDatabase.after_fork_in_child,
        )

    @property
    def path(self) -> str:
        return self._file.path

    # --- the port ---------------------------------------------------------------------------------

    def read(self, sql: str, params: Sequence[Any] = ()) -> Settled[list[Row]]:
        """See `Database.read`; it sees every write that was submitted before it."""
        future: Settled[list[Row]] = Settled(loop=asyncio.get_running_loop())
        self._submit(Read(future, sql, findable(params)))
        return future

    def write(self, batch: Batch) -> Settled[None]:
        """See `Database.write`. What is submitted is written, whether or not anybody awaits the future."""
        future: Settled[None] = Settled(loop=asyncio.get_running_loop())
        self._submit(made(Write, (future, batch)))
        return future

    def version(self) -> Settled[Any]:
        """See `Hints.version`."""
        future: Settled[Any] = Settled(loop=asyncio.get_running_loop())
        self._submit(Version(future))
        return future

    def maintain(self, work: Callable[[sqlite3.Connection], T]) -> Settled[T]:
        """Run ``work`` on the connection: outside of any transaction, behind the gate, on the database's thread."""
        future: Settled[T] = Settled(loop=asyncio.get_running_loop())
        self._submit(Care(future, work))
        return future

    async def copy_to(self, path: str, *, overwrite: bool, then: Sequence[str] = ()) -> None:
        """Copy the file beside all other work: a reader of its own holds up no writer. The statements ``then`` are run on the copy."""
        await on_a_thread(lambda: copied_file(self.path, path, overwrite, then))

    async def close(self) -> None:
        """Finish what was submitted and leave one file without side files, as far as no other process has it open."""
        self._closed = True
        worker = self._worker
        if worker is not None and not worker.ended:
            future: Settled[None] = Settled(loop=asyncio.get_running_loop())
            self._put(worker, Close(future))
            await future
            worker.thread.join()

    def __del__(self) -> None:
        # Whoever forgot to close it gets the thread and the file back all the same; what was submitted is written.
        if self._worker is not None:
            self._worker.jobs.put(Close(None))

    # --- the worker ----------------------------------------------------------------------------------

    def _submit(self, job: Read | Write | Care | Version) -> None:
        worker = self._worker or self._start()
        if worker is None or self._closed:
            job.future.set_exception(StoreUnavailable(f"SQLite database {self.path}: it is closed; open it anew"))
        else:
            self._put(worker, job)

    @staticmethod
    def _put(worker: SqliteWorker, job: Job) -> None:
        worker.jobs.put(job)
        if worker.ended:  # it may have ended between our look and our put
            worker.turn_away()

    def _start(self) -> SqliteWorker | None:
        with self._starting:
            if self._worker is None and not self._closed:
                self._worker = SqliteWorker(self._file, self._faults)
            return self._worker

    # --- forks -----------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        self._starting.acquire()  # so that no thread is being started while the process is doubled
        if self._worker is not None:
            self._worker.pause()

    def after_fork_in_parent(self) -> None:
        if self._worker is not None:
            self._worker.go_on()
        self._starting.release()

    def after_fork_in_child(self) -> None:
        """The parent's thread does not exist here: begin anew, and never touch (nor free) what it had open."""
        if self._worker is not None:
            self._left_behind.append(self._worker)
        self._worker = None
        self._starting = threading.Lock()
