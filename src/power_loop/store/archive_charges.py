"""What sub-agents charged to the sends of a session: it stays with the session, also when they are gone.

In a copy the ledgers begin with these lines. What the session itself used is in its records.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from power_loop.contracts.ledger import ledger_id_of
from power_loop.contracts.store import Row, Statement
from power_loop.store.ledger import LINE

READ = """SELECT c.session_id, l.send_index, c.charged_session, c.seq, c.send_index, c.purpose, c.model, c.input_tokens, c.output_tokens,
 c.cache_read_tokens, c.cache_write_tokens, c.reasoning_tokens, c.calls, c.cost, c.estimated, c.created_at
 FROM {p}charges c JOIN {p}ledgers l ON l.ledger_id = c.ledger_id WHERE c.session_id IN (:ids)
 ORDER BY l.send_index, c.created_at, c.charged_session, c.seq"""
LEDGER = """INSERT INTO {p}ledgers (ledger_id, session_id, send_index, limits, requests, tool_calls, input_tokens, output_tokens, cost,
 version, created_at, updated_at) VALUES (?, ?, ?, '{}', ?, 0, ?, ?, ?, 0, ?, ?)"""


class ChargeImage(NamedTuple):
    """One model call of a sub-agent, as a line of the ledger of its caller's send."""

    of_send: int
    """The caller's."""
    charged_session: str
    seq: int
    send_index: int
    """The sub-agent's own."""
    purpose: str
    model: str | None
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    calls: int
    cost: float | None
    estimated: int
    created_at: int

    @property
    def key(self) -> tuple[int, str, int]:
        return self.of_send, self.charged_session, self.seq


def charges_statement(ids: Sequence[str]) -> tuple[str, list[str]]:
    """(SQL, parameters) that read what was charged to these sessions."""
    return READ.replace(":ids", ", ".join("?" * len(ids))), [*ids]


def charges_of(rows: Iterable[Row]) -> dict[str, list[ChargeImage]]:
    """The lines by the session whose sends were charged."""
    found: dict[str, list[ChargeImage]] = {}
    for owner, *cells in rows:
        found.setdefault(owner, []).append(ChargeImage(*cells))
    return found


def charge_statements(session_id: str, charges: Sequence[ChargeImage], now: int) -> Iterator[Statement]:
    """The ledgers of a new session, and their lines."""
    for send, of_send in groupby(sorted(charges, key=lambda charge: charge.of_send), key=lambda charge: charge.of_send):
        lines, ledger = list(of_send), ledger_id_of(session_id, send)
        sums = (sum(each.calls for each in lines), sum(each.input_tokens for each in lines), sum(each.output_tokens for each in lines))
        yield Statement(LEDGER, (ledger, session_id, send, *sums, math.fsum(each.cost or 0.0 for each in lines), now, now))
        yield from (Statement(LINE, (ledger, each.charged_session, each.seq, session_id, *each[3:])) for each in lines)
