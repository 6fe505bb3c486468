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
        """Write a batch that is harmless to repeat because its guard (a key, a version) fails once it is written.

        False when a COMMIT raised and the repeated batch failed its guard: then it met its own work, or somebody
        else's, and the caller has to look. Raises `Conflict` when the guard fails at the first try.
        """
        unknown: Exception | None = None
        for _ in range(RESOLVE_TRIES):
            try:
                await self._database.write(batch)
            except CommitUnknown as error:
                unknown = error
            except StoreUnavailable as error:
                if unknown is None:
                    raise
                unknown = error
            except Conflict:
                if unknown is None:
                    raise
                return False
            else:
                return True
        raise nobody_knows("a batch", unknown)


def nobody_knows(what: str, error: Exception | None) -> StoreUnavailable:
    """For the caller of a write that could be neither confirmed nor ruled out."""
    unavailable = StoreUnavailable(f"nobody knows whether {what} was written, look before you repeat it; {error}")
    unavailable.__cause__ = error
    return unavailable
