"""Group commit: the batches that wait share one SQLite transaction, and each learns its own outcome."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from power_loop.contracts.store import Batch, CommitUnknown, Conflict
from power_loop.store.database import NOT_WRITTEN
from power_loop.store.sqlite_errors import is_duplicate, unavailable

Faults = Callable[[str], None]
"""A test's way in: called with ``before_begin``, ``before_commit`` or ``after_commit``; it may raise, or kill."""

Outcome = Exception | None
"""None: written, and durable as far as the connection's settings go."""


def commit_group(
    connection: sqlite3.Connection,
    batches: Sequence[Batch],
    path: str,
    faults: Faults | None = None,
    before_commit: Callable[[], None] | None = None,
) -> list[Outcome]:
    """Write the batches in one transaction, in order; a batch that fails harms none of its neighbours.

    `Conflict` and `StoreUnavailable` mean that nothing of that batch was written. After a `CommitUnknown` the
    connection must be dropped. ``path`` is for the texts. ``before_commit`` is called when only the commit is left.
    """
    outcomes: list[Outcome] = [None] * len(batches)
    careful = False
    while None in outcomes:
        try:
            if faults is not None:
                faults("before_begin")
            connection.execute("BEGIN IMMEDIATE")
        except (sqlite3.Error, OSError) as error:
            return [outcome or unavailable(path, error, NOT_WRITTEN) for outcome in outcomes]
        if _fill(connection, batches, outcomes, path, careful):
            if before_commit is not None:
                before_commit()
            failure = _commit(connection, path, faults)
            return outcomes if failure is None else [outcome or failure() for outcome in outcomes]
        careful = True
    return outcomes


def _fill(connection: sqlite3.Connection, batches: Sequence[Batch], outcomes: list[Outcome], path: str, careful: bool) -> bool:
    """Run the batches that have no outcome yet; False when one of them took the transaction down with it.

    Most groups hold no batch that fails, so the first try does without savepoints; the repetition has them.
    """
    shared, cursor = False, connection.cursor()
    for place, batch in enumerate(batches):
        if outcomes[place] is None:
            outcomes[place] = error = _attempt(cursor, batch, shared and careful, path)
            if error is None:
                shared = True
            elif not connection.in_transaction:
                return False
    return True


def _attempt(cursor: sqlite3.Cursor, batch: Batch, savepoint: bool, path: str) -> Outcome:
    """Run one batch; its error once all of it is undone, without a savepoint the whole transaction."""
    if savepoint:
        cursor.execute("SAVEPOINT batch")
    try:
        run_statements(cursor, batch)
    except Exception as error:  # the driver's: what it raises for a value that it cannot bind is open-ended
        _undo(cursor.connection, savepoint)
        return _reason(error, path)
    if savepoint:
        cursor.execute("RELEASE batch")
    return None


def run_statements(cursor: sqlite3.Cursor, batch: Batch) -> None:
    """Run them in order. Raises `Conflict` where the number of rows is not the one stated."""
    for sql, params, touches in batch:
        cursor.execute(sql, params)
        if touches is not None and cursor.rowcount != touches:
            raise Conflict(f"{cursor.rowcount} rows instead of {touches}: {sql[:100]}")


def _undo(connection: sqlite3.Connection, savepoint: bool) -> None:
    # A full disk or an I/O error has ended the transaction already; to roll back again would hide the cause.
    if not connection.in_transaction:
        return
    if savepoint:
        connection.execute("ROLLBACK TO batch")
        connection.execute("RELEASE batch")
    else:
        connection.execute("ROLLBACK")


def _reason(error: Exception, path: str) -> Exception:
    """What the caller is told: a value that cannot be bound is its own mistake and stays what it is."""
    match error:
        case sqlite3.IntegrityError() if is_duplicate(error):
            conflict = Conflict(str(error))
            conflict.__cause__ = error
            return conflict
        case sqlite3.ProgrammingError():
            return error
        case sqlite3.DatabaseError():
            return unavailable(path, error, NOT_WRITTEN)
        case _:
            return error


def _commit(connection: sqlite3.Connection, path: str, faults: Faults | None) -> Callable[[], Exception] | None:
    """COMMIT; what to tell each batch when it raised."""
    try:
        if faults is not None:
            faults("before_commit")
        connection.execute("COMMIT")
        if faults is not None:
            faults("after_commit")
    except (sqlite3.Error, OSError) as error:
        raised = error
    else:
        return None
    if connection.in_transaction:
        connection.execute("ROLLBACK")
    # Not even a full disk makes it certain: where the log is written over, the bytes of an earlier round may happen to
    # complete a last frame that did not fit, and whoever recovers the log finds it whole.
    return lambda: _unknown(path, raised)


def _unknown(path: str, error: BaseException) -> CommitUnknown:
    unknown = CommitUnknown(f"SQLite database {path}: COMMIT raised {error!r}; the batch is there or it is not")
    unknown.__cause__ = error
    return unknown
