"""What the inspector asks about one session: bounded pages, whatever its size.

Every statement is a look along a primary key; none reads more records than a page has. What is asked about all sessions
is in `lines`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from power_loop.contracts.store import RecordRow
from power_loop.inspector.lines import Lines
from power_loop.store.large import LargeContent
from power_loop.store.log import COLUMNS, to_row

PAGE = f"SELECT {COLUMNS} FROM {{p}}records WHERE session_id = ? AND seq < ? ORDER BY seq DESC LIMIT ?"
BETWEEN = f"SELECT {COLUMNS} FROM {{p}}records WHERE session_id = ? AND seq > ? AND seq <= ? ORDER BY seq"
SENDS_AT = "SELECT seq, send_index FROM {p}records WHERE session_id = ? AND seq IN "
ONE = f"SELECT {COLUMNS} FROM {{p}}records WHERE session_id = ? AND seq = ?"
FOLD = "SELECT fold_seq FROM {p}sessions WHERE session_id = ?"
FOLD_BEFORE = f"SELECT {COLUMNS} FROM {{p}}records WHERE session_id = ? AND kind = 'context_folded' AND seq < ? ORDER BY seq DESC LIMIT 1"
REPLY_BEFORE = f"SELECT {COLUMNS} FROM {{p}}records WHERE session_id = ? AND seq < ? AND kind = 'model_replied' ORDER BY seq DESC LIMIT 1"
MESSAGES_BEFORE = "SELECT COUNT(*) FROM {p}records WHERE session_id = ? AND seq > ? AND seq < ? AND role IS NOT NULL"

DRIVEN = """SELECT s.session_id, i.metadata FROM {p}session_info i JOIN {p}sessions s ON s.session_id = i.session_id
 WHERE i.parent_session_id = ? AND s.holder IS NOT NULL AND s.lease_until > {t} ORDER BY s.created_at, s.session_id"""

# A request is derived from so many rows at most; what stands before them is counted.
REQUEST_ROWS = 300
# A page of a timeline holds so many rows at most.
PAGE_ROWS = 250
# The index of sends only grows with seq, so a send is found by looking at so many places at once, again and again.
PLACES = 16


class Reads(Lines, LargeContent):
    """Looks into a store that others write."""

    async def page_before(self, session_id: str, seq: int) -> list[RecordRow]:
        """Up to `PAGE_ROWS` rows before ``seq``, in order; whole sends, but for one that is longer than a page."""
        found = await self._database.read(self._sql(PAGE), (session_id, seq, PAGE_ROWS))
        rows = [to_row(row) for row in reversed(found)]
        if len(rows) == PAGE_ROWS and rows[0].send_index != rows[-1].send_index:
            rows = [row for row in rows if row.send_index != rows[0].send_index]
        return rows

    async def rows(self, session_id: str, after: int, through: int) -> list[RecordRow]:
        """The rows with ``after < seq <= through``, in order."""
        return [to_row(row) for row in await self._database.read(self._sql(BETWEEN), (session_id, after, through))]

    async def latest_rows(self, session_id: str, after: int, before: int) -> tuple[list[RecordRow], int]:
        """The rows with ``after < seq < before``, of many the latest; and how many messages stand in those left out."""
        first = before - REQUEST_ROWS
        if first <= after + 1:
            return await self.rows(session_id, after, before - 1), 0
        rows = await self.rows(session_id, first - 1, before - 1)
        begins = next((n for n, row in enumerate(rows) if row.send_index != rows[0].send_index), 0)
        counted = await self._database.read(self._sql(MESSAGES_BEFORE), (session_id, after, rows[begins].seq))
        return rows[begins:], counted[0][0]

    async def end_of_send(self, session_id: str, send_index: int, head: int) -> int:
        """The seq of the last row that belongs to that send or an earlier one."""
        low, high = 0, head
        while low < high:
            places = range(high, low, min(-1, (low - high) // PLACES))
            found = await self.sends_at(session_id, places)
            high = min((seq - 1 for seq, index in found.items() if index > send_index), default=high)
            low = max((seq for seq in places if seq <= high), default=low)
        return low

    async def sends_at(self, session_id: str, places: Sequence[int]) -> dict[int, int]:
        """To which send the record at each of these places belongs, where one stands there."""
        sql = self._sql(SENDS_AT) + f"({', '.join('?' * len(places))})"
        rows = await self._database.read(sql, (session_id, *places))
        return dict(rows)

    async def record(self, session_id: str, seq: int) -> RecordRow | None:
        """With its content whole, wherever that lies."""
        rows = await self._database.read(self._sql(ONE), (session_id, seq))
        return (await self._made_whole(session_id, [to_row(rows[0])]))[0] if rows else None

    async def fold_before(self, session_id: str, seq: int) -> RecordRow | None:
        """The last fold that a request at ``seq`` knew."""
        last = await self._database.read(self._sql(FOLD), (session_id,))
        if last and last[0][0] < seq:
            return await self.record(session_id, last[0][0]) if last[0][0] else None
        rows = await self._database.read(self._sql(FOLD_BEFORE), (session_id, seq))
        return to_row(rows[0]) if rows else None

    async def leaves_driven(self, session_id: str) -> dict[str, str]:
        """Sessions under a run that somebody drives now, by the step that they are for."""
        rows = await self._database.read(self._sql(DRIVEN), (session_id, self._now()))
        described = [(name, json.loads(metadata or "{}")) for name, metadata in rows]
        return {str(each["workflow_node_id"]): name for name, each in described if "workflow_node_id" in each}

    async def reply_before(self, session_id: str, seq: int) -> RecordRow | None:
        """The last reply before ``seq``."""
        rows = await self._database.read(self._sql(REPLY_BEFORE), (session_id, seq))
        return to_row(rows[0]) if rows else None
