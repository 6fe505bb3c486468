"""Ledgers: what a send and its sub-agents have spent, what their calls under way have reserved, and every charge as a line.

Changes go with the batch of the session that charges, after its fence: see `entries_of`. What is let through is guarded by
the ledger's ``version``, so that of two calls that saw the same room one looks again. Rows are touched in one order
everywhere (sessions, ledgers from the top of the tree down, then what is keyed by session), so that batches do not
wait for each other in a circle.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from power_loop.contracts.codec import dumps
from power_loop.contracts.ledger import Change, Charge, ChargeRow, Entries, Ledger, Reservation, Sums, ledger_id_of
from power_loop.contracts.store import Append, Row, Statement
from power_loop.contracts.text import MAX_KEY_CHARS, check_is_text
from power_loop.contracts.usage import NO_USAGE, CallUsage
from power_loop.store.part import Part

# In one statement, so that it is one sight: a call that is settled between two would count twice, or not at all. What a
# session has reserved that nobody holds does not count: whoever takes it over will charge it.
LEDGERS = """SELECT l.ledger_id, l.session_id, l.send_index, l.limits, l.version, l.requests, l.tool_calls, l.input_tokens,
 l.output_tokens, l.cost, COUNT(s.session_id), COALESCE(SUM(CASE WHEN s.session_id IS NULL THEN 0 ELSE r.input_tokens END), 0),
 COALESCE(SUM(CASE WHEN s.session_id IS NULL THEN 0 ELSE r.output_tokens END), 0),
 COALESCE(SUM(CASE WHEN s.session_id IS NULL THEN 0 ELSE r.cost END), 0)
 FROM {p}ledgers l LEFT JOIN {p}reservations r ON r.ledger_id = l.ledger_id AND r.session_id <> ?
 LEFT JOIN {p}sessions s ON s.session_id = r.session_id AND s.lease_until > {t} WHERE l.ledger_id IN (:ids)
 GROUP BY l.ledger_id, l.session_id, l.send_index, l.limits, l.version, l.requests, l.tool_calls, l.input_tokens, l.output_tokens, l.cost"""
UNDER_WAY = """SELECT s.session_id, s.send_index, i.parent_session_id,
 (SELECT r.kind FROM {p}records r WHERE r.session_id = s.session_id AND r.seq = s.head)
 FROM {p}sessions s JOIN {p}session_info i ON i.session_id = s.session_id WHERE s.session_id = ?"""
RESERVED = """SELECT call_key, ledger_id, input_tokens, output_tokens, cost FROM {p}reservations WHERE session_id = ?
 ORDER BY call_key"""
LINES = """SELECT charged_session, send_index, seq, purpose, model, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
 reasoning_tokens, calls, cost, estimated FROM {p}charges WHERE ledger_id = ? ORDER BY created_at, charged_session, seq"""
BELOW = """SELECT SUM(input_tokens), SUM(output_tokens), SUM(cache_read_tokens), SUM(cache_write_tokens), SUM(reasoning_tokens), SUM(calls),
 SUM(cost), MAX(estimated) FROM {p}charges WHERE """
OF_LEDGER, OF_SESSION = "ledger_id = ?", "session_id = ?"

# Whoever drives the session learns with its next batch that others charge its send now.
WAKE = "UPDATE {p}sessions SET wake_no = wake_no + 1 WHERE session_id = ?"
OPEN = """INSERT INTO {p}ledgers (ledger_id, session_id, send_index, limits, requests, tool_calls, input_tokens, output_tokens, cost,
 version, created_at, updated_at) VALUES (?, ?, ?, ?, 0, 0, 0, 0, 0, 0, ?, ?)"""
CHANGE = """UPDATE {p}ledgers SET requests = requests + ?, tool_calls = tool_calls + ?, input_tokens = input_tokens + ?,
 output_tokens = output_tokens + ?, cost = cost + ?, updated_at = ? WHERE ledger_id = ?"""
LET_THROUGH = CHANGE.replace("updated_at = ?", "version = version + 1, updated_at = ?") + " AND version = ?"
LIMIT = "UPDATE {p}ledgers SET limits = ?, updated_at = ? WHERE ledger_id = ?"
LINE = """INSERT INTO {p}charges (ledger_id, charged_session, seq, session_id, send_index, purpose, model, input_tokens, output_tokens,
 cache_read_tokens, cache_write_tokens, reasoning_tokens, calls, cost, estimated, created_at)
 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
