"""What the inspector asks about all sessions: a page of their list, their days, the latest calls.

A list is one pass over the thin rows. What is dearer for each session (a search in texts, sums by day) is asked slice by
slice, in the order of ids: each answer is bounded however many sessions there are, and whoever asks puts them together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from power_loop.contracts.errors import SessionNotFoundError
from power_loop.store.part import Part

LISTED = """SELECT s.session_id, s.agent, s.status, i.kind, i.parent_session_id, i.metadata, s.head, s.sends, s.send_index, s.rounds,
 s.llm_calls, s.tool_calls, s.prompt_tokens, s.completion_tokens, s.cost, s.created_at, s.updated_at, s.last_send_at, s.holder,
 CASE WHEN s.holder IS NOT NULL AND s.lease_until > {t} THEN 1 ELSE 0 END, s.takeovers, s.runnable_at
 FROM {p}sessions s JOIN {p}session_info i ON i.session_id = s.session_id"""
# Only the thin rows are sorted; the rest of a line is looked up for those that are shown.
CHOSEN = (
    " JOIN (SELECT s.session_id FROM {p}sessions s%s ORDER BY s.updated_at DESC, s.session_id LIMIT ?) t ON t.session_id = s.session_id"
)
DESCRIBED = " JOIN {p}session_info i ON i.session_id = s.session_id"
SLICE_END = "SELECT session_id FROM {p}sessions WHERE session_id > ? ORDER BY session_id LIMIT 1 OFFSET ?"
LAST = "SELECT session_id, seq, kind, body FROM {p}records WHERE %s ORDER BY session_id, seq"
FIRST_WORDS = "SELECT session_id, SUBSTR(content, 1, 600), escaped FROM {p}records WHERE seq = 1 AND session_id IN "
LATEST = "SELECT session_id, head FROM {p}sessions WHERE head > 0 ORDER BY updated_at DESC, session_id LIMIT ?"
CALLS = """SELECT r.seq, r.send_index, r.kind, r.created_at, r.body,
 (SELECT q.created_at FROM {p}records q WHERE q.session_id = r.session_id AND q.seq = r.seq - 1), r.session_id
 FROM {p}records r WHERE %s AND r.kind IN ('model_replied', 'call_charged', 'tool_returned') ORDER BY r.seq DESC LIMIT ?"""
# Without a division, which the engines round differently.
DAYS = """SELECT s.last_send_at - (s.last_send_at %% 86400000), COUNT(*), SUM(s.sends), SUM(s.llm_calls), SUM(s.tool_calls),
 SUM(s.prompt_tokens), SUM(s.completion_tokens), SUM(s.cost) FROM {p}sessions s WHERE s.last_send_at IS NOT NULL%s
 GROUP BY s.last_send_at - (s.last_send_at %% 86400000) ORDER BY 1 DESC LIMIT ?"""

CHILDREN = """SELECT i.session_id, i.parent_session_id, i.kind, i.lifecycle FROM {p}session_info i
 JOIN {p}sessions s ON s.session_id = i.session_id WHERE i.parent_session_id IN (%s) ORDER BY s.created_at, s.session_id LIMIT ?"""

# So many sessions cost any engine some 30 ms to search.
SLICE = 10_000
# A send is over, and then up to so many records may follow: what a fold cost, and the fold.
LAST_FEW = 6

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


class Slice(NamedTuple):
    """The sessions whose ids come after ``after``, up to ``through``; None: to the last."""

    after: str = ""
    through: str | None = None


class Lines(Part):
    """Looks at the sessions of a store that others write."""

    async def slice_after(self, session_id: str) -> Slice:
        """The next `SLICE` sessions behind that id."""
        ends = await self._database.read(self._sql(SLICE_END), (session_id, SLICE - 1))
        return Slice(session_id, ends[0][0] if ends else None)

    async def sessions(
        self, *, search: str = "", kind: str = "", agent: str = "", archived: bool | None = None, running: bool = False,
        before: tuple[int, str] | None = None, limit: int = 50, of: Slice | None = None,
    ) -> list[Listed]:  # fmt: skip
        """The sessions, the latest activity first; ``before``: (updated_at, session id) of the last line of the page before."""
        wanted = _within(of) if of is not None else []
        if search:
            like = "%" + search.replace("!", "!!").replace("%", "!%").replace("_", "!_") + "%"
            wanted.append(("(s.session_id LIKE ? ESCAPE '!' OR s.agent LIKE ? ESCAPE '!' OR i.metadata LIKE ? ESCAPE '!')", [like] * 3))
        if kind:
            wanted.append(("i.kind = ?", [kind]))
        if agent:
            wanted.append(("s.agent = ?", [agent]))
        if archived is not None:
            wanted.append(("s.status = ?", [int(archived)]))
        if running:
            wanted.append(("s.holder IS NOT NULL AND s.lease_until > {t}", [self._now()]))
        if before is not None:
            wanted.append(("(s.updated_at < ? OR (s.updated_at = ? AND s.session_id > ?))", [before[0], before[0], before[1]]))
        where = " WHERE " + " AND ".join(condition for condition, _ in wanted) if wanted else ""
        chosen = CHOSEN % ((DESCRIBED if search or kind else "") + where)
        sql = self._sql(LISTED + chosen + " ORDER BY s.updated_at DESC, s.session_id")
        given = [self._now(), *(value for _, values in wanted for value in values), limit]
        return [_listed(row) for row in await self._database.read(sql, given)]

    async def session(self, session_id: str) -> Listed:
        """Raises `SessionNotFoundError`."""
        rows = await self._database.read(self._sql(LISTED + " WHERE s.session_id = ?"), (self._now(), session_id))
        if not rows:
            raise SessionNotFoundError(session_id)
        return _listed(rows[0])

    async def family(self, session_id: str, limit: int) -> list[Json]:
        """It and all sessions under it, parents before children: ``{session_id, parent, kind, lifecycle}``, up to ``limit``."""
        top = await self.session(session_id)
        found: list[Json] = [{"session_id": session_id, "parent": top.parent_session_id, "kind": top.kind, "lifecycle": None}]
        level = [session_id]
        while level and len(found) < limit:
            sql = self._sql(CHILDREN % ", ".join("?" * len(level)))
            rows = await self._database.read(sql, (*level, limit - len(found)))
            found += [{"session_id": name, "parent": parent, "kind": kind, "lifecycle": how} for name, parent, kind, how in rows]
            level = [row[0] for row in rows]
        return found

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

    async def days(self, limit: int, of: Slice) -> list[tuple[Any, ...]]:
        """By the day of their last send, oldest first: day (ms), sessions, sends, calls, tool calls, tokens in, tokens out, cost."""
        within = _within(of)
        sql = self._sql(DAYS % "".join(f" AND {condition}" for condition, _ in within))
        return list(reversed(await self._database.read(sql, [*(value for _, values in within for value in values), limit])))


# The first text in JSON that was cut: itself, or that of the first block that has one.
WORDS = re.compile(r'(?:\[.*?"text":)?"((?:[^"\\]|\\u[0-9a-f]{4}|\\[^u])*)', re.DOTALL)


def _words(text: str) -> str:
    found = WORDS.match(text)
    return json.loads(f'"{found[1]}"') if found is not None else ""


def _within(of: Slice) -> list[tuple[str, list[Any]]]:
    """The conditions that a session of the slice fulfils, each with its values."""
    ends = [("s.session_id <= ?", [of.through])] if of.through is not None else []
    return [("s.session_id > ?", [of.after]), *ends]


def _listed(row: Sequence[Any]) -> Listed:
    line = Listed(*row)
    described: dict[str, Any] = json.loads(row[5]) if row[5] else {}
    return line._replace(archived=bool(line.archived), kind=line.kind or "root", metadata=described, held=bool(line.held))
