"""One session as last seen: its row, the state and the window that its records amount to.

A cache, no more: thrown away when in doubt, and brought up to date by reading what was added since.
"""

from __future__ import annotations

from collections.abc import Sequence

from power_loop.context.window import Window
from power_loop.contracts.codec import from_cells
from power_loop.contracts.store import Head, InboxItem, RecordRow, SessionLog
from power_loop.kernel.state import IDLE, State, apply


class Session:
    """What a driver knows of a session. Only whoever stands first in its line may touch it."""

    __slots__ = ("asked_at", "head", "prompt", "state", "waiting", "window")

    def __init__(self, head: Head) -> None:
        self.head = head
        self.state = IDLE
        self.window = Window()
        self.prompt: str | None = None
        self.asked_at = 0
        """seq of the last reply that asked for tools."""
        self.waiting: list[InboxItem] = []
        """Scanned in the inbox, not heard yet."""

    @classmethod
    async def load(cls, log: SessionLog, session_id: str) -> Session:
        """The session as it is now. Raises `SessionNotFoundError`."""
        session = cls(Head(session_id))
        await session.refresh(log)
        return session

    async def refresh(self, log: SessionLog) -> None:
        """Read what changed since the last look; the first look starts at the last fold."""
        seen, head = self.head, await log.look(self.head.session_id)
        cold = seen.head == 0
        after = min(head.fold_through, head.send_seq - 1) if cold and head.head else seen.head
        if head.wake_no != seen.wake_no or cold:
            self.prompt = await log.session_prompt(head.session_id)
        if head.head > after:
            whole_from = head.send_seq if cold else 0
            rows = await log.rows(head.session_id, after=after, whole_from=whole_from)
            # Rows that were added after the row was read belong to the next look, which would count them twice.
            self._add([row for row in rows if row.seq <= head.head], whole_from)
        # The inbox is scanned after the row was read: wake_no is never newer than what was scanned.
        self.waiting = await log.inbox(head.session_id) if head.waiting else []
        self.head = head

    def believe(self, head: Head, rows: Sequence[RecordRow], state: State) -> None:
        """These rows are written: they count from now on."""
        for row in rows:
            self._show(row)
        self.head, self.state = head, state

    def _add(self, rows: Sequence[RecordRow], whole_from: int) -> None:
        for row in rows:
            if row.seq >= whole_from:
                self.state = apply(self.state, from_cells(row.cells))
            self._show(row)

    def _show(self, row: RecordRow) -> None:
        if row.cells.tool_calls is not None:
            self.asked_at = row.seq
        self.window.add(row)
