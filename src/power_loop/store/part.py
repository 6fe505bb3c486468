"""What every part of the session store stands on: a database, a table prefix, time and chance."""

from __future__ import annotations

from power_loop.contracts.clock import Clock, Ids
from power_loop.contracts.errors import StoreUnavailable
from power_loop.contracts.store import Batch, CommitUnknown, Conflict, Database

# An unknown COMMIT is asked for again this often before the caller is told that nobody knows.
RESOLVE_TRIES = 5


class Part:
    """One group of the store's verbs; the store is made of several."""

    def __init__(self, database: Database, prefix: str, clock: Clock, ids: Ids) -> None:
        self._database, self._prefix, self._clock, self._ids = database, prefix, clock, ids

    @property
    def database(self) -> Database:
        """The engine behind it: for checks, and for tables of the host's own."""
        return self._database

    @property
    def table_prefix(self) -> str:
        return self._prefix

    @property
    def clock(self) -> Clock:
        return self._clock

    @property
    def ids(self) -> Ids:
        return self._ids

    def _sql(self, text: str) -> str:
        return text.replace("{p}", self._prefix)

    async def _write_once(self, batch: Batch) -> bool:
        """Write a batch whose own guard (a key, an id) makes a repetition harmless.

        False when a COMMIT raised first and the repeated batch met its own work. Raises `Conflict` when the guard
        fails at the first try.
        """
        unknown: CommitUnknown | None = None
        for tried in range(RESOLVE_TRIES):
            try:
                await self._database.write(batch)
            except CommitUnknown as error:
                unknown = error
                continue
            except Conflict:
                if tried:
                    return False
                raise
            return True
        raise StoreUnavailable(f"nobody knows whether a batch was written, look before you repeat it; {unknown}") from unknown
