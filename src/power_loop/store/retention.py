"""What may go, and only when somebody says so: folded originals, details of usage, timers and keys of the past, old sessions.

A pruned record keeps its place, its kind and its numbers; what it said is gone. Nothing that a later request could
show is ever touched. Work goes in small batches, so that sends go on meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from power_loop.contracts.codec import dumps, usage_of, usage_to_json
from power_loop.contracts.errors import SessionNotFoundError
from power_loop.contracts.rows import SessionStatus
from power_loop.contracts.store import Batch, Conflict, RecordRow, Statement
from power_loop.contracts.usage import NO_USAGE
from power_loop.store.large import REQUEST_KEY
from power_loop.store.log import APPEND, COLUMNS, to_row
from power_loop.store.messages import PRUNED, Messages, is_merged, is_pruned
from power_loop.store.sessions import Sessions

FOLDED = f"""SELECT {COLUMNS} FROM {{p}}records WHERE session_id = ? AND role IS NOT NULL AND seq <= ? AND seq < ? AND created_at <= ?
 ORDER BY seq"""
CHARGED = f"""SELECT {COLUMNS} FROM {{p}}records WHERE session_id = ? AND kind IN ('model_replied', 'call_charged') ORDER BY seq"""
# Out and in again instead of an UPDATE: SQLite then packs the short rows together and has whole pages to give back.
TAKE_OUT = "DELETE FROM {p}records WHERE session_id = ? AND seq = ?"
LIGHTEN = "UPDATE {p}records SET body = ? WHERE session_id = ? AND seq = ?"
OLD_TIMERS = "DELETE FROM {p}timers WHERE status <> 'armed' AND updated_at <= ?"
OLD_SESSIONS = "SELECT session_id FROM {p}sessions WHERE status = ? AND updated_at <= ? ORDER BY session_id"
OLD_RUNS = """SELECT s.session_id FROM {p}sessions s, {p}session_info i, {p}records r WHERE i.kind = 'workflow' AND s.updated_at <= ?
 AND i.session_id = s.session_id AND r.session_id = s.session_id AND r.seq = s.head AND r.kind = 'send_ended' ORDER BY s.session_id"""
# The key of the last send, or of what still waits, may be asked for again.
OLD_KEYS = """DELETE FROM {p}send_keys WHERE created_at <= ?
 AND send_index < (SELECT s.send_index FROM {p}sessions s WHERE s.session_id = {p}send_keys.session_id)
 AND NOT EXISTS (SELECT 1 FROM {p}inbox i WHERE i.session_id = {p}send_keys.session_id AND i.item_key = {p}send_keys.send_key
  AND i.heard_seq IS NULL)"""
OLD_HEARD = "DELETE FROM {p}inbox WHERE heard_seq IS NOT NULL AND created_at <= ?"
# Whatever was sent before the fold may show what is emptied now.
REQUESTS = """DELETE FROM {p}blobs WHERE session_id = ? AND digest LIKE ? AND created_at <=
 (SELECT r.created_at FROM {p}records r WHERE r.session_id = ? AND r.seq = ?)"""
FORGET = "DELETE FROM {p}blobs WHERE session_id = ? AND digest = ?"
OLD_LATE = "DELETE FROM {p}late_results WHERE created_at <= ?"
COUNT = "SELECT COUNT(*) FROM {p}"

# What the kernel and the counters read of a pruned record's body.
KEPT = ("key", "usage", "finish", "model", "outcome", "ms", "ran")

# Sends wait for a batch of ours no longer than for one of another send.
AT_ONCE = 200

# No session is older than this many ms (31 years), and none was made before this time (2001).
AN_AGE = 10**12


class Retention(Sessions, Messages):
    """The verbs that forget. ``older_than_ms``: an age, or a point in time (ms since the epoch)."""

    async def prune_compacted_messages(self, session_id: str, *, older_than_ms: int | None = None, keep_recent: int = 0) -> int:
        """Empty the messages that a fold stands in for, but for the ``keep_recent`` newest of them; how many.

        Later requests stay as they are. What recalls or exports the originals finds them empty, and requests that were kept
        whole and may show them are deleted. Raises `SessionNotFoundError`.
        """
        if keep_recent < 0:
            raise ValueError(f"keep_recent is {keep_recent}; it must be at least 0")
        head = await self._look_at(session_id)
        # The send under way is left whole: its state is made of all of it.
        found = await self._records(FOLDED, session_id, head["fold_through"], head["send_seq"], self._before(older_than_ms))
        covered = await self._covered(session_id)
        wanted = [row for row in found[: len(found) - keep_recent] if not is_pruned(row) and row.seq in covered]
        emptied = await self._in_batches([self._emptied(session_id, row) for row in wanted])
        if emptied:
            await self._delete(REQUESTS, session_id, f"{REQUEST_KEY}%", session_id, head["fold_seq"])
        return emptied

    async def prune_usage_rounds(self, session_id: str, *, keep_last: int | None = None, older_than_ms: int | None = None) -> int:
        """Forget which model call of an earlier send cost what, and its kept request, but for the ``keep_last`` newest calls; how many.

        Sums stay. Raises `ValueError` when neither bound is given.
        """
        if keep_last is None and older_than_ms is None:
            raise ValueError("prune_usage_rounds needs keep_last= or older_than_ms=")
        head, before = await self._look_at(session_id), self._before(older_than_ms)
        found = [row for row in await self._records(CHARGED, session_id) if row.cells.name != "degraded"]
        old = found[: max(0, len(found) - (keep_last or 0))]
        wanted = [row for row in old if row.created_at <= before and row.send_index < head["send_index"] and not is_merged(row)]
        await self._in_batches([[Statement(self._sql(FORGET), (session_id, key))] for key in map(_key_of_request, wanted) if key])
        return await self._in_batches(list(self._lightened(session_id, wanted)), len(wanted))

    async def prune_timers(self, *, older_than_ms: int | None = None) -> int:
        """Delete timers that have fired or were cancelled; how many."""
        return await self._delete(OLD_TIMERS, self._before(older_than_ms))

    async def prune_sessions(self, *, older_than_ms: int, status: str = SessionStatus.ARCHIVED) -> int:
        """Delete the sessions of this status that nobody touched since then, with what hangs under them; how many are gone."""
        archived = int(SessionStatus(status) is SessionStatus.ARCHIVED)
        return await self._close_all(await self._found(OLD_SESSIONS, archived, self._before(older_than_ms)))

    async def prune_workflows(self, *, older_than_ms: int) -> int:
        """Delete runs that are over and that nobody touched since then, with the sessions of their leaves; how many sessions are gone."""
        return await self._close_all(await self.workflows_over(older_than_ms=older_than_ms))

    async def workflows_over(self, *, older_than_ms: int) -> list[str]:
        """The sessions of the runs that are over and that nobody touched since then."""
        return await self._found(OLD_RUNS, self._before(older_than_ms))

    async def prune_keys(self, *, older_than_ms: int) -> int:
        """Delete the keys of items that were heard and of sends that are past, and late results; how many.

        A caller that repeats one of these keys afterwards is heard again.
        """
        before = self._before(older_than_ms)
        return sum([await self._delete(sql, before) for sql in (OLD_HEARD, OLD_KEYS, OLD_LATE)])

    # --- how ---------------------------------------------------------------------------------------

    def _before(self, older_than_ms: int | None) -> int:
        now = self._clock.now_ms()
        if older_than_ms is None:
            return now
        if older_than_ms < 0:
            raise ValueError(f"older_than_ms is {older_than_ms}; it must be an age or a point in time")
        return now - older_than_ms if older_than_ms < AN_AGE else older_than_ms

    async def _found(self, sql: str, *params: Any) -> list[str]:
        return [session_id for (session_id,) in await self._database.read(self._sql(sql), params)]

    async def _close_all(self, session_ids: list[str]) -> int:
        gone = 0
        for session_id in session_ids:
            try:
                gone += await self.close_session(session_id)
            except SessionNotFoundError:
                continue  # gone with its parent, or closed by somebody else
        return gone

    async def _look_at(self, session_id: str) -> dict[str, int]:
        names = ("fold_through", "fold_seq", "send_seq", "send_index")
        sql = f"SELECT {', '.join(names)} FROM {{p}}sessions WHERE session_id = ?"
        rows = await self._database.read(self._sql(sql), (session_id,))
        if not rows:
            raise SessionNotFoundError(session_id)
        return dict(zip(names, rows[0], strict=True))

    async def _records(self, sql: str, *params: Any) -> list[RecordRow]:
        return [to_row(row) for row in await self._database.read(self._sql(sql), params)]

    def _emptied(self, session_id: str, row: RecordRow) -> Batch:
        cells = row.cells
        body = {name: value for name, value in json.loads(cells.body or "{}").items() if name in KEPT}
        calls = None if cells.tool_calls is None else dumps([without_arguments(call) for call in json.loads(cells.tool_calls)])
        left = cells._replace(content="", escaped=None, tool_calls=calls, body=dumps({**body, PRUNED: 1}))
        values = (session_id, row.seq, row.epoch, row.take_id, row.send_index, row.round_index, row.created_at, *left)
        return [Statement(self._sql(TAKE_OUT), (session_id, row.seq), 1), Statement(self._sql(APPEND), values)]

    def _lightened(self, session_id: str, rows: list[RecordRow]) -> Iterator[Batch]:
        """Per send, the usage of all but the last of ``rows`` moves into the last."""
        sums = {row.send_index: NO_USAGE for row in rows}
        last = {row.send_index: row.seq for row in rows}
        for row in rows:
            sums[row.send_index] = sums[row.send_index].plus(usage_of(json.loads(row.cells.body or "{}")))
        for send, end in last.items():
            batch: list[Statement] = []
            for row in rows:
                if row.send_index == send:
                    body = json.loads(row.cells.body or "{}")
                    body |= {"usage": usage_to_json(sums[send]) if row.seq == end else [], "merged": 1}
                    batch.append(Statement(self._sql(LIGHTEN), (dumps(body), session_id, row.seq), 1))
            yield batch

    async def _in_batches(self, changes: list[Batch], count: int | None = None) -> int:
        """Write all of ``changes``, each whole; their number. A session that is deleted meanwhile has nothing left to prune."""
        for at in range(0, len(changes), AT_ONCE):
            try:
                await self._write_once([statement for change in changes[at : at + AT_ONCE] for statement in change])
            except Conflict:
                return at
        return len(changes) if count is None else count

    async def _delete(self, sql: str, *params: Any) -> int:
        """Run a DELETE; how many rows went. Counted before, so a rival's work may be counted in."""
        counted = sql.replace("DELETE FROM {p}", COUNT, 1)
        ((count,),) = await self._database.read(self._sql(counted), params)
        if count:
            await self._write_once([Statement(self._sql(sql), params)])
        return count


def _key_of_request(row: RecordRow) -> str | None:
    digest = json.loads(row.cells.body or "{}").get("digest")
    return REQUEST_KEY + digest if digest else None


def without_arguments(call: dict[str, Any]) -> dict[str, Any]:
    return {**call, "function": {**call["function"], "arguments": "{}"}}
