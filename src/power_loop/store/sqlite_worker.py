"""The thread that owns a SQLite file: it takes what waits, commits it together, answers, and only then tidies up.

Every job is answered, whatever happens; nothing but this thread touches the connection (a fork that is about to
happen stops it first, see `pause`).
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from power_loop.contracts.errors import StoreUnavailable
from power_loop.contracts.made import made
from power_loop.contracts.store import Batch, CommitUnknown
from power_loop.store.database import NOT_READ, NOT_WRITTEN, Answer, Settled, taken_from, tell, tell_the_rest
from power_loop.store.gate import WriterGate
from power_loop.store.sqlite_commit import Faults, Outcome, commit_group
from power_loop.store.sqlite_errors import unavailable
from power_loop.store.sqlite_file import SqliteFile

# More would make the first of a group wait for the last; measured, throughput hardly grows beyond it.
GROUP = 64
# When so many wait behind a group, its answers are told while the next one is committed; see `_serve`.
CROWD = 16
# Where a commit takes longer than this, in seconds, as few as possible are best; where it does not, two in turn are quicker.
QUICK_S = 0.001


class Write(NamedTuple):
    future: Settled[None]
    batch: Batch


class Read(NamedTuple):
    future: Settled[list[Any]]
    sql: str
    params: Sequence[Any]


class Care(NamedTuple):
    """Work on the connection itself, outside of any transaction and behind the gate."""

    future: Settled[Any]
    work: Callable[[sqlite3.Connection], Any]


class Version(NamedTuple):
    """Has anybody committed anything?"""

    future: Settled[Any]


class Close(NamedTuple):
    future: Settled[None] | None
    """None when nobody is left to be told."""


class Pause(NamedTuple):
    """Stand still with the file closed, say so, and wait to go on."""

    still: threading.Event
    go_on: threading.Event


Job = Write | Read | Care | Version | Close | Pause

# Behind these nothing is taken along.
LAST = frozenset((Close, Pause))


def _refusal(job: Job, error: Exception) -> list[Answer]:
    """What is told to whoever waits for ``job``, which nobody does. Who wants to close, or to fork, is not refused."""
    match job:
        case Pause(still=still):
            still.set()
            return []
        case Close(future=future):
            return [Answer(future, None, None)] if future is not None else []
        case _:
            return [Answer(job.future, None, error)]


class SqliteWorker:
    """One thread, one queue, one connection."""

    def __init__(self, file: SqliteFile, faults: Faults | None) -> None:
        self.jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self.ended: bool = False
        """Set before the queue is emptied for the last time: who puts a job and then sees it must `turn_away` it."""
        self._file = file
        self._faults = faults
        self._gate = WriterGate(file.gate_path)
        self._connection: sqlite3.Connection | None = None
        self._opened = self._groups = 0
        self._hand: Sequence[Job] = ()
        """The group that is being served."""
        self._untold: list[Answer] = []
        self._began = self._commit_s = 0.0
        """When the last COMMIT began, and how long it took, in seconds."""
        self._lost: str | None = None
        self._over: str = f"SQLite database {file.path}: it is closed; nothing was read or written"
        self._pause = Pause(threading.Event(), threading.Event())
        self.thread: threading.Thread = threading.Thread(target=self._run, name="power-loop-sqlite", daemon=True)
        self.thread.start()

    def turn_away(self) -> None:
        """Answer whatever still stands in the queue: this worker will not do it."""
        tell([answer for job in taken_from(self.jobs) for answer in _refusal(job, StoreUnavailable(self._over))])

    # --- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._serve(self._gather()):
                self._hand = ()
        except BaseException as error:  # a bug of ours, or work that a caller gave us ends its program
            self._break_off(error)
            raise
        finally:
            self.ended = True
            self.turn_away()

    def _break_off(self, error: BaseException) -> None:
        """Nobody shall wait for this thread: neither those in hand, nor other processes for the file."""
        ended = f"SQLite database {self._file.path}: its thread was ended by {error!r}"
        self._over = f"{ended}; open it anew; nothing was read or written"
        unknown = f"{ended}; the batch is there or it is not"
        lost = [
            answer
            for job in self._hand
            for answer in _refusal(job, CommitUnknown(unknown) if isinstance(job, Write) else StoreUnavailable(ended))
        ]
        tell_the_rest([*self._untold, *lost])
        with suppress(Exception):  # what cannot be closed is left to the process's end
            self._shut()

    def _gather(self) -> list[Job]:
        """Wait for one job, then take along what else stands there already, within bounds."""
        if self.jobs.qsize() < CROWD:
            self._tell()
        job = self.jobs.get()
        self._hand = group = [job]
        most = self._room(1 + self.jobs.qsize())
        while type(job) not in LAST and len(group) < most:
            job = self.jobs.get()  # nobody else takes any
            group.append(job)
        return group

    def _room(self, waiting: int) -> int:
        """So many of those that wait go into the next group: one half of two crowds, so that the other may work meanwhile."""
        if waiting >= 2 * CROWD and self._commit_s < QUICK_S:
            waiting //= 2
        return min(GROUP, waiting)

    def _serve(self, group: list[Job]) -> bool:
        """Do all of it, writes first; False when it ended with `Close`.

        Whoever hears of a commit goes on and keeps Python's lock busy. So while a crowd waits, it is told only when the
        next group's statements are run and nothing is left but its COMMIT, which needs no Python: each half works while
        the other is written.
        """
        writes = [job for job in group if isinstance(job, Write)]
        if writes:
            answers = self._write(writes)
            self._tell()
            self._untold = answers
        if len(writes) < len(group):
            self._tell()
            tell([self._do(job) for job in group if isinstance(job, (Read, Care, Version))])
        if writes:
            self._tidy()
        match group[-1]:
            case Pause() as pause:
                self._stand_still(pause)
            case Close(future=future):
                self._shut()
                if future is not None:
                    tell([Answer(future, None, None)])
                return False
            case _:
                pass
        return True

    def _tell(self) -> None:
        """Tell those who were not told yet what became of their batches."""
        if self._untold:
            tell(self._untold)
            self._untold = []

    # --- jobs --------------------------------------------------------------------------------------

    def _write(self, writes: list[Write]) -> list[Answer]:
        outcomes = self._outcomes([job.batch for job in writes])
        return [made(Answer, (job.future, None, outcome)) for job, outcome in zip(writes, outcomes, strict=True)]

    def _outcomes(self, batches: list[Batch]) -> list[Outcome]:
        try:
            connection = self._enter()
        except Exception as error:  # the system's: whatever it is, nothing has begun, and whoever waits must be told
            told = error if isinstance(error, StoreUnavailable) else unavailable(self._file.path, error, NOT_WRITTEN)
            return [StoreUnavailable(*told.args) for _ in batches]
        try:
            outcomes = self._commit(connection, batches)
            self._groups += 1
            if any(isinstance(outcome, CommitUnknown) for outcome in outcomes):
                self._drop(connection)  # behind the gate, because the last one to close writes the log back
            return outcomes
        finally:
            self._gate.leave()

    def _commit(self, connection: sqlite3.Connection, batches: list[Batch]) -> list[Outcome]:
        try:
            outcomes = commit_group(connection, batches, self._file.path, self._faults, self._before_commit)
            self._commit_s = time.monotonic() - self._began
            return outcomes
        except Exception as error:  # the driver's: even undoing may fail, and whoever waits must be told
            return [CommitUnknown(f"SQLite database {self._file.path}: {error!r}; the batch is there or it is not") for _ in batches]

    def _before_commit(self) -> None:
        self._tell()
        self._began = time.monotonic()

    def _do(self, job: Read | Care | Version) -> Answer:
        try:
            return Answer(job.future, self._done(job), None)
        except Exception as error:  # the driver's, and of work that a caller gave us
            return Answer(job.future, None, error)

    def _done(self, job: Read | Care | Version) -> Any:
        if isinstance(job, Read):
            return self._read(job)
        return self._care(job) if isinstance(job, Care) else self._version()

    def _read(self, job: Read) -> list[Any]:
        self._check()
        if self._connection is None:
            return self._file.look(job.sql, job.params)
        try:
            return self._connection.execute(job.sql, job.params).fetchall()
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.Error as error:
            raise unavailable(self._file.path, error, NOT_READ) from error

    def _version(self) -> object:
        """Differs after every commit; None while no connection is open, since only an open one can tell."""
        self._check()
        if self._connection is None:
            return None
        # data_version moves with the commits of others only (sqlite.org/pragma.html#pragma_data_version).
        return self._opened, self._groups, self._connection.execute("PRAGMA data_version").fetchone()[0]

    def _care(self, job: Care) -> Any:
        connection = self._enter()
        self._groups += 1
        try:
            return job.work(connection)
        except sqlite3.Error as error:
            raise unavailable(self._file.path, error, "the data is as it was") from error
        finally:
            self._gate.leave()

    def _tidy(self) -> None:
        """Keep the log short; a checkpoint that fails is tried again later, and loses nothing."""
        if self._connection is None or not self._file.log_is_long():
            return
        self._tell()
        try:
            self._gate.enter(self._file.busy_timeout_s)
        except OSError:
            return
        try:
            self._file.shorten_log(self._connection)
        except sqlite3.Error:
            pass
        finally:
            self._gate.leave()

    # --- the connection ---------------------------------------------------------------------------------

    def _enter(self) -> sqlite3.Connection:
        """The connection, opened where it has to be, with the gate held. Raises `StoreUnavailable`, the gate free."""
        self._check()
        if self._connection is None:
            self._file.make_folder()
        self._pass_gate()
        if self._connection is None:
            try:
                self._connection = self._file.open()
                self._opened += 1
            except BaseException:
                self._gate.leave()
                raise
        return self._connection

    def _pass_gate(self) -> None:
        timeout_s = self._file.busy_timeout_s
        try:
            if not self._gate.try_enter():
                self._tell()
                self._gate.enter(timeout_s)
        except TimeoutError:
            raise StoreUnavailable(
                f"SQLite database {self._file.path}: other processes have been writing for {timeout_s:g} s (busy_timeout_ms), "
                f"perhaps one of them is stopped; {NOT_WRITTEN}"
            ) from None
        except OSError as error:
            raise unavailable(self._file.path, error, NOT_WRITTEN) from error

    def _check(self) -> None:
        """Once the file was lost nothing is done any more, even if one comes back to its place."""
        if self._lost is not None:
            raise StoreUnavailable(self._lost)
        try:
            self._file.check()
        except StoreUnavailable as error:
            self._lost = str(error)
            raise

    def _drop(self, connection: sqlite3.Connection) -> None:
        """Close it without a word; the next job opens another."""
        self._connection = None
        with suppress(sqlite3.Error):  # what cannot even be closed is left to the process's end
            connection.close()

    def _shut(self) -> None:
        """Leave a file that is whole without its side files."""
        if self._connection is not None:
            self._hang_up(self._connection)
        self._gate.close()

    def _hang_up(self, connection: sqlite3.Connection) -> None:
        try:
            self._gate.enter(self._file.busy_timeout_s)
        except OSError:
            self._drop(connection)
            return
        with suppress(sqlite3.Error):  # then the log stays beside the file, and whoever opens it next reads it
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._drop(connection)
        self._gate.leave()

    # --- forks ------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Before a fork, from the thread that forks: have the file closed, and nothing begun until `go_on`.

        A forked child believes to hold its parent's file locks, so a connection of its own would not take them: the
        parent could then delete the log that the child goes on writing to. With no connection open there is nothing to inherit.
        """
        self._pause = Pause(threading.Event(), threading.Event())
        self.jobs.put(self._pause)
        if self.ended:
            self.turn_away()
        # Longer than the thread may wait for the gate, once to commit and once to close.
        self._pause.still.wait(2 * self._file.busy_timeout_s + 1)

    def go_on(self) -> None:
        """After the fork, in the parent."""
        self._pause.go_on.set()

    def _stand_still(self, pause: Pause) -> None:
        self._shut()
        self._gate = WriterGate(self._file.gate_path)
        pause.still.set()
        pause.go_on.wait()
