"""What the model sees: the transcript seen through the latest fold.

Append-only until a fold, so that the bytes of one request begin the next one. What only reports an ending is
left out; what a provider wants back word for word (signed thinking) is shown while its send is under way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

from power_loop.context.transcript import Transcript
from power_loop.contracts.digest import RequestDigest
from power_loop.contracts.messages import Message, estimate_message_tokens, estimate_tokens, text_of
from power_loop.contracts.store import Cells, RecordRow

SUMMARY_NAME = "compact_note"


class Border(NamedTuple):
    """Where a send begins: a fold may cut there."""

    send_index: int
    seq: int
    at: int
    """Position of its first message."""


class Window(Transcript):
    """The messages of the next request. Holds no system prompt and nothing ephemeral."""

    __slots__ = ("_calls", "_digest", "_digested", "_grown", "_private", "_summary_at", "borders", "note", "tokens")

    def __init__(self) -> None:
        super().__init__()
        self.borders: list[Border] = []
        self.note: Message | None = None
        self.tokens = 0
        """Roughly, of all messages."""
        self._grown = 0
        self._calls: set[str] = set()
        self._private = False
        """The send under way holds blocks that later sends do not show."""
        self._summary_at: int | None = None
        self._digest: RequestDigest | None = None
        self._digested = 0

    def add(self, row: RecordRow) -> None:
        cells = row.cells
        if cells.role is None:
            self._mark(cells)
            return
        if cells.role == "user" and (not self.borders or self.borders[-1].send_index != row.send_index):
            self._begin_send(row)
        if cells.name != "degraded" or cells.role != "assistant":
            super().add(row)

    def showing(self, messages: list[Message]) -> Window:
        """A window of its own with ``messages`` instead; what is added later goes on from there."""
        other = Window()
        other.messages, other.tokens = messages, estimate_tokens(messages)
        # All of them stand for the send under way: nothing in there is a place to cut.
        other.borders = [border._replace(at=0) for border in self.borders[-1:]]
        return other

    def snapshot(self, tail: Sequence[Message] = ()) -> Callable[[], list[Message]]:
        """How to make the list of all messages until now, with ``tail`` behind: now or later, it is the same.

        ``messages`` only ever grows; whatever else happens to it makes a new list.
        """
        messages, known = self.messages, len(self.messages)
        return lambda: [*messages[:known], *tail]

    def growth(self) -> int:
        """How many tokens were added since the last fold, or since the beginning."""
        return self.tokens - self._grown

    def knows_call(self, call_id: str) -> bool:
        """A call of this id was asked for since the last fold."""
        return call_id in self._calls

    def digest(self) -> RequestDigest:
        """A digest over all messages, ready to be continued; each message is hashed once."""
        chain = self._digest
        if chain is None:
            chain, self._digested = RequestDigest(), 0
        for message in self.messages[self._digested :]:
            chain.message(message)
        self._digest, self._digested = chain, len(self.messages)
        return chain.copy()

    def _begin_send(self, row: RecordRow) -> None:
        if self._private:
            self._hide_blocks()
        self._summary_at = None
        self.borders.append(Border(row.send_index, row.seq, len(self.messages)))

    def _hide_blocks(self) -> None:
        """Their send is over. The messages are made anew, since requests that were sent hold the old ones."""
        at = self.borders[-1].at if self.borders else 0
        bare = [{key: message[key] for key in message if key != "provider_blocks"} for message in self.messages[at:]]
        self.messages = self.messages[:at] + bare
        self._private, self._digest = False, None

    def _say(self, message: Message, cells: Cells) -> None:
        if cells.role == "assistant":
            if cells.name is not None:
                del message["name"]
            if cells.tool_calls is not None:
                self._calls.update(call["id"] for call in message["tool_calls"])
            elif not text_of(message["content"]).strip():
                return
            if cells.name == "limit_summary":
                self._summary_at = len(self.messages)
            if cells.body is not None and '"blocks":' in cells.body:
                self._keep_blocks(message, cells.body)
        super()._say(message, cells)

    def _show(self, message: Message) -> None:
        self.messages.append(message)
        self.tokens += estimate_message_tokens(message)

    def _answered(self, cells: Cells) -> Message:
        message = super()._answered(cells)
        if cells.body is not None and json.loads(cells.body).get("outcome") == "failed":
            message["is_error"] = True
        return message

    def _keep_blocks(self, message: Message, body: str) -> None:
        if (blocks := json.loads(body).get("blocks")) is not None:
            message["provider_blocks"], self._private = blocks, True

    def _mark(self, cells: Cells) -> None:
        if cells.kind == "context_folded":
            self._fold(cells)
        elif cells.kind == "send_resumed" and self._summary_at is not None:
            self._take_back_the_summary(self._summary_at)

    def _take_back_the_summary(self, at: int) -> None:
        """The limit summary reported an ending that is none any more."""
        self.tokens -= estimate_message_tokens(self.messages[at])
        self.messages = self.messages[:at] + self.messages[at + 1 :]
        self._summary_at, self._digest = None, None

    def _fold(self, cells: Cells) -> None:
        body = json.loads(cells.body or "{}")
        kept = [border for border in self.borders if border.seq > body["through"]]
        cut = kept[0].at if kept else len(self.messages)
        self.note = {"role": "user", "name": SUMMARY_NAME, "content": note_text(cells.content or "", cells.escaped, body.get("send", 0))}
        self.messages = [self.note, *self.messages[cut:]]
        self.borders = [border._replace(at=border.at - cut + 1) for border in kept]
        if self._summary_at is not None:
            self._summary_at = self._summary_at - cut + 1 if self._summary_at >= cut else None
        self._calls = {call["id"] for message in self.messages for call in message.get("tool_calls", ())}
        self.tokens = self._grown = estimate_tokens(self.messages)
        self._digest = None


def note_text(summary: str, escaped: int | None, through_send: int) -> str:
    """The summary as the model reads it: what it covers, and how to get at the rest."""
    text = json.loads(summary) if escaped else summary
    covers = f"sends 1 to {through_send}" if through_send else "the conversation so far"
    return f"[Summary of {covers}; the originals are kept and can be recalled with recall_compacted.]\n{text}"
