"""What waits to be heard, and who waits to drive.

A post moves the session's ``wake_no``; every append guards on it, so nothing ends while something waits.
"""

from __future__ import annotations

import asyncio
from typing import Any

from power_loop.contracts.codec import from_cells, to_cells
from power_loop.contracts.errors import SessionNotFoundError
from power_loop.contracts.records import Record
from power_loop.contracts.store import Cells, Conflict, Head, InboxItem, Statement
from power_loop.store.log import HEARD_LATER, KEYED, TICKET_MS
from power_loop.store.outbox import WAKE
from power_loop.store.part import Part
from power_loop.store.sessions import could_exist

WAKE_RUNNING = WAKE + " AND epoch = ? AND holder IS NOT NULL AND lease_until > {t}"
WAKE_UNMOVED = WAKE + " AND epoch = ? AND head = ? AND wake_no = ?"
POST = """INSERT INTO {p}inbox (session_id, item_key, mode, kind, version, name, content, escaped, call_id, body, not_before,
 created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, {t}, ?)"""
KNOWN = "SELECT item_id FROM {p}inbox WHERE session_id = ? AND item_key = ?"
KEY_OF_A_SEND = "SELECT 1 FROM {p}send_keys WHERE session_id = ? AND send_key = ?"
EXISTS = "SELECT 1 FROM {p}sessions WHERE session_id = ?"
WAITING = """SELECT item_id, item_key, mode, created_at, not_before, kind, version, name, content, escaped, call_id, body, {clock}
 FROM {p}inbox WHERE session_id = ? AND heard_seq IS NULL"""
DUE = " AND (not_before IS NULL OR not_before <= {t})"

JUMP_IN = "UPDATE {p}sessions SET wake_no = wake_no + 1 WHERE session_id = ?"
STILL_THERE = " AND EXISTS (SELECT 1 FROM {p}records r WHERE r.session_id = ? AND r.seq = ? AND r.epoch = ?)"
STAND = "INSERT INTO {p}waiters (session_id, holder, alive_until) VALUES (?, ?, {t})"
PLACE = "SELECT ticket FROM {p}waiters WHERE holder = ?"
STILL = "UPDATE {p}waiters SET alive_until = {t} WHERE ticket = ?"
LEAVE = "DELETE FROM {p}waiters WHERE ticket = ?"
GIVE_UP = "DELETE FROM {p}waiters WHERE holder = ?"
WHOSE = "SELECT holder FROM {p}waiters WHERE ticket = ?"
SWEEP = "DELETE FROM {p}waiters WHERE session_id = ? AND alive_until < {t}"

# Tickets of those who gave no sign of life for this long are swept up. Much longer than a ticket counts: a process
# that was stopped and goes on finds its place again.
SWEPT_AFTER_MS = 20 * TICKET_MS


def item_of(session_id: str, key: str, mode: str, record: Record, not_before: Any, now: int) -> tuple[Any, ...]:
    """The values of `POST`: ``record`` as it waits to be heard."""
    cells = to_cells(record)
    told = (cells.kind, cells.version, cells.name, cells.content, cells.escaped, cells.call_id, cells.body)
    return (session_id, key, mode, *told, not_before, now)