RESERVE = """INSERT INTO {p}reservations (session_id, call_key, ledger_id, epoch, input_tokens, output_tokens, cost, created_at)
 VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
SETTLE = "DELETE FROM {p}reservations WHERE session_id = ? AND call_key = ?"
SETTLE_ALL = "DELETE FROM {p}reservations WHERE session_id = ?"

# How a session's last record reads when its send is over.
OVER = "send_ended"

RENAME = "UPDATE {p}charges SET charged_session = ? WHERE ledger_id = ? AND charged_session = ?"


class Ledgers(Part):
    """Reading ledgers; what changes them goes with a session's batch."""

    async def ledgers(self, ledger_ids: Sequence[str], *, asking: str = "") -> list[Ledger]:
        """Those of ``ledger_ids`` that exist, in that order. What the session ``asking`` reserved is left out."""
        if not ledger_ids:
            return []
        sql = self._sql(LEDGERS).replace(":ids", ", ".join("?" * len(ledger_ids)))
        rows = await self._database.read(sql, (asking, self._now(), *ledger_ids))
        return sorted(map(_ledger, rows), key=lambda ledger: ledger_ids.index(ledger.ledger_id))

    async def sends_above(self, session_id: str) -> list[tuple[str, int]]:
        """(session, send) of every ancestor whose send is under way, the topmost first.

        A parent at rest ends the chain: then nobody waits for this session, and it stands for itself.
        """
        check_is_text("session_id", session_id)
        chain: list[tuple[str, int]] = []
        rows = await self._database.read(self._sql(UNDER_WAY), (session_id,))
        while rows and rows[0][2] is not None:
            rows = await self._database.read(self._sql(UNDER_WAY), (rows[0][2],))
            if not rows or rows[0][3] in (None, OVER):
                break
            chain.append((rows[0][0], rows[0][1]))
        return chain[::-1]

    async def leaving(self, gone: Sequence[str]) -> list[Statement]:
        """Of ``gone``, the topmost first: what they charged to those above stays, under names that no later session of theirs can have."""
        ledgers, mark = [ledger_id_of(*sender) for sender in await self.sends_above(gone[0])], self._ids.token(4)
        names = {one: f"{one[: MAX_KEY_CHARS - 1 - len(mark)]}#{mark}" for one in gone}
        return [Statement(self._sql(RENAME), (names[one], ledger, one)) for ledger in ledgers for one in gone]

    async def reservations(self, session_id: str) -> list[Reservation]:
        """What the session has reserved, or left reserved when its holder died."""
        rows = await self._database.read(self._sql(RESERVED), (session_id,))
        return [Reservation(key, ledger, Sums(1, 0, sent, got, cost)) for key, ledger, sent, got, cost in rows]

    async def charges(self, ledger_id: str) -> list[ChargeRow]:
        """What other sessions charged to the ledger, call by call, oldest first."""
        rows = await self._database.read(self._sql(LINES), (ledger_id,))
        return [_charge(row) for row in rows]

    async def charged_below(self, ledger_id: str) -> CallUsage:
        """What other sessions charged to the ledger, added up."""
        return await self._below(OF_LEDGER, ledger_id)

    async def charged_to(self, session_id: str) -> CallUsage:
        """What other sessions charged to the sends of this one, over its whole life."""
        return await self._below(OF_SESSION, session_id)

    async def _below(self, which: str, value: str) -> CallUsage:
        row = (await self._database.read(self._sql(BELOW + which), (value,)))[0]
        return _usage(row) if row[5] else NO_USAGE


# --- what goes with a batch -----------------------------------------------------------------------


def woken_by(entries: Entries, batch: Append, sql: Callable[[str], str]) -> Iterator[tuple[str, Statement]]:
    """The rows of other sessions that ``entries`` touch: (session, what is changed there)."""
    for ledger in entries.opened:
        if ledger.session_id != batch.seen.session_id:
            yield ledger.session_id, Statement(sql(WAKE), (ledger.session_id,), 1)


def entries_of(entries: Entries, batch: Append, sql: Callable[[str], str]) -> Iterator[Statement]:
    """What ``entries`` write, ledgers before what is keyed by session."""
    for each in _written(entries, batch):
        yield each._replace(sql=sql(each.sql))


def _written(entries: Entries, batch: Append) -> Iterator[Statement]:
    session_id, now = batch.seen.session_id, batch.now
    for ledger in entries.opened:
        limits = dumps(dict(ledger.limits))
        yield Statement(OPEN, (ledger.ledger_id, ledger.session_id, ledger.send_index, limits, now, now))
    for change in entries.changed:
        yield from _changes(change, now)
    if entries.ends:
        yield Statement(SETTLE_ALL, (session_id,))
    for key in () if entries.ends else entries.settled:
        yield Statement(SETTLE, (session_id, key))
    for key, ledger_id, amount in entries.reserved:
        sums = (amount.input_tokens, amount.output_tokens, amount.cost)
        yield Statement(RESERVE, (session_id, key, ledger_id, batch.next.epoch, *sums, now))
    for charge in entries.charged:
        yield Statement(LINE, _line(session_id, charge, now))


def _changes(change: Change, now: int) -> Iterator[Statement]:
    if change.limits is not None:
        yield Statement(LIMIT, (dumps(dict(change.limits)), now, change.ledger_id), 1)
    if change.version is not None:
        yield Statement(LET_THROUGH, (*change.spent, now, change.ledger_id, change.version), 1)
    elif any(change.spent):
        yield Statement(CHANGE, (*change.spent, now, change.ledger_id), 1)


def _line(session_id: str, charge: Charge, now: int) -> tuple[Any, ...]:
    ledger_id, owner, send_index, seq, purpose, model, used = charge
    return (
        ledger_id, session_id, seq, owner, send_index, purpose, model, used.prompt, used.completion, used.cache_read, used.cache_write,
        used.reasoning, used.calls, used.cost, int(used.estimated), now,
    )  # fmt: skip


def _ledger(row: Row) -> Ledger:
    ledger_id, session_id, send_index, limits, version, *numbers = row
    requests, tool_calls, read, written, spent_cost, calls, sent, got, cost = numbers
    spent = Sums(requests, tool_calls, read, written, float(spent_cost))
    kept: Mapping[str, Any] = json.loads(limits or "{}")
    return Ledger(ledger_id, session_id, send_index, kept, version, spent, Sums(int(calls), 0, int(sent), int(got), float(cost)))


def _charge(row: Row) -> ChargeRow:
    session_id, send_index, seq, purpose, model, *numbers = row
    return ChargeRow(session_id, send_index, seq, purpose, model, _usage(numbers))


def _usage(numbers: Sequence[Any]) -> CallUsage:
    """Sums come as decimals from some servers."""
    prompt, completion, cache_read, cache_write, reasoning, calls, cost, estimated = numbers
    tokens = (int(prompt), int(completion), int(cache_read), int(cache_write), int(reasoning))
    return CallUsage(*tokens, calls=int(calls), cost=None if cost is None else float(cost), estimated=bool(estimated))
