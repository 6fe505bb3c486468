"""Timers as rows: armed, looked at, moved on by compare-and-set, and fired into the inbox exactly once per occurrence.

Firing is a post, not a run: whoever drives the session next hears the note. There is no state in between that could
be left behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from power_loop.contracts.codec import to_cells
from power_loop.contracts.errors import SessionNotFoundError
from power_loop.contracts.kept_rows import TimerRow
from power_loop.contracts.records import UserSaid
from power_loop.contracts.store import Conflict, Statement
from power_loop.store.inbox import POST, WAKE
from power_loop.store.part import Part

FIELDS = """session_id, timer_id, due_at, note, status, interval_ms, fire_count, last_fired_at, created_at, updated_at, cron, tz,
 {clock}"""
ARM = """INSERT INTO {p}timers (session_id, status, due_at, anchor_at, note, interval_ms, tz, claim, created_at, updated_at)
 VALUES (?, 'armed', {t}, {t}, ?, ?, 'UTC', ?, ?, ?)"""
OF_CLAIM = f"SELECT {FIELDS} FROM {{p}}timers WHERE session_id = ? AND claim = ?"
# Touches nothing unless this very timer is there already. The row of the session, locked just before, keeps others out.
NOT_YET = "UPDATE {p}timers SET claim = claim WHERE session_id = ? AND claim = ?"
ONE = f"SELECT {FIELDS} FROM {{p}}timers WHERE session_id = ? AND timer_id = ?"
OF_SESSION = f"SELECT {FIELDS} FROM {{p}}timers WHERE session_id = ? AND status IN (:statuses) ORDER BY due_at, timer_id"
DUE = f"SELECT {FIELDS} FROM {{p}}timers WHERE status = 'armed' AND due_at <= {{t}} ORDER BY due_at, timer_id"
OVERDUE = "SELECT COUNT(*) FROM {p}timers WHERE session_id = ? AND status = 'armed' AND due_at <= {t}"
MOVE = "UPDATE {p}timers SET status = ?, updated_at = ? WHERE session_id = ? AND timer_id = ? AND status = ?"
MOVE_AND_SET = "UPDATE {p}timers SET status = ?, due_at = {t}, updated_at = ? WHERE session_id = ? AND timer_id = ? AND status = ?"
# Added to, not set: what is read through two clocks is not exact, and would drift.
FIRE = """UPDATE {p}timers SET status = ?, due_at = due_at + ?, fire_count = fire_count + 1, last_fired_at = {t}, updated_at = ?
 WHERE timer_id = ? AND status = 'armed' AND fire_count = ?"""
STAY = "UPDATE {p}sessions SET updated_at = ? WHERE session_id = ?"

STATUSES = ("armed", "done", "cancelled")


class Timers(Part):
    """The rows of timers, and their way into the inbox."""

    async def create_timer(
        self, session_id: str, *, due_at: int, note: str, interval_s: float | None = None, key: str | None = None
    ) -> TimerRow:
        """An armed timer, due at a time (ms); ``interval_s``: due again and again, counted from then.

        ``key``: where the session has a timer of this key already, in whatever status, it is given back as it is.
        Raises `ValueError` for a blank note or an interval below a second, `SessionNotFoundError`.
        """
        if not note.strip():
            raise ValueError("a timer needs a note: what the session shall hear when it fires")
        if interval_s is not None and interval_s < 1:
            raise ValueError(f"interval_s is {interval_s}; it must be at least 1")
        now, token, at = self._clock.now_ms(), self._ids.token(12) if key is None else claim_of(key), self._at(due_at)
        interval_ms = None if interval_s is None else int(interval_s * 1000)
        arm = Statement(self._sql(ARM), (session_id, at, at, note, interval_ms, token, now, now))
        once = Statement(self._sql(NOT_YET), (session_id, token), 0)
        try:
            await self._write_once([Statement(self._sql(STAY), (now, session_id), 1), once, arm])
        except Conflict:
            pass  # the session is gone, or the timer is there: looking tells which
        if (timer := await self._timer_of(session_id, token)) is None:
            raise SessionNotFoundError(session_id)
        return timer

    async def keyed_timer(self, session_id: str, key: str) -> TimerRow | None:
        """The timer that was created with ``key``, in whatever status; None when there is none."""
        return await self._timer_of(session_id, claim_of(key))

    async def _timer_of(self, session_id: str, claim: str) -> TimerRow | None:
        rows = await self._database.read(self._sql(OF_CLAIM), (session_id, claim))
        return self._timer(rows[0]) if rows else None

    async def get_timer(self, session_id: str, timer_id: int) -> TimerRow | None:
        rows = await self._database.read(self._sql(ONE), (session_id, timer_id))
        return self._timer(rows[0]) if rows else None

    async def list_timers(self, session_id: str, *, statuses: Sequence[str] = ("armed",)) -> list[TimerRow]:
        """Soonest first."""
        sql = OF_SESSION.replace(":statuses", ", ".join("?" * len(statuses)) or "NULL")
        return [self._timer(row) for row in await self._database.read(self._sql(sql), (session_id, *statuses))]

    async def due_timers(self, *, now: int | None = None, limit: int = 50) -> list[TimerRow]:
        """The armed ones whose time has come, the longest overdue first."""
        return [self._timer(row) for row in await self._due(now, limit)]

    async def overdue_timers(self, session_id: str, now: int) -> int:
        """How many of one session are due at ``now`` (ms)."""
        return (await self._database.read(self._sql(OVERDUE), (session_id, self._at(now))))[0][0]

    async def transition_timer(
        self, session_id: str, timer_id: int, *, from_status: str, to_status: str, due_at: int | None = None
    ) -> bool:
        """Move it on; False when it is not (any more) ``from_status``. Raises `ValueError` for a status that there is not."""
        if to_status not in STATUSES:
            raise ValueError(f"a timer is {', '.join(STATUSES)}, not {to_status!r}")
        where, now = (session_id, timer_id, from_status), self._clock.now_ms()
        if due_at is None:
            move = Statement(self._sql(MOVE), (to_status, now, *where), 1)
        else:
            move = Statement(self._sql(MOVE_AND_SET), (to_status, self._at(due_at), now, *where), 1)
        try:
            return await self._write_once([move]) or await self._is_now(session_id, timer_id, to_status)
        except Conflict:
            return False

    async def fire_due(self, *, now: int | None = None, limit: int = 50) -> int:
        """Leave the notes of due timers in the inboxes of their sessions; how many. No other caller fires the same ones.

        Taking, posting and re-arming are one batch. A recurring timer counts from its nominal time; what was missed
        meanwhile is one firing. A timer whose session is gone is cancelled.
        """
        at, fired = now if now is not None else self._clock.now_ms(), 0
        for row in await self._due(at, limit):
            timer = self._timer(row)
            try:
                fired += await self._write_once(self._firing(timer, at))
            except Conflict:
                if not await self._database.read(self._sql("SELECT 1 FROM {p}sessions WHERE session_id = ?"), (timer.session_id,)):
                    await self.transition_timer(timer.session_id, timer.timer_id, from_status="armed", to_status="cancelled")
        return fired

    def _firing(self, timer: TimerRow, at: int) -> list[Statement]:
        number, status, step = timer.fire_count + 1, "done", 0
        if timer.interval_s is not None:
            interval_ms = int(timer.interval_s * 1000)
            status, step = "armed", interval_ms * (max(0, at - timer.due_at) // interval_ms + 1)
        cells = to_cells(UserSaid(f"<timer id={timer.timer_id}>{timer.note}</timer>", "timer"))
        told = (cells.kind, cells.version, cells.name, cells.content, cells.escaped, cells.call_id, cells.body)
        now, soon = self._clock.now_ms(), self._at(self._clock.now_ms())
        return [
            Statement(self._sql(WAKE), (soon, soon, timer.session_id), 1),
            Statement(self._sql(FIRE), (status, step, self._at(at), now, timer.timer_id, timer.fire_count), 1),
            Statement(self._sql(POST), (timer.session_id, f"timer:{timer.timer_id}:{number}", "queue", *told, self._at_or_none(None), now)),
        ]

    async def _due(self, now: int | None, limit: int) -> list[tuple[Any, ...]]:
        at = now if now is not None else self._clock.now_ms()
        return await self._database.read(self._sql(DUE) + f" LIMIT {int(limit)}", (self._at(at),))

    async def _is_now(self, session_id: str, timer_id: int, status: str) -> bool:
        timer = await self.get_timer(session_id, timer_id)
        return timer is not None and timer.status == status

    def _timer(self, row: tuple[Any, ...]) -> TimerRow:
        session_id, timer_id, due, note, status, interval_ms, count, last, created, updated, cron, tz, clock = row
        interval_s = None if interval_ms is None else interval_ms / 1000
        fired_at = None if last is None else self._here(last, clock)
        return TimerRow(
            session_id, timer_id, self._here(due, clock), note or "", status, interval_s, count, fired_at, created, updated, cron, tz
        )


def claim_of(key: str) -> str:
    """How a caller's key stands beside the tokens that are drawn."""
    return f"key:{key}"
