"""The events of a session's records, read again: what a run told when it wrote them, for whoever watches.

A function of the rows alone, so any process at any time tells the same events under the same cursors. Reading the
rows is `watching`'s business.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from power_loop.contracts.codec import from_cells
from power_loop.contracts.events import AgentEvent
from power_loop.contracts.messages import ToolCall
from power_loop.contracts.records import (
    ROUNDS,
    CallCharged,
    Decided,
    ModelReplied,
    Record,
    RoundSkipped,
    SendEnded,
    SendRested,
    ToolParked,
    ToolReturned,
    ToolStarted,
)
from power_loop.contracts.store import Head, RecordRow
from power_loop.kernel.state import IDLE, State, apply
from power_loop.runtime.outcome import result_of
from power_loop.runtime.session import Session
from power_loop.runtime.told import INTERRUPTED, Telling, Written, event_of, told_of

Place = tuple[int, int]
"""(seq of a record, which of its events); `END` stands behind all of them."""

END = 1 << 62

# What left a send as an exception has no result: its caller got the exception.
WITHOUT_RESULT = ("failed", INTERRUPTED)


def place_of(cursor: int | str) -> Place:
    """The place that a cursor names. Raises `ValueError` for what is none."""
    seq, dot, n = str(cursor).partition(".")
    if type(cursor) not in (int, str) or not (seq.isdecimal() and (n.isdecimal() or not dot)):
        raise ValueError(f"{cursor!r} is no cursor; take event.cursor of an event, or the seq of a record")
    return int(seq), int(n) if dot else END


def cursor_of(place: Place) -> str:
    seq, n = place
    return str(seq) if n == END else f"{seq}.{n}"


class Retelling:
    """One reader's way through the rows of a session: row after row, each given once."""

    def __init__(self, session_id: str, after: Place, output_in: Callable[[str, Mapping[str, Any]], Any] | None = None) -> None:
        """``output_in(text, stored)``: the value of an answer by the form that its send was begun with."""
        self._session_id, self._output_in = session_id, output_in
        self.depth: int = 0
        """How many sessions stand above this one."""
        self.at = after
        """The last event that the reader had."""
        self.through: int = 0
        """seq of the last row that was given."""
        self._state = IDLE
        self._last: RecordRow | None = None
        self._told = 0
        """How many events the last row has."""
        self._rounds: set[int | None] = set()
        """The rounds of this run so far."""

    def events(self, row: RecordRow) -> Iterator[tuple[Place, AgentEvent]]:
        """What the reader has not had of ``row``, and of the row before where only this one shows it."""
        last = self._last
        if last is not None and row.epoch != last.epoch:
            self._rounds = set()
            # Nobody was left to write that the run had ended: it shows in the next one's epoch, and belongs to the last row.
            if not (self._state.idle or self._state.status):
                yield from self._new(last, self._told, "session_ended", {"reason": INTERRUPTED})
        tellings = self._read(row)
        self.through, self._last, self._told = row.seq, row, len(tellings)
        for n, telling in enumerate(tellings):
            if telling is not None:
                yield from self._new(row, n, *telling)

    def _read(self, row: RecordRow) -> list[Telling | None]:
        record = from_cells(row.cells)
        call, asked = _call_of(self._state, record), self._state.question(record.call_id) if isinstance(record, Decided) else None
        self._state = apply(self._state, record)
        if _is_of_a_round(record):
            self._rounds.add(row.round_index)
        max_rounds = (self._state.overrides or {}).get("max_rounds") or 0
        tellings = list(told_of(Written(record, row, call, asked), max_rounds, row.created_at))
        if tellings and isinstance(record, (SendEnded, SendRested)) and record.status not in WITHOUT_RESULT:
            tellings.append(("result", {"result": self._result(row)}))
        return [_without_content(telling) for telling in tellings] if _is_pruned(row) else tellings

    def _result(self, row: RecordRow) -> Any:
        session = Session(Head(self._session_id, row.seq, send_index=row.send_index))
        session.state = self._state
        result = result_of(session, rounds=len(self._rounds))
        stored: Mapping[str, Any] | None = (self._state.overrides or {}).get("output")
        if stored is not None and self._output_in is not None and result.status == "completed":
            result.output = self._output_in(self._state.text, stored)
        return result

    def _new(self, row: RecordRow, n: int, type: str, fields: dict[str, Any]) -> Iterator[tuple[Place, AgentEvent]]:
        place = row.seq, n
        if place > self.at:
            yield place, event_of(
                type, fields, session_id=self._session_id, round_index=row.round_index, send_index=row.send_index, depth=self.depth,
                record_seq=row.seq, cursor=cursor_of(place), ts=row.created_at / 1000,
            )  # fmt: skip


def _is_pruned(row: RecordRow) -> bool:
    """What it said is gone; its place, kind and numbers stay."""
    body = row.cells.body
    return body is not None and '"pruned":' in body and "pruned" in json.loads(body)


def _without_content(telling: Telling | None) -> Telling | None:
    """None instead of the empty text that stands in a pruned row, so that nobody takes it for what was said."""
    if telling is None:
        return None
    type, fields = telling
    return type, {name: None if name in ("content", "tool_input") else value for name, value in fields.items()}


def _call_of(state: State, record: Record) -> ToolCall | None:
    """The open call that ``record`` answers, or parks."""
    if not isinstance(record, (ToolReturned, ToolParked)):
        return None
    return state.call(record.call_id)


def _is_of_a_round(record: Record) -> bool:
    """It says that this run was in the round of its row."""
    match record:
        case ModelReplied(purpose=purpose):
            return purpose != "limit_summary"
        case CallCharged(purpose=purpose):
            return purpose in ROUNDS
        case ToolReturned(ran=ran):
            return ran
        case _:
            return isinstance(record, (RoundSkipped, ToolStarted, ToolParked))
