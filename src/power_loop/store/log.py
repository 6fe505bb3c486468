"""The session log: the row that fences, and the records behind it.

One append is one batch: the guarded UPDATE of the session's row (fence, lease, counters in one statement), the
rows, what was heard. A holder whose epoch is past fails the first statement and writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from power_loop.contracts.clock import Clock, Ids
from power_loop.contracts.errors import SessionNotFoundError, StoreUnavailable
from power_loop.contracts.made import made
from power_loop.contracts.store import FAR, Append, Cells, CommitUnknown, Conflict, Database, Head, RecordRow, Statement, TimerMove
from power_loop.contracts.text import check_is_text
from power_loop.store.dialect import Dialect
from power_loop.store.forms import FENCE, changed, fences, row_forms
from power_loop.store.jobs import SEEN, seen_now
from power_loop.store.large import LargeContent
from power_loop.store.ledger import entries_of, woken_by
from power_loop.store.outbox import left, woken
from power_loop.store.part import RESOLVE_TRIES, nobody_knows
from power_loop.store.sessions import deletion

# What of a record has a column of its own.
CELLS = ", ".join(Cells._fields)
APPEND = f"""INSERT INTO {{p}}records (session_id, seq, epoch, take_id, send_index, round_index, created_at, {CELLS})
 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

HEARD = "UPDATE {p}inbox SET heard_seq = ? WHERE item_id = ? AND heard_seq IS NULL"
LEFT = "DELETE FROM {p}waiters WHERE ticket = ?"
KEYED = "INSERT INTO {p}send_keys (session_id, send_key, send_index, seq, created_at) VALUES (?, ?, ?, ?, ?)"

# Under a key stands the send that it began, or the item that waits under it, or the send that heard that item.
KEY = """SELECT k.send_index, i.item_id, i.heard_seq,
 (SELECT r.send_index FROM {p}records r WHERE r.session_id = i.session_id AND r.seq = i.heard_seq)
 FROM {p}send_keys k LEFT JOIN {p}inbox i ON i.session_id = k.session_id AND i.item_key = k.send_key
 WHERE k.session_id = ? AND k.send_key = ?"""
HEARD_LATER = 0
# A handler kept the word out of the transcript, or the item was pruned.
NO_SEND = -1

LOOK = """SELECT head, epoch, holder, lease_until, wake_no, send_index, send_seq, fold_seq, fold_through, status, takeovers,
 (SELECT MIN(w.ticket) FROM {p}waiters w WHERE w.session_id = s.session_id AND w.alive_until > {t} AND w.alive_until <= {t}),
 EXISTS (SELECT 1 FROM {p}inbox i WHERE i.session_id = s.session_id AND i.heard_seq IS NULL
  AND (i.not_before IS NULL OR i.not_before <= {t})), {clock}
 FROM {p}sessions s WHERE s.session_id = ?"""

COLUMNS = f"seq, send_index, round_index, {CELLS}, epoch, take_id, created_at"
ROWS = f"""SELECT {COLUMNS} FROM {{p}}records WHERE session_id = ? AND seq > ?
 AND (seq >= ? OR role IS NOT NULL OR kind IN ('context_folded', 'fold_skipped', 'send_resumed')) ORDER BY seq"""
WHOLE = f"SELECT {COLUMNS} FROM {{p}}records WHERE session_id = ? AND seq > ? AND seq <= ? ORDER BY seq"
PROJECTED = f"""SELECT {COLUMNS} FROM {{p}}records WHERE session_id = ? AND seq > ? AND (seq >= ?
 OR kind IN ('context_folded', 'fold_skipped') OR (kind = 'send_projected' AND name = ?)) ORDER BY seq"""
MINE = "SELECT epoch, take_id FROM {p}records WHERE session_id = ? AND seq = ?"
LAST_BATCH = "SELECT last_batch FROM {p}sessions WHERE session_id = ?"
WAKES = "SELECT session_id, epoch, wake_no FROM {p}sessions WHERE session_id IN ({})"
RENEW = "UPDATE {p}sessions SET lease_until = {t} WHERE session_id = ? AND epoch = ? AND holder IS NOT NULL"

