"""A session's records, walked from the first: where they lead, and what is wrong with one where it stands.

Who brings a history from outside (an archive, a fork, a host's own messages) asks here, and so does the check of the
invariants: a second judge of what is sound would drift away from `apply`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from power_loop.contracts.codec import to_cells
from power_loop.contracts.records import (
    Answered,
    ContextFolded,
    Decided,
    ModelReplied,
    Record,
    SendEnded,
    SendResumed,
    ToolParked,
    ToolReturned,
    ToolStarted,
    UserSaid,
)
from power_loop.contracts.store import FAR, NO_TALLY, Append, Head, RecordRow, Tally
from power_loop.kernel.state import IDLE, State, apply, round_of
from power_loop.kernel.tally import counts, joined


class History:
    """Where the records lead that were added so far."""

    __slots__ = ("fold_seq", "fold_through", "send_index", "send_seq", "seq", "state", "tally")

    fold_seq: int
    fold_through: int
    send_index: int
    send_seq: int
    seq: int

    def __init__(self) -> None:
        self.seq = self.send_index = self.send_seq = self.fold_seq = self.fold_through = 0
        self.state: State = IDLE
        self.tally: Tally = NO_TALLY

    def add(self, row: RecordRow, record: Record) -> None:
        """Go on by one record, sound or not."""
        if self.state.idle and isinstance(record, UserSaid):
            self.send_seq = row.seq
        elif isinstance(record, ContextFolded):
            self.fold_seq, self.fold_through = row.seq, record.through
        self.tally = joined([self.tally, counts(self.state, record)])
        self.state = apply(self.state, record)
        self.seq, self.send_index = row.seq, row.send_index

    def misplaced(self, row: RecordRow, record: Record) -> Iterator[str]:
        """What is wrong with the numbers of the next row."""
        if row.seq != self.seq + 1:
            yield f"follows seq {self.seq}"
        begins = self.state.idle and isinstance(record, UserSaid)
        if row.send_index != self.send_index + begins:
            yield f"belongs to send {row.send_index} after send {self.send_index}"

    def out_of_order(self, record: Record) -> Iterator[str]:
        """What no provider, or no reader of ours, would take as the next record."""
        state = self.state
        open_calls = {call.id for call in state.open_calls}
        match record:
            case UserSaid() if open_calls:
                yield "a word stands between a call and its result"
            case ModelReplied(calls=calls):
                if state.idle:
                    yield "a reply outside of any send"
                if open_calls:
                    yield "a reply before the calls of the last one were answered"
                if len({call.id for call in calls}) < len(calls):
                    yield "two calls of a reply share an id"
            case (
                ToolReturned(call_id) | ToolStarted(call_id) | ToolParked(call_id) | Decided(call_id=call_id) | Answered(call_id=call_id)
            ) if call_id not in open_calls:
                yield f"the call {call_id} is not open"
            case SendEnded() if open_calls:
                yield "the send ends while calls are open"
            case SendResumed() if not self.send_index:
                yield "a send is resumed before the first one began"
            case _:
                return

    def numbered(self, record: Record) -> RecordRow:
        """The row that ``record`` is when it comes next."""
        send_index = self.send_index + (self.state.idle and isinstance(record, UserSaid))
        return RecordRow(self.seq + 1, send_index, round_of(self.state, record), to_cells(record))


class Standing(NamedTuple):
    """A session at rest as it was read: its row, and the state that its last send amounts to."""

    head: Head
    state: State


def alone(standing: Standing, records: Sequence[Record], *, now: int, take_id: int, bound: int = FAR) -> Append:
    """One write that takes the lease, adds ``records`` and gives the lease back: nobody is left holding anything.

    ``bound`` as of `Append`: the lease in the row must end before it.
    """
    head, history = standing.head, History()
    history.seq, history.send_index, history.send_seq, history.state = head.head, head.send_index, head.send_seq, standing.state
    history.fold_seq, history.fold_through = head.fold_seq, head.fold_through
    rows: list[RecordRow] = []
    for record in records:
        rows.append(history.numbered(record))
        history.add(rows[-1], record)
    after = head._replace(
        head=history.seq, epoch=head.epoch + 1, holder=None, lease_until=0, takeovers=0, send_index=history.send_index,
        send_seq=history.send_seq, fold_seq=history.fold_seq, fold_through=history.fold_through,
    )  # fmt: skip
    return Append(head, after, rows, history.tally, take_id=take_id, bound=bound, now=now)
