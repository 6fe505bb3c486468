"""Which rows a window is made of, read from the store: from the last fold on, and no more than what is shown."""

from __future__ import annotations

import json

from power_loop.context.represent import Representation
from power_loop.contracts.store import Head, RecordRow, SessionLog


async def rows_of_a_window(log: SessionLog, head: Head, after: int, shown_as: Representation | None) -> list[RecordRow]:
    """The rows behind ``after`` that a cold window is made of, and the word before it that a fold inside a send left.

    In a representation of its own that is one row per finished send, where every one of them has it.
    """
    rows: list[RecordRow] = []
    if shown_as is not None:
        rows = await log.rows(head.session_id, after=after, whole_from=head.send_seq, projected=shown_as.kind)
    if not rows or _missing(rows, head):
        said = await log.rows(head.session_id, after=after, whole_from=head.send_seq)
        rows = sorted({row.seq: row for row in (*rows, *said)}.values(), key=lambda row: row.seq)
    keeps = _kept_word(rows, head)
    if keeps and keeps <= after and (shown_as is None or not _has_projection(rows, keeps)):
        rows = [*await log.rows(head.session_id, after=keeps - 1, until=keeps), *rows]
    return rows


def _body(row: RecordRow) -> dict[str, object]:
    return json.loads(row.cells.body or "{}")


def _newest_fold(rows: list[RecordRow], head: Head) -> RecordRow | None:
    return next((row for row in reversed(rows) if row.seq == head.fold_seq), None)


def _kept_word(rows: list[RecordRow], head: Head) -> int:
    """seq of the word that the newest fold left standing; 0 for none."""
    fold = _newest_fold(rows, head) if head.fold_seq else None
    keeps = _body(fold).get("keeps", 0) if fold is not None else 0
    return keeps if isinstance(keeps, int) else 0


def _has_projection(rows: list[RecordRow], keeps: int) -> bool:
    """The send that began at ``keeps`` is over, and shown otherwise than by its words."""
    return any(row.cells.kind == "send_projected" and _body(row).get("lo") == keeps for row in rows)


def _missing(rows: list[RecordRow], head: Head) -> bool:
    """A send between the newest fold and the last send has no projection."""
    fold = _newest_fold(rows, head) if head.fold_seq else None
    body = _body(fold) if fold is not None else {}
    covered = body.get("send", 0) if fold is not None else 0
    first = (covered if isinstance(covered, int) else 0) + (0 if body.get("keeps") else 1)
    there = {row.cells.call_index for row in rows if row.cells.kind == "send_projected"}
    return any(send not in there for send in range(max(1, first), head.send_index))