# A timer that somebody cancelled meanwhile, or that has fired again, stays as it is.
STANDS = " WHERE session_id = ? AND timer_id = ? AND fire_count = ? AND status <> 'cancelled'"
TIMER = "UPDATE {p}timers SET status = ?, updated_at = ?" + STANDS
TIMER_LATER = "UPDATE {p}timers SET status = ?, due_at = {t}, updated_at = ?" + STANDS

# A ticket without a sign of life counts no more after this long.
TICKET_MS = 3_000


class RecordLog(LargeContent):
    """Reads a session's rows and appends to them under its lease."""

    def __init__(self, database: Database, dialect: Dialect, prefix: str, clock: Clock, ids: Ids) -> None:
        super().__init__(database, dialect, prefix, clock, ids)
        self._fences, self._look, self._rows = fences(self._sql(FENCE)), self._sql(LOOK), self._sql(ROWS)
        self._taking, self._going_on = row_forms(self._sql, taking=True), row_forms(self._sql, taking=False)

    async def look(self, session_id: str) -> Head:
        """The row as it is now. Raises `SessionNotFoundError`."""
        check_is_text("session_id", session_id)
        now = self._now()
        # A sign of life from further ahead was given while a clock was wrong; it must not hold up the line until then.
        rows = await self._database.read(self._look, (now, now + TICKET_MS, now, session_id))
        if not rows:
            raise SessionNotFoundError(session_id)
        head, epoch, holder, lease_until, *numbers, status, takeovers, ticket, waiting, clock = rows[0]
        until = self._here(lease_until, clock)
        seen = Head(session_id, head, epoch, holder, until, *numbers, archived=bool(status), takeovers=takeovers)
        return seen._replace(first_ticket=ticket, waiting=bool(waiting))

    async def rows(
        self, session_id: str, *, after: int, whole_from: int = 0, projected: str | None = None, until: int = FAR
    ) -> list[RecordRow]:
        """The rows with ``after < seq <= until``, in order; of those before ``whole_from`` only what a window is made of.

        ``projected``: of those not the messages, but how finished sends are shown in that kind.
        """
        if projected is not None:
            found = await self._database.read(self._sql(PROJECTED), (session_id, after, whole_from, projected))
        elif until != FAR:
            found = await self._database.read(self._sql(WHOLE), (session_id, after, until))
        else:
            found = await self._database.read(self._rows, (session_id, after, whole_from))
        return await self._made_whole(session_id, [to_row(row) for row in found])

    async def append(self, batch: Append) -> None:
        """Write it. A COMMIT that raised is resolved first, so that an error means "not written"."""
        if batch.tally.tool_calls or batch.heard:  # only then may there be a result among the rows
            batch = await self._with_large_kept(batch)
        mark = str(self._ids.bits(62)) if not batch.rows else None
        statements = self._statements(batch, mark)
        try:
            await self._database.write(statements)
        except CommitUnknown:
            await self._resolve(batch, statements, mark)
        self._wrote(batch)

    def _wrote(self, batch: Append) -> None:
        """The batch is there."""

    async def send_of_key(self, session_id: str, key: str) -> int | None:
        """The index of the send that was begun under ``key``, or heard what was posted under it.

        0 while that waits to be heard; None when there is no such key.
        """
        rows = await self._database.read(self._sql(KEY), (session_id, key))
        if not rows:
            return None
        began, item_id, heard_seq, hearing = rows[0]
        waits = item_id is not None and heard_seq is None
        return began or (HEARD_LATER if waits else hearing or NO_SEND)

    async def wakes(self, session_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """(epoch, wake_no) of each of these sessions that is there."""
        sql = self._sql(WAKES).format(", ".join("?" * len(session_ids)))
        return {session_id: (epoch, wake_no) for session_id, epoch, wake_no in await self._database.read(sql, session_ids)}

    async def renew(self, leases: Sequence[tuple[str, int]], until: int) -> None:
        """Extend the leases (session id, epoch) that are still held to ``until`` (ms); lost ones are left alone."""
        sql = self._sql(RENEW)
        await self._database.write([Statement(sql, (self._at(until), session_id, epoch)) for session_id, epoch in leases])

    def _statements(self, batch: Append, mark: str | None) -> list[Statement]:
        seen, new, rows, tally, heard, ticket, take_id, bound, key, now, jobs, entries, closes, _, posts = batch
        session_id, head, epoch, holder, until, _, _, _, _, _, _, takeovers, _, _ = new
        if self._server_decides:
            until, bound = self._at_or_none(until), self._at(bound)
        which, values = changed(seen, new, tally, now, mark)
        left, found = (head, epoch, holder, until, takeovers, now), (session_id, seen.epoch, seen.head, seen.wake_no, bound)
        statements = [made(Statement, (self._fences[which], left + values + found, 1))]
        place = (session_id, epoch, now) if take_id is None else (session_id, epoch, now, take_id)
        forms, other = self._going_on if take_id is None else self._taking
        for row in rows:
            cells = row.cells
            sql, filled = forms.get((cells.kind, cells.count(None)), other)
            statements.append(made(Statement, (sql, place + row[:3] + filled(cells), None)))
        if heard or ticket is not None or key is not None or jobs or closes:
            statements += self._beside(batch)
        return statements if entries is None and not posts else self._with_others(statements, batch)

    def _with_others(self, statements: list[Statement], batch: Append) -> list[Statement]:
        """With what the batch changes of other sessions and of ledgers.

        Rows of sessions come first, in the order of their ids, so that batches do not wait for each other in a circle.
        """
        fence, *rest = statements
        rows = [(batch.seen.session_id, fence), *woken(batch.posts, self._sql, self._at(batch.now))]
        rest += left(batch.posts, self._sql, batch.now)
        if batch.entries is not None:
            rows += woken_by(batch.entries, batch, self._sql)
            rest += entries_of(batch.entries, batch, self._sql)
        return [*(statement for _, statement in sorted(rows, key=itemgetter(0))), *rest]

    def _beside(self, batch: Append) -> list[Statement]:
        """What a batch changes outside the session's row and records."""
        new = batch.next
        beside = [Statement(self._sql(HEARD), (new.head, item), 1) for item in batch.heard]
        beside += [Statement(self._sql(SEEN), seen_now(job)) for job in batch.seen_jobs]
        beside += deletion(self._sql, batch.closes)
        beside += [self._moved(move, batch) for move in batch.timers]
        if batch.ticket is not None:
            beside.append(Statement(self._sql(LEFT), (batch.ticket,)))
        if batch.send_key is not None:
            beside.append(Statement(self._sql(KEYED), (new.session_id, batch.send_key, new.send_index, new.send_seq, batch.now)))
        return beside

    def _moved(self, move: TimerMove, batch: Append) -> Statement:
        which = (batch.now, batch.seen.session_id, move.timer_id, move.firing)
        if move.due_at is None:
            return Statement(self._sql(TIMER), (move.status, *which))
        return Statement(self._sql(TIMER_LATER), (move.status, self._at(move.due_at), *which))

    async def _resolve(self, batch: Append, statements: Sequence[Statement], mark: str | None) -> None:
        """COMMIT raised: send the same batch again. If its guard fails, the first one may be there: its rows tell."""
        unknown: Exception | None = None
        for _ in range(RESOLVE_TRIES):
            try:
                await self._database.write(statements)
            except (CommitUnknown, StoreUnavailable) as error:
                unknown = error
                continue
            except Conflict:
                if not await self._was_written(batch, mark):
                    raise
            return
        if not await self._was_written(batch, mark):
            raise StoreUnavailable(f"session {batch.seen.session_id!r}: a batch could not be written; {unknown}") from unknown

    async def _was_written(self, batch: Append, mark: str | None) -> bool:
        """Raises `StoreUnavailable` that says so where nobody can be asked."""
        try:
            return await self._is_there(batch, mark)
        except StoreUnavailable as error:
            raise nobody_knows(f"a batch of session {batch.seen.session_id!r}", error) from error

    async def _is_there(self, batch: Append, mark: str | None) -> bool:
        session_id = batch.seen.session_id
        if mark is not None:
            rows = await self._database.read(self._sql(LAST_BATCH), (session_id,))
            return bool(rows) and rows[0][0] == mark
        # The last row: of a batch that was sent again with more in it, the first may be there from before.
        rows = await self._database.read(self._sql(MINE), (session_id, batch.rows[-1].seq))
        return bool(rows) and rows[0] == (batch.next.epoch, batch.take_id)


def to_row(row: Sequence[Any]) -> RecordRow:
    """One row of `COLUMNS`."""
    return RecordRow(row[0], row[1], row[2], Cells(*row[3:13]), *row[13:])
