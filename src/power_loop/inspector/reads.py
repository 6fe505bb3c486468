"""What the inspector asks of the database: bounded pages, whatever the size of a session or of the store.

Every statement is a look along a primary key, or one pass over the thin rows of all sessions; none reads the records of
more than one page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from power_loop.contracts.errors import SessionNotFoundError
from power_loop.contracts.store import RecordRow
from power_loop.store.large import LargeContent
from power_loop.store.log import COLUMNS, to_row

LISTED = """SELECT s.session_id, s.agent, s.status, i.kind, i.parent_session_id, i.metadata, s.head, s.sends, s.send_index, s.rounds,
 s.llm_calls, s.tool_calls, s.prompt_tokens, s.completion_tokens, s.cost, s.created_at, s.updated_at, s.last_send_at, s.holder,
 CASE WHEN s.holder IS NOT NULL AND s.lease_until > {t} THEN 1 ELSE 0 END, s.takeovers, s.runnable_at
 FROM {p}sessions s JOIN {p}session_info i ON i.session_id = s.session_id"""
# Only the thin rows are sorted; the rest of a line is looked up for those that are shown.
CHOSEN = (
    " JOIN (SELECT s.session_id FROM {p}sessions s%s ORDER BY s.updated_at DESC, s.session_id LIMIT ?) t ON t.session_id = s.session_id"
)
OF_INFO = "EXISTS (SELECT 1 FROM {p}session_info j WHERE j.session_id = s.session_id AND j.%s)"
LAST = "SELECT session_id, seq, kind, body FROM {p}records WHERE %s ORDER BY session_id, seq"
FIRST_WORDS = "SELECT session_id, SUBSTR(content, 1, 160), escaped FROM {p}records WHERE seq = 1 AND session_id IN "
PAGE = f"SELECT {COLUMNS} FROM {{p}}records WHERE session_id = ? AND seq < ? ORDER BY seq DESC LIMIT ?"
BETWEEN = f"SELECT {COLUMNS} FROM {{p}}records WHERE session_id = ? AND seq > ? AND seq <= ? ORDER BY seq"
SEND_AT = "SELECT send_index FROM {p}records WHERE session_id = ? AND seq = ?"
ONE = f"SELECT {COLUMNS} FROM {{p}}records WHERE session_id = ? AND seq = ?"
FOLD_BEFORE = f"SELECT {COLUMNS} FROM {{p}}records WHERE session_id = ? AND kind = 'context_folded' AND seq < ? ORDER BY seq DESC LIMIT 1"
CALLS = """SELECT r.seq, r.send_index, r.kind, r.created_at, r.body,
 (SELECT q.created_at FROM {p}records q WHERE q.session_id = r.session_id AND q.seq = r.seq - 1), r.session_id
 FROM {p}records r WHERE %s AND r.kind IN ('model_replied', 'call_charged', 'tool_returned') ORDER BY r.seq DESC LIMIT ?"""
LATEST = "SELECT session_id, head FROM {p}sessions WHERE head > 0 ORDER BY updated_at DESC, session_id LIMIT ?"
REPLY_BEFORE = f"SELECT {COLUMNS} FROM {{p}}records WHERE session_id = ? AND seq < ? AND kind = 'model_replied' ORDER BY seq DESC LIMIT 1"
# Without a division, which the engines round differently.
DAYS = """SELECT last_send_at - (last_send_at % 86400000), COUNT(*), SUM(sends), SUM(llm_calls), SUM(tool_calls), SUM(prompt_tokens),
 SUM(completion_tokens), SUM(cost) FROM {p}sessions WHERE last_send_at IS NOT NULL GROUP BY last_send_at - (last_send_at % 86400000)
 ORDER BY 1 DESC LIMIT ?"""

MESSAGES_BEFORE = "SELECT COUNT(*) FROM {p}records WHERE session_id = ? AND seq > ? AND seq < ? AND role IS NOT NULL"

# A send is over, and then up to so many records may follow: what a fold cost, and the fold.
LAST_FEW = 6
# A request is derived from so many rows at most; what stands before them is counted.
REQUEST_ROWS = 1_000
# The index of sends only grows with seq, so a send is found by halving; a page holds so many rows at most.
PAGE_ROWS = 400

Json = dict[str, Any]


class Listed(NamedTuple):
    """One line of the list of sessions; times in ms, UTC."""

    session_id: str
    agent: str | None
    archived: bool
    kind: str
    parent_session_id: str | None
    metadata: Mapping[str, Any]
    head: int
    sends: int
    send_index: int
    rounds: int
    llm_calls: int
    tool_calls: int
    prompt_tokens: int
    completion_tokens: int
    cost: float
    created_at: int
    updated_at: int
    last_send_at: int | None
    holder: str | None
    held: bool
    takeovers: int
    runnable_at: int | None


class Reads(LargeContent):
    """Looks into a store that others write."""

    async def sessions(
        self, *, search: str = "", kind: str = "", agent: str = "", archived: bool | None = None, running: bool = False,
        before: tuple[int, str] | None = None, limit: int = 50,
    ) -> list[Listed]:  # fmt: skip
        """The sessions, the latest activity first; ``before``: (updated_at, session id) of the last line of the page before."""
        wanted: list[tuple[str, list[Any]]] = []
        if search:
            like = "%" + search.replace("!", "!!").replace("%", "!%").replace("_", "!_") + "%"
            described = OF_INFO % "metadata LIKE ? ESCAPE '!'"
            wanted.append((f"(s.session_id LIKE ? ESCAPE '!' OR s.agent LIKE ? ESCAPE '!' OR {described})", [like] * 3))
        if kind:
            wanted.append((OF_INFO % "kind = ?", [kind]))
        if agent:
            wanted.append(("s.agent = ?", [agent]))
        if archived is not None:
            wanted.append(("s.status = ?", [int(archived)]))
        if running:
            wanted.append(("s.holder IS NOT NULL AND s.lease_until > {t}", [self._now()]))
        if before is not None:
            wanted.append(("(s.updated_at < ? OR (s.updated_at = ? AND s.session_id > ?))", [before[0], before[0], before[1]]))
        where = " WHERE " + " AND ".join(condition for condition, _ in wanted) if wanted else ""
        sql = self._sql(LISTED + CHOSEN % where + " ORDER BY s.updated_at DESC, s.session_id")
        given = [self._now(), *(value for _, values in wanted for value in values), limit]
        return [_listed(row) for row in await self._database.read(sql, given)]

    async def session(self, session_id: str) -> Listed:
        """Raises `SessionNotFoundError`."""
        rows = await self._database.read(self._sql(LISTED + " WHERE s.session_id = ?"), (self._now(), session_id))
        if not rows:
            raise SessionNotFoundError(session_id)
        return _listed(rows[0])

    async def first_words(self, session_ids: Sequence[str]) -> dict[str, str]:
        """What was said first in each of these sessions, cut."""
        if not session_ids:
            return {}
        sql = self._sql(FIRST_WORDS) + f"({', '.join('?' * len(session_ids))})"
        rows = await self._database.read(sql, list(session_ids))
        return {session_id: _words(text) if escaped else text for session_id, text, escaped in rows if text}

    async def last_records(self, heads: Mapping[str, int]) -> dict[str, list[tuple[str, Json]]]:
        """(kind, body) of the last few records of each of these sessions, by (session id, head), the latest last."""
        if not heads:
            return {}
        sql = self._sql(LAST % " OR ".join(["(session_id = ? AND seq > ?)"] * len(heads)))
        rows = await self._database.read(sql, [value for name, head in heads.items() for value in (name, head - LAST_FEW)])
        found: dict[str, list[tuple[str, Json]]] = {name: [] for name in heads}
        for session_id, _, kind, body in rows:
            found[session_id].append((kind, json.loads(body) if body else {}))
        return found

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
            middle = (low + high + 1) // 2
            rows = await self._database.read(self._sql(SEND_AT), (session_id, middle))
            if rows and rows[0][0] > send_index:
                high = middle - 1
            else:
                low = middle
        return low

    async def record(self, session_id: str, seq: int) -> RecordRow | None:
        rows = await self._database.read(self._sql(ONE), (session_id, seq))
        return to_row(rows[0]) if rows else None

    async def fold_before(self, session_id: str, seq: int) -> RecordRow | None:
        """The last fold that a request at ``seq`` knew."""
        rows = await self._database.read(self._sql(FOLD_BEFORE), (session_id, seq))
        return to_row(rows[0]) if rows else None

    async def reply_before(self, session_id: str, seq: int) -> RecordRow | None:
        """The last reply before ``seq``."""
        rows = await self._database.read(self._sql(REPLY_BEFORE), (session_id, seq))
        return to_row(rows[0]) if rows else None

    async def calls(self, session_id: str, limit: int) -> list[tuple[Any, ...]]:
        """The latest calls of models and tools, oldest first: seq, send, kind, at, body, when the record before was written, session."""
        return list(reversed(await self._database.read(self._sql(CALLS % "r.session_id = ?"), (session_id, limit))))

    async def latest_calls(self, sessions: int, records: int) -> list[tuple[Any, ...]]:
        """As `calls`, of the last ``records`` of each of the ``sessions`` that were active last, in the order of time."""
        heads = await self._database.read(self._sql(LATEST), (sessions,))
        if not heads:
            return []
        sql = self._sql(CALLS % f"({' OR '.join(['(r.session_id = ? AND r.seq > ?)'] * len(heads))})")
        asked = [value for name, head in heads for value in (name, head - records)]
        return sorted(await self._database.read(sql, [*asked, sessions * records]), key=lambda row: (row[3], row[6], row[0]))

    async def days(self, limit: int) -> list[tuple[Any, ...]]:
        """By the day of their last send, oldest first: day (ms), sessions, sends, calls, tool calls, tokens in, tokens out, cost."""
        return list(reversed(await self._database.read(self._sql(DAYS), (limit,))))


# The first text in JSON that was cut: itself, or that of the first block that has one.
WORDS = re.compile(r'(?:\[.*?"text":)?"((?:[^"\\]|\\u[0-9a-f]{4}|\\[^u])*)', re.DOTALL)


def _words(text: str) -> str:
    found = WORDS.match(text)
    return json.loads(f'"{found[1]}"') if found is not None else ""


def _listed(row: Sequence[Any]) -> Listed:
    line = Listed(*row)
    described: dict[str, Any] = json.loads(row[5]) if row[5] else {}
    return line._replace(archived=bool(line.archived), kind=line.kind or "root", metadata=described, held=bool(line.held))
