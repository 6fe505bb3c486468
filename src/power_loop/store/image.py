"""A whole session as one value: what an export reads, and what an import or a fork writes.

Reading is one snapshot without a transaction. What can change (the row, its description, small state, timers) is read
by one statement, which sees one state of the database on every engine; records only ever grow, so those up to the
head that this statement saw are the rest of the same state, whenever they are read. Writing is one batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from power_loop.contracts.codec import from_cells
from power_loop.contracts.records import UserSaid
from power_loop.contracts.store import RecordRow, Row, Statement
from power_loop.kernel.history import History
from power_loop.store.archive_charges import ChargeImage, charge_statements
from power_loop.store.log import APPEND
from power_loop.store.watch import TEXT_KEY

# PostgreSQL types a column of a UNION by its first branch, so that one has no NULL.
PARTS = """SELECT 'session' AS part, s.session_id, i.system_prompt, i.model, i.config, i.metadata, i.kind, i.lifecycle,
 i.parent_session_id, i.spawn_tool_call_id, i.spawn_depth, s.agent, s.status, s.head, s.created_at, s.updated_at, s.first_send_at,
 s.last_send_at FROM {p}sessions s JOIN {p}session_info i ON i.session_id = s.session_id
 WHERE s.session_id IN (:ids) OR i.parent_session_id IN (:ids)
 UNION ALL SELECT 'value', owner, value, NULL, NULL, NULL, state_key, NULL, NULL, NULL, NULL, NULL, NULL, version, created_at, updated_at,
 NULL, NULL FROM {p}state WHERE owner IN (:ids)
 UNION ALL SELECT 'timer', session_id, note, cron, body, NULL, status, tz, NULL, NULL, NULL, NULL, NULL, due_at, created_at, updated_at,
 interval_ms, anchor_at FROM {p}timers WHERE session_id IN (:ids) AND status = 'armed'"""
BLOBS = "SELECT digest, data, media_type, created_at FROM {p}blobs WHERE session_id = ? ORDER BY digest"

CREATE = """INSERT INTO {p}sessions (session_id, head, epoch, agent, send_index, send_seq, fold_seq, fold_through, sends, rounds, llm_calls,
 tool_calls, prompt_tokens, completion_tokens, cost, last_batch, first_send_at, last_send_at, created_at, updated_at)
 VALUES (?, ?, {t}, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
DESCRIBE = """INSERT INTO {p}session_info (session_id, system_prompt, model, config, metadata, kind, lifecycle, parent_session_id,
 spawn_tool_call_id, spawn_depth) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
KEYED = "INSERT INTO {p}send_keys (session_id, send_key, send_index, seq, created_at) VALUES (?, ?, ?, ?, ?)"
VALUE = "INSERT INTO {p}state (owner, state_key, value, version, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?)"
TIMER = """INSERT INTO {p}timers (session_id, status, due_at, anchor_at, note, interval_ms, cron, tz, body, created_at, updated_at)
 VALUES (?, 'armed', ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
BLOB = "INSERT INTO {p}blobs (session_id, digest, data, size, media_type, created_at) VALUES (?, ?, ?, ?, ?, ?)"

# 40 rows of 17 values stay below the 999 parameters that an old SQLite takes in one statement (sqlite.org/limits.html).
ROWS_AT_ONCE = 40

# Of records that no holder of this session wrote; every lease's is later.
NO_EPOCH = 0


class Info(NamedTuple):
    """What describes a session; ``config`` and ``metadata`` are JSON."""

    system_prompt: str | None = None
    model: str | None = None
    config: str | None = None
    metadata: str | None = None
    kind: str | None = None
    lifecycle: str | None = None
    parent_session_id: str | None = None
    spawn_tool_call_id: str | None = None
    spawn_depth: int = 0


class TimerImage(NamedTuple):
    """An armed timer; times in ms."""

    due_at: int
    anchor_at: int
    note: str | None
    interval_ms: int | None
    cron: str | None
    tz: str | None
    body: str | None
    created_at: int


class BlobImage(NamedTuple):
    digest: str
    data: bytes
    media_type: str | None
    created_at: int


class SessionImage(NamedTuple):
    """One session, whole."""

    session_id: str
    info: Info
    rows: Sequence[RecordRow]
    agent: str | None = None
    archived: bool = False
    created_at: int = 0
    first_send_at: int | None = None
    last_send_at: int | None = None
    values: Mapping[str, str] = {}
    """Small state: key → JSON."""
    timers: Sequence[TimerImage] = ()
    blobs: Sequence[BlobImage] = ()
    charges: Sequence[ChargeImage] = ()
    head: int = 0
    """How many records there are; more of them may have been added since."""

    @property
    def sends(self) -> int:
        """How many were begun in its rows."""
        return sends_in(self.rows)


def sends_in(rows: Iterable[RecordRow]) -> int:
    return max((row.send_index for row in rows), default=0)


# --- reading ------------------------------------------------------------------------------------


def parts_statement(ids: Sequence[str]) -> tuple[str, list[str]]:
    """(SQL, parameters) that read all but records and blobs of these sessions, and name their children."""
    marks = ", ".join("?" * len(ids))
    return PARTS.replace(":ids", marks), [*ids] * PARTS.count(":ids")


def images_of(rows: Iterable[Row], ids: Sequence[str]) -> dict[str, SessionImage]:
    """The images that the rows of `parts_statement` make, without their records; those of ``ids`` that exist."""
    found: dict[str, SessionImage] = {}
    values: dict[str, dict[str, str]] = {}
    timers: dict[str, list[TimerImage]] = {}
    for part, owner, *cells in rows:
        text, model, config, _, kind, lifecycle, _, _, _, agent, status, number, created, _, first, last = cells
        if part == "value" and kind == TEXT_KEY:
            continue  # what a model is writing right now belongs to that run
        if part == "value":
            values.setdefault(owner, {})[kind] = text
        elif part == "timer":
            timer = TimerImage(number, last, text, first, model, lifecycle, config, created)
            timers.setdefault(owner, []).append(timer)
        elif owner in ids:
            found[owner] = SessionImage(owner, Info(*cells[:9]), (), agent, bool(status), created, first, last, head=number)
    return {
        owner: image._replace(values=values.get(owner, {}), timers=sorted(timers.get(owner, ()), key=lambda timer: timer.due_at))
        for owner, image in found.items()
    }


def children_in(rows: Iterable[Row]) -> list[str]:
    """The sessions that the rows of `parts_statement` name, children included."""
    return sorted(row[1] for row in rows if row[0] == "session")


# --- writing ------------------------------------------------------------------------------------


def batch_of(images: Sequence[SessionImage], now: int, epoch: int, mark: str, version: int) -> list[Statement]:
    """All of ``images`` as new sessions, in one batch; ``epoch`` as a parameter of ``{t}``, ``mark`` tells it from anybody else's."""
    ordered = sorted(images, key=lambda image: image.session_id)
    batch = [_created(image, now, epoch, mark) for image in ordered]
    for image in ordered:
        batch += charge_statements(image.session_id, image.charges, now)
    for image in ordered:
        batch.append(Statement(DESCRIBE, (image.session_id, *image.info)))
        batch += _records(image)
        batch += [Statement(KEYED, (image.session_id, *key, now)) for key in _keys(image.rows)]
        batch += [Statement(VALUE, (image.session_id, key, value, version, now, now)) for key, value in image.values.items()]
        batch += [Statement(TIMER, (image.session_id, *timer, now)) for timer in image.timers]
        batch += [Statement(BLOB, (image.session_id, b.digest, b.data, len(b.data), b.media_type, b.created_at)) for b in image.blobs]
    return batch


def _created(image: SessionImage, now: int, epoch: int, mark: str) -> Statement:
    # The row says what the records amount to, whatever the one of the original said.
    history = History()
    for row in image.rows:
        history.add(row, from_cells(row.cells))
    numbers = (history.send_index, history.send_seq, history.fold_seq, history.fold_through, *history.tally)
    times = (image.first_send_at, image.last_send_at, now, now)
    return Statement(CREATE, (image.session_id, history.seq, epoch, image.agent, *numbers, mark, *times))


def _records(image: SessionImage) -> Iterator[Statement]:
    head, _, one = APPEND.rpartition("VALUES ")
    for at in range(0, len(image.rows), ROWS_AT_ONCE):
        rows = image.rows[at : at + ROWS_AT_ONCE]
        values: list[Any] = []
        for row in rows:
            values += (image.session_id, row.seq, NO_EPOCH, None, row.send_index, row.round_index, row.created_at, *row.cells)
        yield Statement(f"{head}VALUES {', '.join([one] * len(rows))}", values)


def _keys(rows: Sequence[RecordRow]) -> list[tuple[str, int, int]]:
    """(key, send, seq) of the sends that a caller began under a key."""
    begun: dict[str, tuple[str, int, int]] = {}
    seen = 0
    for row in rows:
        if row.cells.kind == "user_said" and row.send_index != seen:
            seen = row.send_index
            record = from_cells(row.cells)
            if isinstance(record, UserSaid) and record.key is not None:
                begun.setdefault(record.key, (record.key, row.send_index, row.seq))
    return list(begun.values())
