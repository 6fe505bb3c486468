"""Messages that others kept, as records of ours: made sound at the door, so that nobody behind it has to repair.

Pure. A call without a result gets one that says so, a result without a call is left out, and a send ends where the
next one begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from power_loop.contracts.messages import MISSING, Content, ToolCall, text_of
from power_loop.contracts.records import ModelReplied, Record, SendEnded, ToolReturned, ToolStarted, UserSaid
from power_loop.contracts.store import RecordRow
from power_loop.kernel.history import History

# Under this key of a session's small state stands what was put right when it was imported.
REPAIRS = "import.repairs"

EMPTY = "[an empty message]"
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
        self.history: History = History()
        self.rows: list[RecordRow] = []
        self.repairs: dict[str, int] = {}
        """What did not fit together and was put right, and how often."""
        self._send: int | None = None
        self._at = 0
        self._known: set[str] = set()
        self._renamed: dict[str, str] = {}
        """Of the open round: the id of a call there → its id here."""

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
        content = message.content if says_something(message.content) else self._repaired("an empty word has a text that says so", EMPTY)
        self.note(UserSaid(content, message.name))

    def _assistant(self, message: OutsideMessage) -> None:
        self._answer_the_rest()
        calls = self._with_ids_of_their_own(message.calls)
        if not calls and not text_of(message.content).strip():
            self._repaired("an empty reply is not shown")
        if self.history.state.idle:
            self.note(UserSaid(self._repaired("a reply that nothing led to has a beginning", NO_BEGINNING)))
        self.note(ModelReplied(text_of(message.content), calls))

    def _with_ids_of_their_own(self, calls: tuple[ToolCall, ...]) -> tuple[ToolCall, ...]:
        """The calls under ids that no other call of the session has: providers take each id once."""
        self._renamed = {}
        own = tuple(distinct(calls))
        for _ in range(len(calls) - len(own)):
            self._repaired("a second call of one id in a reply was left out")
        for call in own:
            number, name = 2, call.id
            while name in self._known or name in self._renamed.values():
                name, number = f"{call.id}_{number}", number + 1
            if name != call.id:
                self._repaired("a call whose id an earlier one has got another id")
            self._renamed[call.id] = name
        self._known.update(self._renamed.values())
        return tuple(call if call.id == self._renamed[call.id] else replace(call, id=self._renamed[call.id]) for call in own)

    def _tool(self, message: OutsideMessage) -> int | None:
        call_id = self._renamed.get(message.call_id or "")
        call = next((call for call in self.history.state.open_calls if call.id == call_id), None)
        if call is None:
            self._repaired("a result without a call was left out")
            return None
        self.note(ToolReturned(call.id, message.content, name=message.name or call.name))
        return self.history.seq

    def _answer_the_rest(self) -> None:
        for call in self.history.state.open_calls:
            self._repaired("a call without a result was answered")
            self.note(ToolReturned(call.id, MISSING, "unknown", call.name, ran=False))

    def _repaired(self, what: str, text: str = "") -> str:
        self.repairs[what] = self.repairs.get(what, 0) + 1
        return text


def says_something(content: Content) -> bool:
    """There is something in it that a provider takes as a message."""
    return bool(content.strip()) if isinstance(content, str) else any(b.get("type") != "text" or b.get("text") for b in content)


def distinct(calls: tuple[ToolCall, ...]) -> Iterator[ToolCall]:
    """The calls with different ids: of two with the same one only the first can be answered."""
    seen: set[str] = set()
    for call in calls:
        if call.id not in seen:
            seen.add(call.id)
            yield call
