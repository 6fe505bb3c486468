"""Messages and usage as a host reads them: rows of the log, in logical order."""

from __future__ import annotations

import json
from typing import NamedTuple

from power_loop.contracts.codec import usage_of
from power_loop.contracts.kept_rows import CompactionRow, UsageRow
from power_loop.contracts.reading import in_call_order, message_row
from power_loop.contracts.rows import MessageRow, MessageState
from power_loop.contracts.store import RecordRow
from power_loop.store.blobs import Blobs
from power_loop.store.log import COLUMNS, to_row

MESSAGES = f"SELECT {COLUMNS} FROM {{p}}records WHERE session_id = ? AND seq > ? AND role IS NOT NULL ORDER BY seq"
ONE = f"SELECT {COLUMNS} FROM {{p}}records WHERE session_id = ? AND seq = ? AND role IS NOT NULL"
FOLDS = f"SELECT {COLUMNS} FROM {{p}}records WHERE session_id = ? AND kind = 'context_folded' ORDER BY seq"
CALLS = f"SELECT {COLUMNS} FROM {{p}}records WHERE session_id = ? AND kind IN ('model_replied', 'call_charged') ORDER BY seq"
FOLD = "SELECT body FROM {p}records WHERE session_id = ? AND seq = ?"

# Beside what is left of a message that `prune_compacted_messages` emptied.
PRUNED = "pruned"


class Covered(NamedTuple):
    """The records that a summary stands for."""

    through: int = 0
    keeps: int = 0
    """The word of a send that was folded while it went on: it stays."""

    def __contains__(self, seq: object) -> bool:
        return isinstance(seq, int) and seq <= self.through and seq != self.keeps


class Messages(Blobs):
    """Reading what was said; nothing here writes."""

    async def load_active_messages(self, session_id: str, *, after_seq: int | None = None) -> list[MessageRow]:
        """What no fold covers, in logical order."""
        covered = await self._covered(session_id)
        rows = await self.load_all_messages(session_id)
        return [row for row in rows if row.seq > (after_seq or 0) and row.seq not in covered]

    async def load_all_messages(self, session_id: str) -> list[MessageRow]:
        """Every message ever said, whole, results in the order of their calls; what a fold covers is ``compacted_out``."""
        covered = await self._covered(session_id)
        rows = [to_row(row) for row in await self._database.read(self._sql(MESSAGES), (session_id, 0))]
        found = await self._made_whole(session_id, rows)
        return [await self._uncut_in(read_row(session_id, row, covered), row.cells.body) for row in in_call_order(found)]

    async def _uncut_in(self, message: MessageRow, body: str | None) -> MessageRow:
        """The message with the text that was cut for the model."""
        uncut = await self._uncut(message.session_id, body)
        return message if uncut is None else message._replace(content=uncut)

    async def get_message(self, session_id: str, seq: int) -> MessageRow | None:
        rows = await self._database.read(self._sql(ONE), (session_id, seq))
        if not rows:
            return None
        [row] = await self._made_whole(session_id, [to_row(rows[0])])
        return read_row(session_id, row, await self._covered(session_id))

    async def list_compactions(self, session_id: str) -> list[CompactionRow]:
        """The folds of a session, oldest first."""
        folds: list[CompactionRow] = []
        begins = 1
        for row in map(to_row, await self._database.read(self._sql(FOLDS), (session_id,))):
            body = json.loads(row.cells.body or "{}")
            before, after = body.get("tokens", (0, 0))
            through = body["through"]
            folds.append(CompactionRow(session_id, row.seq, row.seq, begins, through, before, after, row.round_index, row.created_at))
        return folds

    async def list_usage(self, session_id: str) -> list[UsageRow]:
        """One row per model call, folds and failed ones included, oldest first."""
        rows = [to_row(row) for row in await self._database.read(self._sql(CALLS), (session_id,)) if row[6] != "degraded"]
        return [usage_row(row) for row in rows if not is_merged(row)]

    async def _covered(self, session_id: str) -> Covered:
        """What the newest fold covers. Raises `SessionNotFoundError`."""
        head = await self.look(session_id)
        if not head.fold_seq:
            return Covered()
        rows = await self._database.read(self._sql(FOLD), (session_id, head.fold_seq))
        return Covered(head.fold_through, json.loads(rows[0][0] or "{}").get("keeps", 0) if rows else 0)


def read_row(session_id: str, row: RecordRow, covered: Covered) -> MessageRow:
    """The message, and whether a fold covers it or it was pruned."""
    active = MessageState.COMPACTED_OUT if row.seq in covered else MessageState.ACTIVE
    message = message_row(session_id, row, active)
    return message._replace(state=MessageState.DROPPED) if is_pruned(row) else message


def is_pruned(row: RecordRow) -> bool:
    """Its content was emptied by `prune_compacted_messages`."""
    return row.cells.body is not None and f'"{PRUNED}":' in row.cells.body and PRUNED in json.loads(row.cells.body)


def is_merged(row: RecordRow) -> bool:
    """What it used was summed up with others when somebody pruned the details."""
    return row.cells.body is not None and '"merged":' in row.cells.body and "merged" in json.loads(row.cells.body)


def usage_row(row: RecordRow) -> UsageRow:
    body = json.loads(row.cells.body or "{}")
    usage = usage_of(body)
    purpose = body.get("purpose") or row.cells.name or "round"
    return UsageRow(
        row.seq,
        row.send_index,
        row.round_index,
        purpose,
        usage.prompt,
        usage.completion,
        usage.cache_read,
        usage.cost,
        body.get("model"),
        usage.estimated,
    )
