"""What SQLite's errors mean to someone who runs an agent: what happened, to which file, and the way out."""

from __future__ import annotations

import sqlite3

from power_loop.contracts.errors import StoreRefused, StoreUnavailable

# Primary result codes (sqlite.org/rescode.html) → what to do about them.
_WAYS_OUT = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space and repeat it",
    sqlite3.SQLITE_READONLY: "it cannot be written; check the permissions of the file and its folder, and how the disk is mounted",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check that its folder exists and can be written",
    sqlite3.SQLITE_NOTADB: "it is no SQLite database; choose another path",
    sqlite3.SQLITE_CORRUPT: "it is damaged; restore a backup, or try `.recover` of the sqlite3 shell on a copy",
    sqlite3.SQLITE_BUSY: "another process keeps it locked; see busy_timeout_ms, and who has it open",
    sqlite3.SQLITE_LOCKED: "another process keeps it locked; see busy_timeout_ms, and who has it open",
    sqlite3.SQLITE_IOERR: "the disk refused; see the system's log",
    sqlite3.SQLITE_PERM: "access is denied; check the permissions of the file and its folder",
    sqlite3.SQLITE_TOOBIG: "a value is longer than SQLite takes",
}


def primary_code(error: BaseException) -> int:
    """SQLite's result code without its details; 0 when the error is not the library's."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # only errors of the library itself carry the attribute


def unavailable(path: str, error: BaseException, state: str) -> StoreUnavailable:
    """``state`` says what is certain: `NOT_WRITTEN` or `NOT_READ`."""
    way_out = _WAYS_OUT.get(primary_code(error))
    reason = f"{way_out} ({error})" if way_out else str(error) or type(error).__name__
    kind = StoreRefused if primary_code(error) == sqlite3.SQLITE_TOOBIG else StoreUnavailable
    told = kind(f"SQLite database {path}: {reason}; {state}")
    told.__cause__ = error
    return told


def is_duplicate(error: sqlite3.IntegrityError) -> bool:
    """A key exists already; any other broken constraint is a mistake of the statement."""
    return error.sqlite_errorcode in (
        sqlite3.SQLITE_CONSTRAINT_UNIQUE,
        sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
        sqlite3.SQLITE_CONSTRAINT_ROWID,
    )
