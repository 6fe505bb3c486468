"""The store as the doctor sees it through the inspector: of a long history only the last send.

What the doctor says of leases, calls and of what waits follows from the last send; the whole history tells whether a
provider would take it. That costs as much as a cold send, and a page may not.
"""

from __future__ import annotations

from power_loop.contracts.store import Head
from power_loop.store.sql_store import SessionStore

# So many records behind the last fold are looked at.
READ_ROWS = 2_000


class Glance(SessionStore):
    """One look; nothing is written through it."""

    left_out: int = 0
    """So many records behind the last fold were not looked at."""

    @classmethod
    def at(cls, store: SessionStore) -> Glance:
        return cls(store.database, store.dialect, store.table_prefix, clock=store.clock, ids=store.ids)

    async def look(self, session_id: str) -> Head:
        head = await super().look(session_id)
        if head.head - head.fold_through <= READ_ROWS or head.send_seq <= head.fold_through:
            return head
        self.left_out = head.send_seq - 1 - head.fold_through
        return head._replace(fold_through=head.send_seq - 1)
