"""The window of projection mode: finished sends as their representation shows them, the last one word for word.

A send is shown by what was recorded of it when it ended; where no such record is there, word for word.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, cast

from power_loop.context.pairing import pairing_problem
from power_loop.context.represent import COMPACT, Representation, rendered
from power_loop.context.window import Border, Window, summary_of
from power_loop.contracts.kept_rows import ProjectMessageRow
from power_loop.contracts.messages import Message, estimate_text_tokens, estimate_tokens, is_content
from power_loop.contracts.reading import in_call_order, message_row
from power_loop.contracts.rows import MessageRow
from power_loop.contracts.store import Cells, RecordRow

SEND_PROJECTED = "send_projected"
SEND_INDEX = attrgetter("send_index")


def window_for(representation: Representation | None, session_id: str) -> Window:
    """An empty window; None shows everything word for word."""
    return Window() if representation is None else ProjectedWindow(representation, session_id)


class ProjectedWindow(Window):
    """Grown row by row like every window; a send changes its shape when the next one begins."""

    __slots__ = ("_bare", "_pending", "_placed", "_representation", "_session_id", "own_rows")

    messages: list[Message]
    tokens: int

    projects = True

    def __init__(self, representation: Representation, session_id: str) -> None:
        super().__init__()
        self._representation, self._session_id = representation, session_id
        self._pending: dict[int, RecordRow] = {}
        """Send → how it is shown once it is not the last one."""
        self._placed: set[int] = set()
        self._bare: set[int] = set()
        """Finished sends that are shown word for word, for lack of a projection."""
        self.own_rows: list[RecordRow] = []
        """The messages of the last send, as stored: it is projected from these."""

    def add(self, row: RecordRow) -> None:
        if row.cells.kind == SEND_PROJECTED:
            if row.cells.name in (None, self._representation.kind):
                self._project(row)
            return
        super().add(row)
        if row.cells.role is not None:
            self.own_rows.append(row)

    def unprojected(self, *, idle: bool) -> list[int]:
        """Sends that will be shown word for word, for lack of a projection; the last one too where it is over (``idle``)."""
        there = {border.send_index for border in self.borders}
        last = self.borders[-1].send_index if self.borders and idle else 0
        own = {last} if last and last not in self._pending and last not in self._placed else set[int]()
        return sorted(self._bare & there | own)

    def _begin_send(self, row: RecordRow) -> None:
        if self.borders:
            last = self.borders[-1].send_index
            if (projection := self._pending.pop(last, None)) is not None:
                self._place(projection, json.loads(projection.cells.body or "{}"))
            elif last not in self._placed:
                self._bare.add(last)
        self.own_rows = []
        super()._begin_send(row)

    def _fold(self, cells: Cells) -> None:
        super()._fold(cells)
        there = {border.send_index for border in self.borders}
        self._placed &= there
        self._bare &= there

    def _project(self, row: RecordRow) -> None:
        body = json.loads(row.cells.body or "{}")
        send, last = body["send"], self.borders[-1].send_index if self.borders else 0
        if send == last and send not in self._placed:
            self._pending[send] = row
        else:
            self._place(row, body)

    def _place(self, row: RecordRow, body: Mapping[str, Any]) -> None:
        """Show the send of ``row`` so, wherever it stands."""
        send, shown = body["send"], self._rendered(body, row)
        at = bisect_left(self.borders, send, key=SEND_INDEX)
        if at == len(self.borders):
            self._place_last(Border(send, body.get("lo", 0), len(self.messages)), shown)
        else:
            self._place_at(at, send, body.get("lo", 0), shown)
        self._counted, self._scale = None, body.get("scale", 0.0)
        self._placed.add(send)
        self._bare.discard(send)

    def _place_last(self, border: Border, shown: list[Message]) -> None:
        """Behind all that is shown: what a cold window does for every send but the last."""
        self.borders.append(border)
        for message in shown:
            self._show(message)
        self._calls.update(calls_in(shown))
        self._move([], border.at, len(shown))

    def _place_at(self, at: int, send: int, lo: int, shown: list[Message]) -> None:
        """In place of what is shown of the send, or before the one that follows it."""
        if self.borders[at].send_index != send:
            self.borders.insert(at, Border(send, lo, self.borders[at].at))
        start = self.borders[at].at
        end = self.borders[at + 1].at if at + 1 < len(self.borders) else len(self.messages)
        gone, moved = self.messages[start:end], len(shown) - (end - start)
        self.messages = [*self.messages[:start], *shown, *self.messages[end:]]
        self.tokens += estimate_tokens(shown) - estimate_tokens(gone)
        if moved:
            self.borders[at + 1 :] = [border._replace(at=border.at + moved) for border in self.borders[at + 1 :]]
        self._move(self.rounds if at + 1 < len(self.borders) else [], end, moved)
        self._calls = calls_in(self.messages)
        self._digest = None

    def _rendered(self, body: Mapping[str, Any], row: RecordRow) -> list[Message]:
        rows = [self._row(body, each, row.created_at) for each in body["rows"]]
        return spelled(self._representation, rows)

    def _noted(self, cells: Cells, body: Mapping[str, Any]) -> list[Message]:
        through, text = body.get("send", 0), summary_of(cells)
        content = {"summary": text, "rounds": body["rounds"]} if body.get("rounds") else text
        row = ProjectMessageRow(
            self._session_id, through, COMPACT, content, text, 0, body["through"], 1, through, self._representation.version,
            estimate_text_tokens(text), 0,
        )  # fmt: skip
        return spelled(self._representation, [row])

    def _row(self, body: Mapping[str, Any], each: Mapping[str, Any], created_at: int) -> ProjectMessageRow:
        text = each.get("text") or ""
        return ProjectMessageRow(
            self._session_id, body["send"], each["kind"], each.get("content"), text, body.get("lo", 0), body.get("hi", 0), None, None,
            body["version"], estimate_text_tokens(text), created_at,
        )  # fmt: skip


def calls_in(messages: Sequence[Message]) -> set[str]:
    return {call["id"] for message in messages if "tool_calls" in message for call in message["tool_calls"]}


def spelled(representation: Representation, rows: list[ProjectMessageRow]) -> list[Message]:
    """``rows`` as their representation renders them; by their text alone where it fails, or gives what no request can take."""
    try:
        messages: Any = representation.render(rows)
        if sound(messages):
            return list(messages)
    except Exception:  # the representation's own code
        return [rendered(row) for row in rows]
    return [rendered(row) for row in rows]


def sound(messages: Any) -> bool:
    """These can stand where finished sends stand: some messages, of known roles, with every call answered."""
    if not isinstance(messages, Sequence) or not messages:
        return False
    if not all(isinstance(message, dict) for message in cast("list[Any]", messages)):
        return False
    given = cast("list[Message]", messages)
    if not all(message.get("role") in ("user", "assistant", "tool") for message in given):
        return False
    return all(is_content(message.get("content")) for message in given) and pairing_problem(given) is None


def message_rows(session_id: str, rows: Sequence[RecordRow]) -> list[MessageRow]:
    """Rows of the log as the messages that a host reads, results in the order of their calls."""
    return [message_row(session_id, row) for row in in_call_order(rows)]
