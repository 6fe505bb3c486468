"""What a batch says to the database: statements that name what the batch changes, and nothing else.

A parameter costs more than the column it is for, and SQLite's driver binds NULL more slowly than any text. So there are a
few forms of each statement instead of one with everything in it; which form a batch takes follows from the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

from power_loop.contracts.codec import FILLED
from power_loop.contracts.store import NO_TALLY, Cells, Head, Tally

FENCE = """UPDATE {p}sessions SET head = ?, epoch = ?, holder = ?, lease_until = {t0}, takeovers = ?, updated_at = ?{changes}
 WHERE session_id = ? AND epoch = ? AND head = ? AND wake_no = ? AND lease_until < {t}"""

# What a batch may change in the session's row beside the lease, in this order.
CHANGES = (
    ", send_index = ?, send_seq = ?, first_send_at = COALESCE(first_send_at, ?)",
    ", fold_seq = ?, fold_through = ?",
    """, sends = sends + ?, rounds = rounds + ?, llm_calls = llm_calls + ?, tool_calls = tool_calls + ?,
 prompt_tokens = prompt_tokens + ?, completion_tokens = completion_tokens + ?, cost = cost + ?""",
    ", last_send_at = ?",
    ", last_batch = ?",
)
BEGINS, FOLDS, COUNTS, ENDS, MARKS = (1 << place for place in range(len(CHANGES)))

PLACE = "session_id, epoch, created_at"


def fences(sql: str) -> list[str]:
    """The fence with every set of changes, each at the sum of what is in it."""
    every = range(1 << len(CHANGES))
    return [sql.replace("{changes}", "".join(text for place, text in enumerate(CHANGES) if which >> place & 1)) for which in every]


def changed(seen: Head, new: Head, tally: Tally, now: int, mark: str | None) -> tuple[int, tuple[Any, ...]]:
    """What a batch changes in the session's row beside the lease: which of `CHANGES`, and their parameters."""
    which, values = 0, ()
    if new.send_index != seen.send_index:
        which, values = BEGINS, (new.send_index, new.send_seq, now)
    if new.fold_seq != seen.fold_seq:
        which, values = which | FOLDS, (*values, new.fold_seq, new.fold_through)
    if tally is not NO_TALLY:
        which, values = which | COUNTS, values + tally
        if tally.sends:
            which, values = which | ENDS, (*values, now)
    if mark is not None:
        which, values = which | MARKS, (*values, mark)
    return which, values


RowForm = tuple[str, Callable[[Cells], tuple[Any, ...]]]
"""How a row is added, and what of its cells the statement takes."""


def row_forms(sql: Callable[[str], str], *, taking: bool) -> tuple[Mapping[tuple[str, int], RowForm], RowForm]:
    """(by kind and number of empty cells, of any other row): how rows are added. ``taking``: with the id of the take.

    A row of a frequent kind that has as many empty cells as such a row can have fills just what it always fills.
    """
    place, forms = f"{PLACE}{', take_id' if taking else ''}, seq, send_index, round_index", dict[tuple[str, int], RowForm]()
    for kind, (always, sometimes) in FILLED.items():
        most, full = len(Cells._fields[2:]) - len(always), _row_form(sql, place, always + sometimes)
        forms |= {(kind, most - more): full for more in range(1, len(sometimes) + 1)}
        forms[kind, most] = _row_form(sql, place, always)
    return forms, _row_form(sql, place, Cells._fields[2:])


def _row_form(sql: Callable[[str], str], place: str, filled: tuple[str, ...]) -> RowForm:
    cells = ("kind", "version", *filled)
    columns = f"{place}, {', '.join(cells)}"
    insert = f"INSERT INTO {{p}}records ({columns}) VALUES ({', '.join('?' * (columns.count(',') + 1))})"
    return sql(insert), itemgetter(*map(Cells._fields.index, cells))
