"""The ledger: what one budget has seen spent, what is reserved of it, and what a batch changes of it.

One ledger stands for one send; its sub-agents charge it too. A model call starts only while spent and reserved
together are below every limit, and reserves its estimate in the batch before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from power_loop.contracts.text import MAX_KEY_CHARS
from power_loop.contracts.usage import CallUsage

# What a reply may have where neither the configuration nor the model caps it.
OUTPUT_TOKENS = 8000


class Sums(NamedTuple):
    """What limits are about, added up."""

    requests: int = 0
    tool_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0

    @classmethod
    def of(cls, usage: CallUsage) -> Sums:
        return cls(usage.calls, 0, usage.prompt, usage.completion, usage.cost or 0.0)

    def plus(self, other: Sums) -> Sums:
        return Sums(
            self.requests + other.requests, self.tool_calls + other.tool_calls, self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens, self.cost + other.cost,
        )  # fmt: skip

    def by_limit(self) -> dict[str, float]:
        """Each number under the name of the limit that bounds it."""
        return {
            "total_tokens": self.input_tokens + self.output_tokens, "input_tokens": self.input_tokens, "output_tokens": self.output_tokens,
            "requests": self.requests, "tool_calls": self.tool_calls, "cost": self.cost,
        }  # fmt: skip

    def used_up(self, limits: Mapping[str, float]) -> str | None:
        """The name of the first limit that is reached; None while there is room."""
        return next((name for name, used in self.by_limit().items() if name in limits and used >= limits[name]), None)


NOTHING = Sums()


class Ledger(NamedTuple):
    """One ledger as last read, or as it shall be opened."""

    ledger_id: str
    session_id: str
    """Whose send it stands for; it is deleted with that session."""
    send_index: int
    limits: Mapping[str, Any] = {}
    version: int = 0
    """Moves with every call that is let through, so that two cannot be let through on the same sight."""
    spent: Sums = NOTHING
    reserved: Sums = NOTHING
    """By sessions that are leased; of whoever asked, nothing."""


class Reservation(NamedTuple):
    """What a model call that has begun, or is about to, may cost."""

    call_key: str
    ledger_id: str
    amount: Sums


class Charge(NamedTuple):
    """What one model call cost, as a line of a ledger that stands for another session's send."""

    ledger_id: str
    owner: str
    """The session whose send the ledger stands for."""
    send_index: int
    """Of the session that charges."""
    seq: int
    """Of the record that says so."""
    purpose: str
    model: str | None
    usage: CallUsage


class Change(NamedTuple):
    """What a batch does to one ledger."""

    ledger_id: str
    spent: Sums = NOTHING
    version: int | None = None
    """A call is let through: refused with `Conflict` unless the ledger still has this version."""
    limits: Mapping[str, Any] | None = None
    """New limits; None leaves them."""


class Entries(NamedTuple):
    """What a batch changes in ledgers, those of the topmost session first."""

    opened: Sequence[Ledger] = ()
    changed: Sequence[Change] = ()
    charged: Sequence[Charge] = ()
    reserved: Sequence[Reservation] = ()
    settled: Sequence[str] = ()
    """Keys of reservations that are given back."""
    ends: bool = False
    """The run is over: all that its session has reserved is given back."""


class ChargeRow(NamedTuple):
    """One line of a ledger: a model call of another session than the one whose send it stands for."""

    session_id: str
    send_index: int
    seq: int
    purpose: str
    model: str | None
    usage: CallUsage


def ledger_id_of(session_id: str, send_index: int) -> str:
    """The ledger of a send: the send's id, or a digest of it where that is too long for a key."""
    ledger_id = f"{session_id}/{send_index}"
    return ledger_id if len(ledger_id) <= MAX_KEY_CHARS else hashlib.sha256(ledger_id.encode()).hexdigest()


def call_key(send_index: int, call: int, level: int, purpose: str) -> str:
    """What a reservation is known by in its session: the call, the level of its ledger in the tree, and what the call is for."""
    return f"{send_index}.{call}.{level}.{purpose}"[:MAX_KEY_CHARS]


def purpose_of(key: str) -> str:
    return key.split(".", 3)[3]
