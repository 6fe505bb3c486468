"""One session as last seen: its row, the state and the window that its records amount to.

A cache, no more: thrown away when in doubt, and brought up to date by reading what was added since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from power_loop.context.projected import window_for
from power_loop.context.represent import Representation
from power_loop.context.window import Window
from power_loop.contracts.codec import from_cells
from power_loop.contracts.errors import SessionNotFoundError
from power_loop.contracts.store import Head, InboxItem, RecordRow, SessionLog
from power_loop.kernel.state import IDLE, State, apply
from power_loop.runtime.window_rows import rows_of_a_window

if TYPE_CHECKING:
    from power_loop.runtime.projecting import Quiet


class Session:
    """What a driver knows of a session. Only whoever stands first in its line may touch it."""

    __slots__ = ("asked_at", "below", "given", "head", "last", "parent", "prompt", "quiet", "shown_as", "state", "waiting", "window")

    def __init__(self, head: Head, shown_as: Representation | None = None) -> None:
        self.head: Head = head
        self.last: tuple[int, int] = (0, 0)
        """(seq, epoch) of the last row that was read or written."""
        self.state: State = IDLE
        self.shown_as: Representation | None = shown_as
        """How finished sends are shown; None: word for word."""
        self.window: Window = window_for(shown_as, head.session_id)
        self.prompt: str | None = None
        self.parent: str | None = None
        """The session whose sub-agent this one is."""
        self.given: Mapping[str, Any] | None = None
        """What the first send of a sub-agent was given: its tools and limits. Later ones, such as of a timer, have no more."""
        self.below: str | None = None
        """The ledger of the last send, where others charge it too."""
        self.asked_at: int = 0
        """seq of the last reply that asked for tools."""
        self.waiting: list[InboxItem] = []
        """Scanned in the inbox, not heard yet."""
        self.quiet: Quiet | None = None
        """Which projectors had nothing to show when they were last asked."""

    @classmethod
    async def load(cls, log: SessionLog, session_id: str, shown_as: Representation | None = None) -> Session:
        """The session as it is now. Raises `SessionNotFoundError`."""
        session = cls(Head(session_id), shown_as)
        await session.refresh(log)
        return session

    @classmethod
    async def find(cls, log: SessionLog, session_id: str) -> Session | None:
        """The same; None when it is gone, as a sub-agent is that has ended since it was listed."""
        try:
            return await cls.load(log, session_id)
        except SessionNotFoundError:
            return None

    async def refresh(self, log: SessionLog) -> None:
        """Read what changed since the last look; the first look starts at the last fold."""
        head = await log.look(self.head.session_id)
        if self.head.head and head.epoch != self.head.epoch and not await self._stands_in(log):
            self._forget()
        seen = self.head
        cold = seen.head == 0
        after = min(head.fold_through, head.send_seq - 1) if cold and head.head else seen.head
        if head.wake_no != seen.wake_no or cold:
            self.prompt, self.parent, self.given = await log.session_ground(head.session_id)
        if head.head > after:
            whole_from = head.send_seq if cold else 0
            rows = await (rows_of_a_window(log, head, after, self.shown_as) if cold else log.rows(head.session_id, after=after))
            # Rows that were added after the row was read belong to the next look, which would count them twice.
            self._add([row for row in rows if row.seq <= head.head], whole_from)
        # The inbox is scanned after the row was read: wake_no is never newer than what was scanned.
        self.waiting = await log.inbox(head.session_id) if head.waiting else []
        self.head = head

    def stands_at(self, head: Head, shown_as: Representation | None) -> bool:
        """Nothing was written or said since, and it is shown in this manner."""
        seen = self.head
        return self.shown_as is shown_as and (seen.epoch, seen.head, seen.wake_no) == (head.epoch, head.head, head.wake_no)

    def believe(self, head: Head, rows: Sequence[RecordRow], state: State) -> None:
        """These rows are written: they count from now on."""
        for row in rows:
            self._show(row)
        if rows:
            self.last = (rows[-1].seq, head.epoch)
        if self.parent is not None and self.given is None:
            self.given = state.overrides
        self.head, self.state = head, state

    async def _stands_in(self, log: SessionLog) -> bool:
        """The last row is still there. Where a session was deleted, none that was made or restored under its id has it."""
        seq, epoch = self.last
        rows = await log.rows(self.head.session_id, after=seq - 1, until=seq)
        return [row.epoch for row in rows] == [epoch]

    def _forget(self) -> None:
        fresh = Session(Head(self.head.session_id), self.shown_as)
        for name in self.__slots__:
            setattr(self, name, getattr(fresh, name))

    def _add(self, rows: Sequence[RecordRow], whole_from: int) -> None:
        for row in rows:
            if row.seq >= whole_from:
                self.state = apply(self.state, from_cells(row.cells))
            self._show(row)
            self.last = (row.seq, row.epoch)

    def _show(self, row: RecordRow) -> None:
        if row.cells.tool_calls is not None:
            self.asked_at = row.seq
        self.window.add(row)
