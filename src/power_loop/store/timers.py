"""Timers as rows: armed, looked at, moved on by compare-and-set. How due ones fire is the business of `firing`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from power_loop.contracts.clock import LONGEST_S, is_between
from power_loop.contracts.cron import next_cron_ms
from power_loop.contracts.errors import SessionNotFoundError
from power_loop.contracts.kept_rows import TimerRow
from power_loop.contracts.store import Conflict, Statement
from power_loop.contracts.text import check_text
from power_loop.store.part import Part
from power_loop.store.sessions import STAY

FIELDS = """session_id, timer_id, due_at, note, status, interval_ms, fire_count, last_fired_at, created_at, updated_at, cron, tz,
 {clock}"""
ARM = """INSERT INTO {p}timers (session_id, status, due_at, anchor_at, note, interval_ms, cron, tz, claim, created_at, updated_at)
 VALUES (?, 'armed', {t}, {t}, ?, ?, ?, ?, ?, ?, ?)"""
# A cron expression names times of the clock that decides.
ARM_CRON = ARM.replace("{t}", "?")
CLOCK = "SELECT {clock}"
OF_CLAIM = f"SELECT {FIELDS} FROM {{p}}timers WHERE session_id = ? AND claim = ?"
# Touches nothing unless this very timer is there already. The row of the session, locked just before, keeps others out.
NOT_YET = "UPDATE {p}timers SET claim = claim WHERE session_id = ? AND claim = ?"
ONE = f"SELECT {FIELDS} FROM {{p}}timers WHERE session_id = ? AND timer_id = ?"
OF_SESSION = f"SELECT {FIELDS} FROM {{p}}timers WHERE session_id = ? AND status IN (:statuses) ORDER BY due_at, timer_id"
DUE = f"SELECT {FIELDS}, anchor_at FROM {{p}}timers WHERE status = 'armed' AND due_at <= {{begun}}"
OVERDUE = "SELECT COUNT(*) FROM {p}timers WHERE session_id = ? AND status = 'armed' AND due_at <= {t}"
MOVE = "UPDATE {p}timers SET status = ?, updated_at = ? WHERE session_id = ? AND timer_id = ? AND status = ?"
MOVE_AND_SET = "UPDATE {p}timers SET status = ?, due_at = {t}, updated_at = ? WHERE session_id = ? AND timer_id = ? AND status = ?"

# The year 9999: what lies further ahead is a slip of the unit.
LAST_MS = 253_402_300_799_000

STATUSES = ("armed", "fired", "cancelled")


class Timers(Part):
    """The rows of timers."""

    async def create_timer(
        self, session_id: str, *, due_at: int | None = None, note: str, interval_s: float | None = None, cron: str | None = None,
        tz: str = "UTC", key: str | None = None,
    ) -> TimerRow:  # fmt: skip
        """An armed timer, due at a time (ms); ``interval_s``: due again and again, counted from then.

        ``cron``: due whenever it names a time of the zone ``tz``, instead. ``key``: where the session has a timer of this
        key already, in whatever status, it is given back as it is. Raises `ValueError` for a blank note, an interval below
        a second, or a wrong ``cron`` or ``tz``, `ImportError` without the extra ``cron``, `SessionNotFoundError`.
        """
        check_timer(due_at, note, interval_s, cron)
        now, token = self._clock.now_ms(), self._ids.token(12) if key is None else claim_of(key)
        if cron is None:
            arm, at = self._sql(ARM), self._at(due_at or 0)
        else:
            arm, at = self._sql(ARM_CRON), next_cron_ms(cron, tz, await self._deciding_now())
        interval_ms = None if interval_s is None else int(interval_s * 1000)
        values = (session_id, at, at, note, interval_ms, cron, tz, token, now, now)
        once = Statement(self._sql(NOT_YET), (session_id, token), 0)
        try:
            await self._write_once([Statement(self._sql(STAY), (now, session_id), 1), once, Statement(arm, values)])
        except Conflict:
            pass  # the session is gone, or the timer is there: looking tells which
        if (timer := await self._timer_of(session_id, token)) is None:
            raise SessionNotFoundError(session_id)
        return timer

    async def _deciding_now(self) -> int:
        """What the clock shows that decides when timers are due (ms)."""
        return (await self._database.read(self._sql(CLOCK)))[0][0] if self._server_decides else self._clock.now_ms()

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

    async def all_timers(
        self, *, session_id: str | None = None, statuses: Sequence[str] = ("armed",), limit: int = 100
    ) -> list[TimerRow]:  # fmt: skip
        """Of one session or of all, soonest first."""
        sql = f"SELECT {FIELDS} FROM {{p}}timers WHERE status IN ({', '.join('?' * len(statuses)) or 'NULL'})"
        where, params = (" AND session_id = ?", [session_id]) if session_id is not None else ("", [])
        rows = await self._database.read(self._sql(f"{sql}{where} ORDER BY due_at, timer_id LIMIT {int(limit)}"), (*statuses, *params))
        return [self._timer(row) for row in rows]

    async def due_timers(self, *, now: int | None = None, limit: int = 50) -> list[TimerRow]:
        """The armed ones whose time has come, the longest overdue first."""
        return [self._timer(row[:-1]) for row in await self._due(now, limit)]

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

    async def _due(self, now: int | None, limit: int, also: str = "", names: Sequence[str] = ()) -> list[tuple[Any, ...]]:
        """Rows of `DUE`; ``also``: a further condition, with its parameters."""
        at = now if now is not None else self._clock.now_ms()
        sql = f"{DUE}{also} ORDER BY due_at, timer_id LIMIT {int(limit)}"
        return await self._database.read(self._sql(sql), (self._at(at), *names))

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


def check_timer(due_at: int | None, note: str, interval_s: float | None, cron: str | None) -> None:
    """ValueError for what is no timer."""
    check_text("the note of a timer", note)
    check_text("cron", cron)
    if not (note or "").strip():
        raise ValueError("a timer needs a note: what the session shall hear when it fires")
    if (due_at is None) == (cron is None):
        raise ValueError("a timer is due at a time, or whenever cron= says so: give one of them")
    if interval_s is not None and cron is not None:
        raise ValueError("cron= says when a timer is due again: leave out interval_s")
    if interval_s is not None and not is_between(1, interval_s, LONGEST_S):
        raise ValueError(f"interval_s is {interval_s}; it must be at least 1, and at most a hundred years")
    if due_at is not None:
        check_time("due_at_ms", due_at)


def check_time(name: str, at: int) -> None:
    """ValueError for what is no time (ms, UTC) at which a timer could be due."""
    if not is_between(0, at, LAST_MS):
        raise ValueError(f"{name} is {at}; it must be milliseconds since 1970, UTC")
