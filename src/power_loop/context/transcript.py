"""Rows into messages, in logical order.

Results are stored as they land and shown in the order of their calls: those of an open round wait aside until
the round is complete. Rows just written and rows just read pass through the same `add`, so a warm session and
a cold one show the same bytes.
"""

from __future__ import annotations

import json
from typing import Any

from power_loop.contracts.codec import content_of
from power_loop.contracts.messages import MISSING, Message
from power_loop.contracts.store import Cells, RecordRow


class Transcript:
    """The messages of a session, grown row by row."""

    __slots__ = ("_asked", "_results", "mended", "messages")

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.mended: list[str] = []
        """What does not fit together as it is stored, and is shown so that it does. Nothing that a run of ours wrote."""
        self._asked: dict[str, None] = {}
        """The ids of the calls of the open round, in order."""
        self._results: dict[str, Message] = {}

    def add(self, row: RecordRow) -> None:
        """Show one more row; rows that are no message show nothing."""
        cells = row.cells
        if self._asked and cells.role in ("user", "assistant"):
            self._close_the_round()
        if cells.role == "tool":
            self._answer(cells)
        elif cells.tool_calls is not None:
            self._ask(spoken(cells))
        elif cells.role is not None:
            self._show(spoken(cells))

    def with_open_round(self) -> list[Message]:
        """All messages, with the results that have landed in a round that is still open."""
        return self.messages + [self._results[call] for call in self._asked if call in self._results]

    def _ask(self, message: Message) -> None:
        """A message with calls: their results belong behind it."""
        self._show(message)
        self._asked = dict.fromkeys(call["id"] for call in message["tool_calls"])
        self._results = {}
        if len(self._asked) < len(message["tool_calls"]):
            self._leave_out_twins(message)

    def _answer(self, cells: Cells) -> None:
        if cells.call_id not in self._asked or cells.call_id in self._results:
            self.mended.append(f"the result of {cells.call_id!r} stands where no call of that id waits; it is not shown")
            return
        self._results[cells.call_id] = self._answered(cells)
        if len(self._results) == len(self._asked):
            for call in self._asked:
                self._show(self._results[call])
            self._asked, self._results = {}, {}

    def _close_the_round(self) -> None:
        """Something else is said before all calls have a result."""
        for call in self._asked:
            if call not in self._results:
                self.mended.append(f"the call {call!r} has no result; one is shown that says so")
            self._show(self._results.get(call) or {"role": "tool", "tool_call_id": call, "content": MISSING})
        self._asked, self._results = {}, {}

    def _leave_out_twins(self, message: Message) -> None:
        """Of calls that share an id only the first can be answered."""
        first = {call["id"]: call for call in reversed(message["tool_calls"])}
        message["tool_calls"] = [call for call in message["tool_calls"] if first[call["id"]] is call]
        self.mended.append(f"calls of a reply share an id of {', '.join(self._asked)}; the first of each is shown")

    def _show(self, message: Message) -> None:
        self.messages.append(message)

    def _answered(self, cells: Cells) -> Message:
        return answered(cells)


def spoken(cells: Cells) -> Message:
    """The message of a user or assistant row."""
    message: dict[str, Any] = {"role": cells.role, "content": content_of(cells.content, cells.escaped)}
    if cells.name is not None:
        message["name"] = cells.name
    if cells.tool_calls is not None:
        message["tool_calls"] = json.loads(cells.tool_calls)
    return message


def answered(cells: Cells) -> Message:
    """The message of a tool row."""
    message: dict[str, Any] = {"role": "tool", "tool_call_id": cells.call_id, "content": content_of(cells.content, cells.escaped)}
    if cells.name is not None:
        message["name"] = cells.name
    return message
