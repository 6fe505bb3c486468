"""Keeping the records of a session that no send drives: under its lease, in batches, fenced like any send's.

Whoever runs a workflow writes its journal through this. What the records mean, and what is heard of the inbox, is its business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from power_loop.contracts.codec import from_cells
from power_loop.contracts.errors import SessionArchivedError, SessionBusyError, SessionLeaseLost
from power_loop.contracts.records import Record
from power_loop.contracts.store import FAR, Append, Conflict, Head, InboxItem, RecordRow, Tally
from power_loop.kernel.hears import hears
from power_loop.kernel.history import History
from power_loop.kernel.state import State
from power_loop.kernel.tally import counts, joined
from power_loop.runtime.cancel import end_of
from power_loop.runtime.noted import MAX_CONFLICTS, no_way_through
from power_loop.runtime.session import Session

if TYPE_CHECKING:
    from power_loop.contracts.clock import Clock, Ids
    from power_loop.contracts.ledger import Entries
    from power_loop.contracts.store import SessionLog


class Accounts(Protocol):
    """Ledgers that the batches of a session change."""

    @property
    def owes(self) -> bool:
        """Something is to be written."""
        ...

    async def look(self) -> None:
        """Read the ledgers, before something is written and when a batch was refused."""
        ...

    def entries(self, *, release: bool) -> Entries | None:
        """What the next batch changes."""
        ...

    def wrote(self) -> None:
        """The next batch is there."""
        ...


class Logbook:
    """One session in hand: what was read of it, and what is noted and not written yet."""

    def __init__(self, log: SessionLog, session_id: str, *, holder: str, clock: Clock, ids: Ids, lease_ttl_ms: int) -> None:
        self._log, self._holder, self._clock, self._ids, self._ttl_ms = log, holder, clock, ids, lease_ttl_ms
        self.session: Session = Session(Head(session_id))
        """For whoever keeps leases alive; nothing of it but the row is kept."""
        self.accounts: Accounts | None = None
        """What the batches change in ledgers, where they change anything there."""
        self.waiting: list[InboxItem] = []
        """Scanned in the inbox, not heard yet."""
        self._history = History()
        self._noted: list[RecordRow] = []
        self._tallies: list[Tally] = []
        self._heard: list[int] = []
        self._closes: list[str] = []

    @property
    def session_id(self) -> str:
        return self.session.head.session_id

    @property
    def state(self) -> State:
        """With what is noted and not written yet."""
        return self._history.state

    @property
    def is_held(self) -> bool:
        """By us, as far as we know."""
        return self.session.head.holder == self._holder

    def hears(self, record: Record) -> bool:
        """What was posted may enter now."""
        return hears(self.state, record) is True

    async def load(self) -> list[Record]:
        """The records, and what waits. Raises `SessionNotFoundError`."""
        head = await self._log.look(self.session_id)
        rows = await self._log.rows(self.session_id, after=0, until=head.head) if head.head else []
        records = [from_cells(row.cells) for row in rows]
        for row, record in zip(rows, records, strict=True):
            self._history.add(row, record)
        await self._see(head)
        return records

    async def take(self, is_dead: Callable[[str], bool]) -> None:
        """Take the lease, with what is noted. Raises `SessionBusyError` when somebody has it, or was faster; `SessionArchivedError`."""
        head, now = self.session.head, self._clock.now_ms()
        if head.archived:
            raise SessionArchivedError(self.session_id)
        theirs = head.holder not in (None, self._holder)
        if theirs and head.held_at(now) and not is_dead(head.holder or ""):
            raise SessionBusyError(self.session_id, holder=head.holder, expires_at=head.lease_until)
        # Only an expired lease may come back to life under its epoch (a late renewal); all else shows in the epoch.
        bound = now + 1 if theirs and head.lease_until <= now else FAR
        batch = self._batch(head.epoch + 1, take_id=self._ids.bits(62), bound=bound)
        try:
            await self._write(batch)
        except Conflict:
            raise SessionBusyError(self.session_id, holder=head.holder, expires_at=head.lease_until) from None

    def note(self, record: Record, *, heard: InboxItem | None = None, closes: Sequence[str] = ()) -> RecordRow:
        """``record`` is true from now on; it is written with the next batch, which deletes the sessions ``closes``."""
        if heard is not None:
            self.drop(heard)
        row, before = self._history.numbered(record), self._history.state
        self._history.add(row, record)
        self._noted.append(row)
        self._tallies.append(counts(before, record))
        self._closes += closes
        return row

    def drop(self, item: InboxItem) -> None:
        """What waited there is done with."""
        self._heard.append(item.item_id)
        self.waiting = [each for each in self.waiting if each.item_id != item.item_id]

    async def flush(self, *, release: bool = False, unheard: bool = False) -> bool:
        """Write what is noted. ``release`` gives the lease back, unless something waits by now; whether it was given back.

        ``unheard``: what waits is left for whoever comes next.
        Raises `SessionLeaseLost`, `SessionNotFoundError` and `StoreUnavailable`; nothing is written then.
        """
        if self.accounts is not None and self.accounts.owes:
            await self.accounts.look()
        elif not (self._noted or self._heard or release):
            return False
        release = release and (unheard or not self.waiting)
        for _ in range(MAX_CONFLICTS):
            try:
                await self._write(self._batch(self.session.head.epoch, release=release))
                return release
            except Conflict:
                await self._look_again()
                if self.accounts is not None:
                    await self.accounts.look()
                release = release and (unheard or not self.waiting)
        raise no_way_through(self.session_id, MAX_CONFLICTS)

    async def scan(self) -> bool:
        """Look whether something was posted since the last look; what waits is in ``waiting`` then."""
        found = (await self._log.wakes([self.session_id])).get(self.session_id)
        if found is None or found[0] != self.session.head.epoch:
            raise SessionLeaseLost(self.session_id, epoch=self.session.head.epoch)
        if found[1] == self.session.head.wake_no:
            return False
        await self._look_again()
        return True

    async def _look_again(self) -> None:
        seen, head = self.session.head, await self._log.look(self.session_id)
        if (head.epoch, head.head, head.holder) != (seen.epoch, seen.head, seen.holder):
            raise SessionLeaseLost(self.session_id, epoch=seen.epoch)
        await self._see(head)

    async def _see(self, head: Head) -> None:
        """The inbox is scanned after the row was read: wake_no is never newer than what was scanned."""
        found = await self._log.inbox(self.session_id) if head.waiting else []
        self.waiting = [item for item in found if item.item_id not in self._heard]
        self.session.head = head

    async def _write(self, batch: Append) -> None:
        """Whoever is cancelled meanwhile learns what came of it first."""
        task = asyncio.create_task(self._write_and_believe(batch))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await end_of(task)
            raise

    async def _write_and_believe(self, batch: Append) -> None:
        await self._log.append(batch)
        self.session.head = batch.next
        written, heard = len(batch.rows), len(batch.heard)
        if self.accounts is not None:
            self.accounts.wrote()
        del self._noted[:written], self._tallies[:written], self._heard[:heard], self._closes[: len(batch.closes)]

    def _batch(self, epoch: int, *, release: bool = False, take_id: int | None = None, bound: int = FAR) -> Append:
        seen, history, now = self.session.head, self._history, self._clock.now_ms()
        next_ = seen._replace(
            head=history.seq, epoch=epoch, holder=None if release else self._holder, lease_until=0 if release else now + self._ttl_ms,
            send_index=history.send_index, send_seq=history.send_seq, waiting=bool(self.waiting),
            takeovers=seen.takeovers + (seen.holder is not None) if take_id is not None else 0,
        )  # fmt: skip
        return Append(
            seen, next_, tuple(self._noted), joined(self._tallies), tuple(self._heard), take_id=take_id, bound=bound, now=now,
            closes=tuple(self._closes), entries=self.accounts.entries(release=release) if self.accounts is not None else None,
        )  # fmt: skip
