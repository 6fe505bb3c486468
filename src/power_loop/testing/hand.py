"""A holder's hand on a session, for tests of the store: takes, appends and releases, and knows what it wrote."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any

from power_loop.contracts.codec import from_cells, to_cells
from power_loop.contracts.records import ContextFolded, Record, UserSaid
from power_loop.contracts.store import FAR, Append, Conflict, Head, Post, RecordRow, Tally
from power_loop.contracts.usage import CallUsage
from power_loop.kernel.state import IDLE, State, apply
from power_loop.kernel.tally import counts, joined
from power_loop.store.sql_store import SessionStore


class Hand:
    """What one holder does to one session, batch by batch; ``head`` is what it last saw."""

    head: Head
    holder: str
    store: SessionStore

    def __init__(self, store: SessionStore, head: Head, holder: str) -> None:
        self.store, self.head, self.holder = store, head, holder
        self.state: State = IDLE
        self.written: list[Record] = []

    @classmethod
    async def of(cls, store: SessionStore, session_id: str, holder: str) -> Hand:
        """A hand that has looked at the session."""
        return cls(store, await store.look(session_id), holder)

    async def take(self, *records: Record, **how: Any) -> None:
        """Take the lease, with ``records``; ``how`` as of `taking`. Raises `Conflict`."""
        await self._write(self.taking(*records, **how), records)

    async def take_if_free(self, *records: Record) -> None:
        """The same, and nothing when somebody was faster."""
        try:
            await self.take(*records)
        except Conflict:
            return

    async def append(self, *records: Record, heard: Sequence[int] = (), posts: Sequence[Post] = ()) -> None:
        batch = self._batch(records, self.head.epoch, self.holder, 1 << 60)
        await self._write(batch._replace(heard=heard, posts=posts), records)

    async def release(self, *records: Record) -> None:
        await self._write(self._batch(records, self.head.epoch, None, 0), records)

    def taking(
        self, *records: Record, until: int = 1 << 60, bound: int = FAR, heard: Sequence[int] = (), ticket: int | None = None
    ) -> Append:
        """The batch of a take."""
        batch = self._batch(records, self.head.epoch + 1, self.holder, until)
        return batch._replace(take_id=self.store.ids.bits(62), bound=bound, heard=heard, ticket=ticket)

    async def stored(self) -> list[Record]:
        """The session's records, as the store gives them back."""
        return [from_cells(row.cells) for row in await self.store.rows(self.head.session_id, after=0)]

    def paid(self, prompt: int, completion: int) -> CallUsage:
        return CallUsage(prompt, completion, calls=1)

    async def _write(self, batch: Append, records: Sequence[Record]) -> None:
        await self.store.append(batch)
        self.head = batch.next
        self.written += records
        for record in records:
            self.state = apply(self.state, record)

    def _batch(self, records: Sequence[Record], epoch: int, holder: str | None, until: int) -> Append:
        head, state, rows, tallies = self.head, self.state, list[RecordRow](), list[Tally]()
        send_index, send_seq, fold_seq, through = head.send_index, head.send_seq, head.fold_seq, head.fold_through
        for seq, record in enumerate(records, head.head + 1):
            if state.idle and isinstance(record, UserSaid):
                send_index, send_seq = send_index + 1, seq
            elif isinstance(record, ContextFolded):
                fold_seq, through = seq, record.through
            tallies.append(counts(state, record))
            state = apply(state, record)
            rows.append(RecordRow(seq, send_index, None, to_cells(record)))
        after = Head(head.session_id, head.head + len(rows), epoch, holder, until, head.wake_no, send_index, send_seq, fold_seq, through)
        return Append(head, after, rows, joined(tallies), now=1)


async def texts(store: SessionStore, session_id: str) -> list[Any]:
    """The contents of the session's messages, in order."""
    return [message.content for message in await store.load_all_messages(session_id)]


async def refused(kind: type[BaseException], awaited: Awaitable[Any]) -> None:
    """Assert that ``awaited`` raises ``kind``."""
    try:
        await awaited
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised")


async def count_up(store: SessionStore, owner: str) -> int:
    """Add one to the small state ``n`` of ``owner``."""
    return await store.mutate_runtime_state(owner, "n", lambda n: (n or 0) + 1)
