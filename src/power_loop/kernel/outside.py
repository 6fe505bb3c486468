"""Messages that others kept, as records of ours: made sound at the door, so that nobody behind it has to repair.

Pure. A call without a result gets one that says so, a result without a call is left out, and a send ends where the
next one begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from power_loop.contracts.messages import Content, ToolCall, text_of
from power_loop.contracts.records import ModelReplied, Record, SendEnded, ToolReturned, ToolStarted, UserSaid
from power_loop.contracts.store import RecordRow
from power_loop.kernel.history import History

MISSING = "[tool result missing]"
NO_BEGINNING = "[the beginning of this conversation is not kept]"


class OutsideMessage(NamedTuple):
    """One message as somebody else stored it."""

    role: str
    content: Content
    name: str | None = None
    calls: tuple[ToolCall, ...] = ()
    call_id: str | None = None
    send_index: int | None = None
    """Theirs; words of the same send stay in one send. None: every user's word begins one."""
    created_at: int = 0


class Arrivals:
    """A history of ours, grown from messages of others."""

    def __init__(self) -> None:
        self.history = History()
        self.rows: list[RecordRow] = []
        self._send: int | None = None
        self._at = 0

    def hear(self, message: OutsideMessage) -> int | None:
        """The seq that ``message`` has now; None where it is left out."""
        self._at = message.created_at
        match message.role:
            case "user":
                self._user(message)
            case "assistant":
                self._assistant(message)
            case "tool":
                return self._tool(message)
            case _:
                return None
        return self.history.seq

    def note(self, record: Record) -> None:
        """Go on with a record of ours."""
        row = self.history.numbered(record)._replace(created_at=self._at)
        self.rows.append(row)
        self.history.add(row, record)

    def end(self) -> None:
        """Nothing more comes. Calls that still wait may have begun where they were asked for, so nobody runs them again unasked."""
        state = self.history.state
        if state.answered and not state.idle:
            self.note(SendEnded("completed"))
        for call in state.open_calls:
            self.note(ToolStarted(call.id))

    def _user(self, message: OutsideMessage) -> None:
        self._answer_the_rest()
        goes_on = message.send_index is not None and message.send_index == self._send
        if not self.history.state.idle and not goes_on:
            self.note(SendEnded("completed" if self.history.state.answered else "interrupted"))
        self._send = message.send_index
        self.note(UserSaid(message.content, message.name))

    def _assistant(self, message: OutsideMessage) -> None:
        self._answer_the_rest()
        if self.history.state.idle:
            self.note(UserSaid(NO_BEGINNING))
        self.note(ModelReplied(text_of(message.content), tuple(distinct(message.calls))))

    def _tool(self, message: OutsideMessage) -> int | None:
        call = next((call for call in self.history.state.open_calls if call.id == message.call_id), None)
        if call is None:
            return None
        self.note(ToolReturned(call.id, message.content, name=message.name or call.name))
        return self.history.seq

    def _answer_the_rest(self) -> None:
        for call in self.history.state.open_calls:
            self.note(ToolReturned(call.id, MISSING, "unknown", call.name, ran=False))


def distinct(calls: tuple[ToolCall, ...]) -> Iterator[ToolCall]:
    """The calls with different ids: of two with the same one only the first can be answered."""
    seen: set[str] = set()
    for call in calls:
        if call.id not in seen:
            seen.add(call.id)
            yield call
