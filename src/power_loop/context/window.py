"""What the model sees: the transcript seen through the latest fold.

Append-only until a fold, so that the bytes of one request begin the next one. What only reports an ending is
left out; what a provider wants back word for word (signed thinking) is shown while its send is under way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from power_loop.context.note import SUMMARY_NAME, summary_message
from power_loop.context.shorten import shortened
from power_loop.context.transcript import Transcript, spoken
from power_loop.contracts.digest import RequestDigest
from power_loop.contracts.made import made
from power_loop.contracts.messages import Message, estimate_message_tokens, estimate_text_tokens, estimate_tokens, text_of
from power_loop.contracts.store import Cells, RecordRow

# A provider may count a few times as much as we do, or a fraction of it; what is beyond that counts something else.
LEAST_SCALE, MOST_SCALE = 0.5, 5.0
# How the body of a reply begins for which the provider counted; an estimated usage ends in ``true`` (`codec.usage_to_json`).
COUNTED = re.compile(r'\{"usage":\[([1-9]\d*)[^\]t]*\]').match


__all__ = ["SUMMARY_NAME", "Border", "Window", "summary_of", "tokens_of"]


class Border(NamedTuple):
    """Where a send begins, or a round of the last one: a fold may cut there."""

    send_index: int
    seq: int
    at: int
    """Position of its first message."""


class Window(Transcript):
    """The messages of the next request. Holds no system prompt and nothing ephemeral."""

    __slots__ = (
        "_calls", "_counted", "_digest", "_digested", "_grown", "_private", "_scale", "_summary_at", "_word", "borders", "in_vain", "note",
        "rounds", "rounds_covered", "tokens", "tried",
    )  # fmt: skip

    mended: list[str]
    messages: list[Message]

    projects = False
    """Finished sends are shown otherwise than as they were said."""

    def __init__(self) -> None:
        super().__init__()
        self.borders: list[Border] = []
        self.rounds: list[Border] = []
        """Of the last send, those that are shown."""
        self.rounds_covered: int = 0
        """So many rounds of the last send the summary stands for."""
        self._word: Border | None = None
        """A word said between two rounds: the next one begins with it."""
        self.note: Message | None = None
        self.tried: bool = False
        """A fold was made, or attempted."""
        self.in_vain: bool = False
        """The last attempt failed."""
        self.tokens: int = 0
        """Roughly, of all messages."""
        self._grown = 0
        self._counted: tuple[int, int] | None = None
        """(tokens that the provider counted for the last request since the last fold, tokens shown then)."""
        self._scale = 0.0
        """As the last fold left it; 0: unknown."""
        self._calls: set[str] = set()
        self._private = False
        """The send under way holds blocks that later sends do not show."""
        self._summary_at: int | None = None
        self._digest: RequestDigest | None = None
        self._digested = 0

    def add(self, row: RecordRow) -> None:
        cells = row.cells
        role = cells.role
        if role is None:
            self._mark(cells)
            return
        if self._asked and role != "tool":
            self._close_the_round()
        if role == "user":
            if not self.borders or self.borders[-1].send_index != row.send_index:
                self._begin_send(row)
            elif self._word is None:
                self._word = Border(row.send_index, row.seq, len(self.messages))
            self._show(spoken(cells))
        elif role == "assistant":
            self._reply(row, cells)
        else:
            self._answer(cells)

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

    def landed(self) -> int:
        """How many tokens the results have that stand in a round which is still open: no message yet, and not among ``tokens``."""
        return sum(map(estimate_message_tokens, self._results.values()))

    def growth(self) -> int:
        """How many tokens were added since the last fold or attempt, or since the beginning."""
        return self.tokens - self._grown

    def scale(self, head_tokens: int) -> float:
        """How many tokens there are for one that we estimate; 1.0 while the provider never said how it counts.

        ``head_tokens``: what stands before the messages of a request, estimated.
        """
        return self.estimate(head_tokens) / max(1, self.tokens + head_tokens)

    def estimate(self, head_tokens: int, more: int = 0) -> int:
        """How many tokens a request has: what the provider counted for the last one, and what was added since, estimated.

        ``more``: tokens of messages that are about to be added.
        """
        plain = self.tokens + more + head_tokens
        if self._counted is None:
            return int(plain * (self._scale or 1.0))
        counted, shown = self._counted
        added, measured = self.tokens + more - shown, shown + head_tokens
        # What was added may be of another kind than what was counted: only upwards is it taken for the same, and no more of it than was
        # counted. What a provider puts before every request would count many times over else, behind a short first word.
        beyond = max(0.0, min(counted / max(1, measured), MOST_SCALE) - 1)
        tokens = counted + added + min(added, measured) * beyond
        return int(min(plain * MOST_SCALE, max(plain * LEAST_SCALE, tokens)))

    def knows_call(self, call_id: str) -> bool:
        """A call of this id was asked for since the last fold, or in the send that is under way."""
        return call_id in self._calls

    def digest(self) -> RequestDigest:
        """A digest over all messages; each is hashed once."""
        chain = self._digest
        if chain is None:
            chain, self._digested = RequestDigest(), 0
        chain.add(self.messages[self._digested :])
        self._digest, self._digested = chain, len(self.messages)
        return chain

    def _begin_send(self, row: RecordRow) -> None:
        if self._private:
            self._hide_blocks()
        self._summary_at = self._word = None
        self.rounds, self.rounds_covered = [], 0
        self.borders.append(made(Border, (row.send_index, row.seq, len(self.messages))))

    def _hide_blocks(self) -> None:
        """Their send is over. The messages are made anew, since requests that were sent hold the old ones."""
        at = self.borders[-1].at if self.borders else 0
        bare = [{key: message[key] for key in message if key != "provider_blocks"} for message in self.messages[at:]]
        self.messages = self.messages[:at] + bare
        self._private, self._digest = False, None

    def _reply(self, row: RecordRow, cells: Cells) -> None:
        name, at = cells.name, len(self.messages)
        if name == "degraded":
            return
        message, body = spoken(cells), cells.body or ""
        if name is not None:
            del message["name"]
        elif (counted := COUNTED(body)) is not None:
            self._counted = (int(counted[1]), self.tokens)
        asks = cells.tool_calls is not None
        if asks:
            self._calls.update(call["id"] for call in message["tool_calls"])
        elif not text_of(message["content"]).strip():
            return
        if name == "limit_summary":
            self._summary_at = at
        if '"blocks":' in body:
            self._keep_blocks(message, body)
        if asks:
            self._ask(message)
        else:
            self._show(message)
        self.rounds.append(self._word or made(Border, (row.send_index, row.seq, at)))
        self._word = None

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
        kind = cells.kind
        if kind == "context_folded":
            self._fold(cells)
        elif kind == "fold_skipped":
            self._leave(json.loads(cells.body or "{}"))
        elif kind == "send_resumed" and self._summary_at is not None:
            self._take_back_the_summary(self._summary_at)

    def _leave(self, body: Mapping[str, Any]) -> None:
        """Nothing was folded; results may be shown cut instead."""
        if cut := body.get("cut"):
            self._cut_results(*cut)
        self.tried, self.in_vain, self._grown = True, bool(body.get("through")), body.get("tokens") or self.tokens

    def _cut_results(self, call_id: str, chars: int) -> None:
        """Show the results up to that of ``call_id`` with no more than ``chars`` characters each."""
        last = next((at for at, message in enumerate(self.messages) if message.get("tool_call_id") == call_id), -1)
        early = [shortened(message, chars) for message in self.messages[: last + 1]]
        self.messages = early + self.messages[last + 1 :]
        self.tokens, self._digest = estimate_tokens(self.messages), None

    def _take_back_the_summary(self, at: int) -> None:
        """The limit summary reported an ending that is none any more."""
        self.tokens -= estimate_message_tokens(self.messages[at])
        self.messages = self.messages[:at] + self.messages[at + 1 :]
        self.rounds = [place for place in self.rounds if place.at < at]
        self._summary_at, self._digest = None, None

    def _fold(self, cells: Cells) -> None:
        body = json.loads(cells.body or "{}")
        through, keeps = body["through"], body.get("keeps", 0)
        kept = [border for border in self.borders if border.seq > through]
        own = next((border for border in self.borders if keeps and border.seq == keeps), None)
        rounds = [place for place in self.rounds if place.seq > through]
        behind = [*kept[:1], *rounds[:1], *([self._word] if self._word and self._word.seq > through else [])]
        cut = min((place.at for place in behind), default=len(self.messages))
        lead = self._noted(cells, body)
        self.note = lead[0]
        kept = kept if own is None else [own._replace(at=cut), *kept]
        self.rounds_covered = body.get("rounds", 0) if own is not None else 0
        if own is not None:
            lead.append(self.messages[own.at])
        moved = len(lead) - cut
        self.messages = [*lead, *self.messages[cut:]]
        self.borders = [border._replace(at=border.at + moved - (border is kept[0] and own is not None)) for border in kept]
        self._move(rounds, cut, moved)
        shown = {call["id"] for message in self.messages for call in message.get("tool_calls", ())}
        self._calls = shown if own is None else self._calls | shown
        self.tokens, self.tried, self.in_vain, self.mended = estimate_tokens(self.messages), True, False, []
        self._grown = body.get("tokens", (0, 0))[1] or self.tokens
        self._counted, self._scale, self._digest = None, body.get("scale", 0.0), None

    def _move(self, rounds: list[Border], cut: int, moved: int) -> None:
        """What lies behind the cut stands ``moved`` further on."""
        self.rounds = [place._replace(at=place.at + moved) for place in rounds]
        if self._word is not None:
            self._word = self._word._replace(at=self._word.at + moved)
        if self._summary_at is not None:
            self._summary_at = self._summary_at + moved if self._summary_at >= cut else None

    def _noted(self, cells: Cells, body: Mapping[str, Any]) -> list[Message]:
        """The summary, as it stands before all other messages."""
        return [summary_message(summary_of(cells), body.get("send", 0), body.get("rounds", 0))]


def tokens_of(cells: Cells) -> int:
    """Roughly how many tokens the message of a row has, without making the message; blocks count as their text."""
    if cells.role is None:
        return 0
    return 4 + estimate_text_tokens(cells.content or "") + (estimate_text_tokens(cells.tool_calls) if cells.tool_calls else 0)


def summary_of(cells: Cells) -> str:
    """The text of a fold."""
    return json.loads(cells.content or '""') if cells.escaped else cells.content or ""