class Inbox(Part):
    """Posting to a session, from any process, whoever drives it."""

    async def post(
        self, session_id: str, record: Record, *, key: str, mode: str = "queue", running: Head | None = None,
        not_before: int | None = None, keyed: bool = False, unmoved: Head | None = None, last: tuple[int, int] | None = None,
    ) -> bool:  # fmt: skip
        """Leave ``record``; False when ``key`` was taken before.

        ``running``: only if that holder still holds the session; else `Conflict`. ``unmoved``: only if nothing was
        written or posted since then. ``last``: only while the row of that (seq, epoch) is there. ``not_before``: ms; it
        is not heard earlier. ``keyed``: a send under the same key counts too. Raises `SessionNotFoundError`.
        """
        could_exist(session_id)
        now = self._clock.now_ms()
        due, at_once = self._at(max(now, not_before or 0)), self._at(now)
        if mode == "aside":  # heard by whoever comes next; nobody has to come for it
            there, of_row = (STILL_THERE, (session_id, *last)) if last is not None else ("", ())
            wake = Statement(self._sql(JUMP_IN + there), (session_id, *of_row), 1)
        elif unmoved is not None:
            seen = (unmoved.epoch, unmoved.head, unmoved.wake_no)
            wake = Statement(self._sql(WAKE_UNMOVED), (due, due, session_id, *seen), 1)
        elif running is None:
            wake = Statement(self._sql(WAKE), (due, due, session_id), 1)
        else:
            wake = Statement(self._sql(WAKE_RUNNING), (due, due, session_id, running.epoch, at_once), 1)
        item = item_of(session_id, key, mode, record, self._at_or_none(not_before), now)
        batch = [wake, Statement(self._sql(POST), item)]
        if keyed:
            batch.append(Statement(self._sql(KEYED), (session_id, key, HEARD_LATER, 0, now)))
        try:
            if await self._write_once(batch):
                return True
            conflict: Conflict | None = None
        except Conflict as error:
            conflict = error
        if await self._database.read(self._sql(KNOWN), (session_id, key)):
            return conflict is None
        if keyed and await self._database.read(self._sql(KEY_OF_A_SEND), (session_id, key)):
            return False
        if not await self._database.read(self._sql(EXISTS), (session_id,)):
            raise SessionNotFoundError(session_id)
        raise conflict or Conflict(f"session {session_id!r}: it moved, or its holder is gone")

    async def inbox(self, session_id: str, *, due: bool = True) -> list[InboxItem]:
        """What waits, oldest first; ``due``: only what may be heard by now."""
        sql = self._sql(WAITING + (DUE if due else "")) + " ORDER BY item_id"
        rows = await self._database.read(sql, (session_id, self._now()) if due else (session_id,))
        items: list[InboxItem] = []
        for item_id, key, mode, created_at, not_before, kind, version, name, content, escaped, call_id, body, clock in rows:
            cells = Cells(kind, version, None, name, content, escaped, None, call_id, None, body)
            items.append(InboxItem(item_id, key, mode, from_cells(cells), created_at, not_before and self._here(not_before, clock)))
        return items

    async def item_id(self, session_id: str, key: str) -> str:
        """The id of the item with this key; empty when there is none."""
        rows = await self._database.read(self._sql(KNOWN), (session_id, key))
        return str(rows[0][0]) if rows else ""

    # --- the line --------------------------------------------------------------------------

    async def queue_up(self, session_id: str, holder: str) -> int:
        """Stand in line for the lease; the ticket. ``wake_no`` moves, so the holder looks and lets the line go first."""
        could_exist(session_id)
        name = f"{holder}#{self._ids.token(4)}"
        jump = Statement(self._sql(JUMP_IN), (session_id,), 1)
        stand = Statement(self._sql(STAND), (session_id, name, self._now() + TICKET_MS))
        sweep = Statement(self._sql(SWEEP), (session_id, self._now() - SWEPT_AFTER_MS))
        try:
            await self._write_once([jump, stand, sweep])
            place = await self._database.read(self._sql(PLACE), (name,))
        except Conflict:
            raise SessionNotFoundError(session_id) from None
        except asyncio.CancelledError:
            # Whoever gave up before it knew its ticket would hold the line up until the ticket expires.
            await self._write_once([Statement(self._sql(GIVE_UP), (name,))])
            raise
        if place:
            return place[0][0]
        if not await self._database.read(self._sql(EXISTS), (session_id,)):  # it was deleted in between
            raise SessionNotFoundError(session_id)
        return await self.queue_up(session_id, holder)  # the ticket was swept up: a clock jumped, or we were stopped

    async def still_waiting(self, ticket: int) -> bool:
        """A sign of life from the line; False when the ticket was swept up meanwhile."""
        try:
            await self._write_once([Statement(self._sql(STILL), (self._now() + TICKET_MS, ticket), 1)])
        except Conflict:
            return False
        return True

    async def holder_of_ticket(self, ticket: int) -> str | None:
        """Who stands in line with it; None when nobody does any more."""
        rows = await self._database.read(self._sql(WHOSE), (ticket,))
        return str(rows[0][0]).rpartition("#")[0] if rows else None

    async def leave_line(self, ticket: int) -> None:
        await self._write_once([Statement(self._sql(LEAVE), (ticket,))])
