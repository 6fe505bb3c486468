"""What waits to be heard, and who waits to drive.

A post moves the session's ``wake_no``; every append guards on it, so nothing ends while something waits.
"""

from __future__ import annotations

import asyncio

from power_loop.contracts.codec import from_cells, to_cells
from power_loop.contracts.errors import SessionNotFoundError
from power_loop.contracts.records import Record
from power_loop.contracts.store import Cells, Conflict, Head, InboxItem, Statement
from power_loop.store.log import TICKET_MS
from power_loop.store.part import Part

WAKE = "UPDATE {p}sessions SET wake_no = wake_no + 1, runnable_at = COALESCE(runnable_at, ?) WHERE session_id = ?"
WAKE_RUNNING = WAKE + " AND epoch = ? AND holder IS NOT NULL AND lease_until > ?"
POST = """INSERT INTO {p}inbox (session_id, item_key, mode, kind, version, name, content, escaped, call_id, body, created_at)
 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
KNOWN = "SELECT item_id FROM {p}inbox WHERE session_id = ? AND item_key = ?"
EXISTS = "SELECT 1 FROM {p}sessions WHERE session_id = ?"
WAITING = """SELECT item_id, item_key, mode, created_at, kind, version, name, content, escaped, call_id, body
 FROM {p}inbox WHERE session_id = ? AND heard_seq IS NULL ORDER BY item_id"""

JUMP_IN = "UPDATE {p}sessions SET wake_no = wake_no + 1 WHERE session_id = ?"
STAND = "INSERT INTO {p}waiters (session_id, holder, alive_until) VALUES (?, ?, ?)"
PLACE = "SELECT ticket FROM {p}waiters WHERE holder = ?"
STILL = "UPDATE {p}waiters SET alive_until = ? WHERE ticket = ?"
LEAVE = "DELETE FROM {p}waiters WHERE ticket = ?"
GIVE_UP = "DELETE FROM {p}waiters WHERE holder = ?"


class Inbox(Part):
    """Posting to a session, from any process, whoever drives it."""

    async def post(self, session_id: str, record: Record, *, key: str, mode: str = "queue", running: Head | None = None) -> bool:
        """Leave ``record``; False when ``key`` was taken before.

        ``running``: only if that holder still holds the session; else `Conflict`. Raises `SessionNotFoundError`.
        """
        now, cells = self._clock.now_ms(), to_cells(record)
        if running is None:
            wake = Statement(self._sql(WAKE), (now, session_id), 1)
        else:
            wake = Statement(self._sql(WAKE_RUNNING), (now, session_id, running.epoch, now), 1)
        told = (cells.kind, cells.version, cells.name, cells.content, cells.escaped, cells.call_id, cells.body)
        try:
            if await self._write_once([wake, Statement(self._sql(POST), (session_id, key, mode, *told, now))]):
                return True
            conflict: Conflict | None = None
        except Conflict as error:
            conflict = error
        if await self._database.read(self._sql(KNOWN), (session_id, key)):
            return conflict is None
        if not await self._database.read(self._sql(EXISTS), (session_id,)):
            raise SessionNotFoundError(session_id)
        raise conflict or Conflict(f"session {session_id!r}: its holder is gone")

    async def inbox(self, session_id: str) -> list[InboxItem]:
        """What waits, oldest first."""
        rows = await self._database.read(self._sql(WAITING), (session_id,))
        items: list[InboxItem] = []
        for item_id, key, mode, created_at, kind, version, name, content, escaped, call_id, body in rows:
            cells = Cells(kind, version, None, name, content, escaped, None, call_id, None, body)
            items.append(InboxItem(item_id, key, mode, from_cells(cells), created_at))
        return items

    async def item_id(self, session_id: str, key: str) -> str:
        """The id of the item with this key; empty when there is none."""
        rows = await self._database.read(self._sql(KNOWN), (session_id, key))
        return str(rows[0][0]) if rows else ""

    # --- the line --------------------------------------------------------------------------

    async def queue_up(self, session_id: str, holder: str) -> int:
        """Stand in line for the lease; the ticket. ``wake_no`` moves, so the holder looks and lets the line go first."""
        name = f"{holder}#{self._ids.token(4)}"
        until = self._clock.now_ms() + TICKET_MS
        jump = Statement(self._sql(JUMP_IN), (session_id,), 1)
        try:
            await self._write_once([jump, Statement(self._sql(STAND), (session_id, name, until))])
            return (await self._database.read(self._sql(PLACE), (name,)))[0][0]
        except Conflict:
            raise SessionNotFoundError(session_id) from None
        except asyncio.CancelledError:
            # Whoever gave up before it knew its ticket would hold the line up until the ticket expires.
            await self._write_once([Statement(self._sql(GIVE_UP), (name,))])
            raise

    async def still_waiting(self, ticket: int) -> None:
        """A sign of life from the line."""
        await self._write_once([Statement(self._sql(STILL), (self._clock.now_ms() + TICKET_MS, ticket))])

    async def leave_line(self, ticket: int) -> None:
        await self._write_once([Statement(self._sql(LEAVE), (ticket,))])
