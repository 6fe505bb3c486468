"""Results that came after their send had stopped waiting for them; what is made of them is the runtime's business."""

from __future__ import annotations

import json

from power_loop.contracts.codec import content_cells, content_of, dumps
from power_loop.contracts.late import LateResult
from power_loop.contracts.store import Conflict, Statement
from power_loop.store.part import Part
from power_loop.store.sessions import STAY

ADD = """INSERT INTO {p}late_results (session_id, send_index, call_id, call_key, epoch, outcome, content, escaped, body, created_at)
 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
# No records are looked through where nothing came late.
LATE = """SELECT l.call_id, l.send_index, l.call_key, l.outcome, l.content, l.escaped, l.body, l.created_at,
 (SELECT MAX(r.seq) FROM {p}records r WHERE r.session_id = l.session_id AND r.kind = 'tool_returned' AND r.call_id = l.call_id
  AND r.send_index = l.send_index)
 FROM {p}late_results l WHERE l.session_id = ? ORDER BY l.late_id"""
ANSWER = "SELECT body FROM {p}records WHERE session_id = ? AND seq = ?"


class LateResults(Part):
    """Evidence of what calls came to that the transcript calls unknown."""

    async def keep_late_result(self, session_id: str, late: LateResult, *, epoch: int) -> None:
        """Keep it, whoever drives the session by now; nothing where the session is gone. Raises `StoreUnavailable`.

        A COMMIT of which nobody knows may leave it twice, which is no worse than once.
        """
        now, (text, escaped) = self._clock.now_ms(), content_cells(late.output)
        body = dumps({"name": late.name}) if late.name is not None else None
        values = (session_id, late.send_index, late.call_id, late.key, epoch, late.outcome, text, escaped, body, now)
        try:
            await self._write_once([Statement(self._sql(STAY), (now, session_id), 1), Statement(self._sql(ADD), values)])
        except Conflict:
            return

    async def late_results(self, session_id: str) -> list[LateResult]:
        """Oldest first."""
        found: list[LateResult] = []
        for call_id, send, key, outcome, text, escaped, body, at, seq in await self._database.read(self._sql(LATE), (session_id,)):
            name = json.loads(body)["name"] if body else None
            answered = await self._answer(session_id, seq) if seq is not None else None
            found.append(LateResult(call_id, send, key or "", outcome, content_of(text, escaped), name, at, answered))
        return found

    async def _answer(self, session_id: str, seq: int) -> str:
        ((body,),) = await self._database.read(self._sql(ANSWER), (session_id, seq))
        return str(json.loads(body or "{}").get("outcome", "ok"))
