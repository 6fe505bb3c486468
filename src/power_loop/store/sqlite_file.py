"""The file of a SQLite database: how it is looked at without a trace, opened, recognised and kept short.

Synchronous; who calls it from which thread, and behind which gate, is the business of `sqlite_worker`.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
from collections.abc import Sequence
from contextlib import closing
from types import NoneType
from typing import Any, Literal

from power_loop.contracts.errors import StoreUnavailable
from power_loop.contracts.store import Row
from power_loop.store.database import NOT_READ, NOT_WRITTEN
from power_loop.store.sqlite_errors import primary_code, unavailable

Synchronous = Literal["full", "normal"]

# SQLite's own default is to checkpoint at 1000 pages of 4096 bytes; later means longer recovery, sooner more work twice.
CHECKPOINT_BYTES = 1000 * 4096
# A checkpoint lets the log be written over from its start, so its size does not show how full it is: commits count too.
CHECKPOINT_COMMITS = 250
# Not after each commit: Linux keeps the times of a file exactly once somebody has looked at them, and the fsync that follows
# a write then writes the inode too (0.20 instead of 0.14 ms).
COMMITS_A_LOOK = 16
# A log that grew beyond this is cut off instead of written over.
LOG_BYTES = 4 * CHECKPOINT_BYTES


class SqliteFile:
    """One path, and what was found there when it was opened for writing."""

    def __init__(self, path: str, *, synchronous: Synchronous, busy_timeout_ms: int) -> None:
        self.path: str = os.path.abspath(path)
        self.synchronous = synchronous
        self.busy_timeout_s: float = busy_timeout_ms / 1000
        self._identity: tuple[int, int] | None = None
        self._log_bytes = 0
        self._commits = 0

    @property
    def gate_path(self) -> str:
        return self.path + ".writer"

    # --- looking ---------------------------------------------------------------------------

    def look(self, sql: str, params: Sequence[Any]) -> list[Row]:
        """The rows, read so that nothing is created or changed; a file that is not there reads as an empty database.

        Raises `StoreUnavailable`.
        """
        try:
            found = self._stat()
            if found is None:
                return _rows(":memory:", sql, params, self.busy_timeout_s)
            if (rows := self._look_at_rest(found, sql, params)) is None:
                rows = self._look_in_use(sql, params)
        except sqlite3.ProgrammingError:
            raise
        except (sqlite3.Error, OSError) as error:
            raise unavailable(self.path, error, NOT_READ) from error
        return rows

    def _look_at_rest(self, found: os.stat_result, sql: str, params: Sequence[Any]) -> list[Row] | None:
        """The rows of a file that nobody has open; None when somebody has, or came meanwhile.

        An ordinary look at a WAL database leaves its side files behind; an "immutable" one does not, but believes
        that the file stays as it is. So that is what is checked before and after.
        """
        if self._in_use():
            return None
        try:
            rows = _rows(self._uri("mode=ro&immutable=1"), sql, params, self.busy_timeout_s)
        except sqlite3.DatabaseError as error:
            if primary_code(error) == sqlite3.SQLITE_CORRUPT:
                return None  # perhaps it only changed while we looked
            raise
        after = self._stat()
        same = after is not None and (after.st_mtime_ns, after.st_size, after.st_ino) == (found.st_mtime_ns, found.st_size, found.st_ino)
        return rows if same and not self._in_use() else None

    def _look_in_use(self, sql: str, params: Sequence[Any]) -> list[Row]:
        try:
            return _rows(self._uri("mode=ro"), sql, params, self.busy_timeout_s)
        except sqlite3.OperationalError as error:
            if primary_code(error) != sqlite3.SQLITE_READONLY:
                raise
        # Who created the file was killed in the middle of it: nobody can read before its journal is rolled back.
        return _rows(self._uri("mode=rw"), sql, params, self.busy_timeout_s)

    def _in_use(self) -> bool:
        return os.path.exists(self.path + "-wal") or os.path.exists(self.path + "-journal")

    def _stat(self) -> os.stat_result | None:
        """None when nothing is there. Raises `StoreUnavailable` for what can be no database."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return None
        if stat.S_ISDIR(found.st_mode):
            raise StoreUnavailable(f"SQLite database {self.path}: it is a directory; name a file in it")
        if not stat.S_ISREG(found.st_mode):
            raise StoreUnavailable(f"SQLite database {self.path}: it is no regular file; choose another path")
        return found

    def _uri(self, options: str) -> str:
        return file_uri(self.path, options)

    # --- writing ------------------------------------------------------------------------------

    def make_folder(self) -> None:
        """Raises `StoreUnavailable`."""
        try:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
        except OSError as error:
            raise unavailable(self.path, error, NOT_WRITTEN) from error

    def open(self) -> sqlite3.Connection:
        """A connection that writes; the file is created where it is missing. The gate must be held.

        Raises `StoreUnavailable`.
        """
        try:
            self._stat()
            connection = _connect(self._uri("mode=rwc"), self.busy_timeout_s)
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            found = os.stat(self.path)
        except (sqlite3.Error, OSError) as error:
            raise unavailable(self.path, error, NOT_WRITTEN) from error
        self._identity = (found.st_dev, found.st_ino)
        self._commits = self._log_bytes = 0
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        if connection.execute("PRAGMA page_count").fetchone()[0] == 0:
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # only an empty file can still be told
        mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise StoreUnavailable(
                f"SQLite database {self.path}: its file system cannot share memory between processes (journal mode {mode!r}); "
                "put it on a local disk"
            )
        connection.execute(f"PRAGMA synchronous={self.synchronous}")
        if sys.platform == "darwin" and self.synchronous == "full":
            connection.execute("PRAGMA fullfsync=1")  # there a plain fsync stops at the disk's cache
        connection.execute("PRAGMA wal_autocheckpoint=0")

    def check(self) -> None:
        """Raises `StoreUnavailable` when the path no longer leads to the file that was opened first; SQLite would not notice."""
        if self._identity is None:
            return
        try:
            found = os.stat(self.path)
        except OSError as error:
            raise StoreUnavailable(
                f"SQLite database {self.path}: the file was removed while it was open; restore it and open it anew"
            ) from error
        if (found.st_dev, found.st_ino) != self._identity:
            raise StoreUnavailable(f"SQLite database {self.path}: the file was replaced while it was open; open it anew")

    # --- the log ----------------------------------------------------------------------------------

    def log_is_long(self) -> bool:
        """To be asked once per commit: is a checkpoint due?"""
        self._commits += 1
        if self._commits % COMMITS_A_LOOK:
            return False
        grown = self._log_size() - self._log_bytes
        return grown > CHECKPOINT_BYTES or (self._commits > CHECKPOINT_COMMITS and grown + self._log_bytes > CHECKPOINT_BYTES)

    def shorten_log(self, connection: sqlite3.Connection) -> None:
        """Write the log back into the database as far as no reader stands in the way. The gate must be held."""
        self._commits = 0
        _, frames, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if frames == copied and self._log_size() > LOG_BYTES:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._log_bytes = self._log_size()

    def _log_size(self) -> int:
        try:
            return os.stat(self.path + "-wal").st_size
        except OSError:
            return 0


def file_uri(path: str, options: str) -> str:
    """``path`` as SQLite wants it together with options."""
    path = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    if os.sep == "\\":
        path = "/" + path.replace("\\", "/")
    return f"file:{path}?{options}"


def _connect(uri: str, timeout_s: float) -> sqlite3.Connection:
    # For every value but numbers and text the driver looks for an adapter, and for None, which is a third of what is bound
    # here, it looks in three places in vain. This one gives None back. It holds for the process, and changes nothing but the time.
    sqlite3.register_adapter(NoneType, dict[None, None]().get)
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=timeout_s, check_same_thread=False, cached_statements=256)


def _rows(uri: str, sql: str, params: Sequence[Any], timeout_s: float) -> list[Row]:
    with closing(_connect(uri, timeout_s)) as connection:
        return connection.execute(sql, params).fetchall()
