"""How a SQLite database is looked after: its log, the room that it no longer needs, and copies of it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing, suppress
from typing import TypeVar

from power_loop.contracts.errors import StoreUnavailable
from power_loop.store.database import Answer, Settled, tell
from power_loop.store.sqlite_file import file_uri

T = TypeVar("T")

# So many pages are given back before sends have their turn: a few ms.
PAGES_AT_ONCE = 500
# The files of one database: itself, SQLite's log, its index and journal, and the lock that its writers take turns with.
ENDINGS = ("", "-wal", "-shm", "-journal", ".writer")


class SqliteCare(ABC):
    """What every SQLite database can do for itself, on its connection."""

    @abstractmethod
    def maintain(self, work: Callable[[sqlite3.Connection], T]) -> Awaitable[T]:
        """Run ``work`` on the connection, outside of any transaction."""

    async def write_back(self, mode: str) -> None:
        """Write the log back into the file; ``mode`` as of SQLite's checkpoints."""
        await self.maintain(lambda connection: written_back(connection, mode))

    async def shrink(self, *, in_steps: bool) -> int:
        """Give free pages back to the file system; how many bytes."""
        if not in_steps or not await self.maintain(can_shrink_in_steps):
            return await self.maintain(rewritten)
        freed = 0
        while step := await self.maintain(shrunk_a_little):
            freed += step
        # In WAL mode the file itself shrinks when the log is written back.
        await self.write_back("TRUNCATE")
        return freed

    async def copy_to(self, path: str, *, overwrite: bool, then: Sequence[str] = ()) -> None:
        """Copy what is in memory, in its turn among the other work. The statements ``then`` are run on the copy."""
        await self.maintain(lambda connection: copied(connection, place_for(path, overwrite), overwrite, then))


# --- on the connection ----------------------------------------------------------------------------


def written_back(connection: sqlite3.Connection, mode: str) -> None:
    connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()


def can_shrink_in_steps(connection: sqlite3.Connection) -> bool:
    """Files of ours can; one that somebody else created may have to be rewritten once."""
    return number(connection, "PRAGMA auto_vacuum") == 2


def shrunk_a_little(connection: sqlite3.Connection) -> int:
    """The bytes that one step gave back."""
    before = number(connection, "PRAGMA page_count")
    connection.execute(f"PRAGMA incremental_vacuum({PAGES_AT_ONCE})").fetchall()
    return (before - number(connection, "PRAGMA page_count")) * number(connection, "PRAGMA page_size")


def rewritten(connection: sqlite3.Connection) -> int:
    """The bytes that rewriting the whole file saved."""
    before = number(connection, "PRAGMA page_count")
    connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
    connection.execute("VACUUM")
    freed = (before - number(connection, "PRAGMA page_count")) * number(connection, "PRAGMA page_size")
    written_back(connection, "TRUNCATE")
    return max(0, freed)


def number(connection: sqlite3.Connection, sql: str) -> int:
    return connection.execute(sql).fetchone()[0]


# --- copies -----------------------------------------------------------------------------------------


def place_for(path: str, overwrite: bool) -> str:
    path = os.path.abspath(path)
    if os.path.exists(path) and not overwrite:
        raise FileExistsError(f"{path} exists; give overwrite=True to replace it")
    return path


def is_of_the_store(path: str, source: str) -> bool:
    """Whether ``path`` is the database at ``source`` under any name, or one of the files beside it."""
    beside = {os.path.realpath(source + ending) for ending in ENDINGS}
    return os.path.realpath(path) in beside or (os.path.exists(path) and os.path.exists(source) and os.path.samefile(path, source))


def copied_file(source: str, path: str, overwrite: bool, then: Sequence[str]) -> None:
    """Copy through a connection of its own: a reader sees one moment, and holds up no writer."""
    path = place_for(path, overwrite)
    if is_of_the_store(path, source):
        raise ValueError(f"backup to {path}: that file is the store's own; give another path")
    try:
        with closing(sqlite3.connect(file_uri(source, "mode=ro"), uri=True)) as reader:
            copied(reader, path, overwrite, then)
    except sqlite3.Error as error:
        raise StoreUnavailable(f"backup to {path}: {error}; nothing was left there") from error


def copied(source: sqlite3.Connection, path: str, overwrite: bool, then: Sequence[str]) -> None:
    """Copy what ``source`` sees into a file beside ``path``, and put it there only when it is whole and on the disk."""
    part = f"{path}.{os.getpid()}-{threading.get_ident()}.part"
    try:
        with closing(sqlite3.connect(part)) as target:
            source.backup(target)
            target.execute("PRAGMA journal_mode=DELETE")  # nothing of it is in a second file, whatever comes between
            with target:
                for sql in then:
                    target.execute(sql)
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        if overwrite:
            os.replace(part, path)
        else:
            os.link(part, path)  # unlike a rename it refuses to take the place of a file that came meanwhile
    except FileExistsError:
        raise
    except (OSError, sqlite3.Error) as error:
        raise StoreUnavailable(f"backup to {path}: {error}; nothing was left there") from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(part)


def on_a_thread(work: Callable[[], None]) -> Settled[None]:
    """Do it on a thread of its own; whoever is cancelled meanwhile learns the outcome first."""
    future: Settled[None] = Settled(loop=asyncio.get_running_loop())

    def run() -> None:
        try:
            work()
        except Exception as error:  # the driver's, and the file system's
            tell([Answer(future, None, error)])
        else:
            tell([Answer(future, None, None)])

    threading.Thread(target=run, name="power-loop-backup", daemon=True).start()
    return future
