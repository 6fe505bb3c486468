"""Due timers reach the inbox, each occurrence exactly once, whoever fires them and whoever dies meanwhile.

Firing is a post, not a run: whoever drives the session next hears the note. There is no state in between that could
be left behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from power_loop.contracts.clock import LONGEST_S
from power_loop.contracts.cron import can_read_cron, next_cron_ms, zone
from power_loop.contracts.kept_rows import TimerRow
from power_loop.contracts.log import log
from power_loop.contracts.records import UserSaid
from power_loop.contracts.store import Conflict, Row, Statement
from power_loop.store.inbox import EXISTS, KNOWN, POST, item_of
from power_loop.store.outbox import WAKE
from power_loop.store.timers import Timers

SEEN = " WHERE timer_id = ? AND status = 'armed' AND fire_count = ? AND due_at = ?"
FIRE = "UPDATE {p}timers SET status = ?, due_at = ?, fire_count = fire_count + 1, last_fired_at = {t}, updated_at = ?" + SEEN
PASS = "UPDATE {p}timers SET due_at = ?, updated_at = ?" + SEEN
UNHEARD = "SELECT session_id, item_key FROM {p}inbox WHERE heard_seq IS NULL AND item_key IN (:keys) AND session_id IN (:ids)"
# Timers of sessions that are gone belong to whoever comes by.
OF_AGENTS = """ AND NOT EXISTS (SELECT 1 FROM {p}sessions s WHERE s.session_id = {p}timers.session_id
 AND (s.agent IS NULL OR s.agent NOT IN (:agents)))"""
NOT_IN_ZONES = " AND (cron IS NULL OR tz IS NULL OR tz NOT IN (:zones))"


class Due(NamedTuple):
    """An armed timer whose time has come. Times in ms of the clock that decides, as they are stored."""

    timer: TimerRow
    due_at: int
    anchor_at: int
    now: int

    @property
    def last_key(self) -> str:
        return key_of(self.timer.timer_id, self.timer.fire_count)

    def next_at(self) -> int | None:
        """When it is due again, from its nominal time and behind now; None: never. Raises `ValueError` where there is no telling."""
        timer = self.timer
        if timer.cron is not None:
            return next_cron_ms(timer.cron, timer.tz, max(self.due_at, self.now))
        if timer.interval_s is None:
            return None
        interval_ms = int(timer.interval_s * 1000)
        if not 0 < interval_ms <= LONGEST_S * 1000:
            raise ValueError(f"its interval is {interval_ms} ms")
        return self.anchor_at + interval_ms * (max(0, self.now - self.anchor_at) // interval_ms + 1)


class Firing(Timers):
    """The way of timers into the inbox."""

    async def fire_due(self, *, now: int | None = None, limit: int = 50, agents: Sequence[str] | None = None) -> int:
        """Leave the notes of due timers in the inboxes of their sessions; how many, 0 when none is due any more.

        No other caller fires the same ones: taking, posting and re-arming are one batch. A recurring timer counts from its
        nominal time; what was missed meanwhile is one firing, and while its last note is not heard yet there is no other. A
        timer whose session is gone, or of which nobody can say when it is due again, is cancelled. One whose time zone this
        machine does not know stays due, for a machine that does, and keeps no other waiting. ``agents``: only of sessions
        of these agents.
        """
        return len(await self.fire_timers(now=now, limit=limit, agents=agents))

    async def fire_timers(self, *, now: int | None = None, limit: int = 50, agents: Sequence[str] | None = None) -> list[TimerRow]:
        """`fire_due`, for whoever wants to know which: the timers as they stood before."""
        at = now if now is not None else self._clock.now_ms()
        also = "" if can_read_cron() else " AND cron IS NULL"  # left to a process that can
        if agents is not None:
            also += OF_AGENTS.replace(":agents", ", ".join("?" * len(agents)) or "''")
        while due := await self._due_here(at, limit, also, agents or ()):
            if fired := await self._fire_all(due, at):
                return fired
        return []

    async def _fire_all(self, due: Sequence[Due], at: int) -> list[TimerRow]:
        """Those whose notes we left. The others are not due any more either: passed over, cancelled, or fired by somebody else."""
        unheard = await self._unheard(due)
        # Side by side, so that they can be committed together.
        fired = await asyncio.gather(*(self._fire(each, at, each.last_key in unheard) for each in due), return_exceptions=True)
        for each in fired:
            if isinstance(each, BaseException):
                raise each
        return [each.timer for each, there in zip(due, fired, strict=True) if there]

    async def _due_here(self, at: int, limit: int, also: str, agents: Sequence[str]) -> list[Due]:
        """The longest overdue ones, of time zones that are known here. Those of others would fill the scan for ever."""
        unknown: set[str] = set()
        while True:
            but = NOT_IN_ZONES.replace(":zones", ", ".join("?" * len(unknown))) if unknown else ""
            due = [self._seen(row, at) for row in await self._due(at, limit, also + but, (*agents, *unknown))]
            if not (more := unknown_zones(due) - unknown):
                break
            unknown |= more
        if unknown:
            log.warning("timers stay due whose time zones this machine does not know: %s", ", ".join(sorted(unknown)))
        return due

    async def _unheard(self, due: Sequence[Due]) -> set[str]:
        """Keys of notes that recurring timers left at their last firing, and that nobody has heard yet."""
        again = [each for each in due if each.timer.fire_count and (each.timer.interval_s is not None or each.timer.cron is not None)]
        if not again:
            return set()
        holes = ", ".join("?" * len(again))
        sql = self._sql(UNHEARD).replace(":keys", holes).replace(":ids", holes)
        keys, ids = [each.last_key for each in again], [each.timer.session_id for each in again]
        return {key for _, key in await self._database.read(sql, (*keys, *ids))}

    async def _fire(self, due: Due, at: int, unheard: bool) -> bool:
        """True when its note is in the inbox now, by us."""
        timer = due.timer
        try:
            next_at = due.next_at()
        except ValueError as error:  # out of an archive: no interval, no expression, or one that never comes
            log.warning("timer %d of session %s is cancelled: %s", timer.timer_id, timer.session_id, error)
            await self._cancel(timer)
            return False
        try:
            if unheard:
                await self._write_once([self._passed(due, next_at)])
                return False
            return await self._write_once([*self._posted(due), self._fired(due, next_at, at)])
        except Conflict:
            await self._look_after(due, next_at, at)
            return False

    async def _look_after(self, due: Due, next_at: int | None, at: int) -> None:
        """It did not fire: somebody else was faster, or its session is gone, or its key is taken."""
        timer = due.timer
        if not await self._database.read(self._sql(EXISTS), (timer.session_id,)):
            await self._cancel(timer)
        elif await self._database.read(self._sql(KNOWN), (timer.session_id, key_of(timer.timer_id, timer.fire_count + 1))):
            try:
                await self._write_once([self._fired(due, next_at, at)])
            except Conflict:
                pass  # so whoever posted it was a firing

    async def _cancel(self, timer: TimerRow) -> None:
        await self.transition_timer(timer.session_id, timer.timer_id, from_status="armed", to_status="cancelled")

    def _posted(self, due: Due) -> list[Statement]:
        timer, now = due.timer, self._clock.now_ms()
        said = UserSaid(text_of(timer.timer_id, timer.note), "timer", metadata={"due_at": timer.due_at})
        key, soon = key_of(timer.timer_id, timer.fire_count + 1), self._at(now)
        item = item_of(timer.session_id, key, "queue", said, self._at_or_none(None), now)
        return [Statement(self._sql(WAKE), (soon, soon, timer.session_id), 1), Statement(self._sql(POST), item)]

    def _fired(self, due: Due, next_at: int | None, at: int) -> Statement:
        status = "fired" if next_at is None else "armed"
        next_due = due.due_at if next_at is None else next_at
        return Statement(self._sql(FIRE), (status, next_due, self._at(at), self._clock.now_ms(), *_seen_as(due)), 1)

    def _passed(self, due: Due, next_at: int | None) -> Statement:
        return Statement(self._sql(PASS), (next_at, self._clock.now_ms(), *_seen_as(due)), 1)

    def _seen(self, row: Row, at: int) -> Due:
        clock = row[-2]
        now = at if clock is None else at - self._clock.now_ms() + clock
        return Due(self._timer(row[:-1]), row[2], row[-1], now)


def _seen_as(due: Due) -> tuple[Any, ...]:
    return due.timer.timer_id, due.timer.fire_count, due.due_at


def unknown_zones(due: Sequence[Due]) -> set[str]:
    """The time zones of ``due`` that this machine does not know."""
    unknown: set[str] = set()
    for tz in {each.timer.tz for each in due if each.timer.cron is not None}:
        try:
            zone(tz)
        except ValueError:
            unknown.add(tz)
    return unknown


def key_of(timer_id: int, firing: int) -> str:
    """Under which key the note of this firing (from 1) stands in the inbox."""
    return f"timer:{timer_id}:{firing}"


def text_of(timer_id: int, note: str) -> str:
    """What the session hears."""
    return f"<timer id={timer_id}>{note}</timer>"
