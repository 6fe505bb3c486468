"""What every part of the session store stands on: a database, a table prefix, time and chance."""

from __future__ import annotations

from power_loop.contracts.clock import Clock, Ids
from power_loop.contracts.errors import StoreUnavailable
from power_loop.contracts.store import Batch, CommitUnknown, Conflict, Database
from power_loop.store.dialect import Dialect

# An unknown COMMIT is asked for again this often before the caller is told that nobody knows.
RESOLVE_TRIES = 5


class Part:
    """One group of the store's verbs; the store is made of several.

    A server decides by its own clock what has expired, since its clients' clocks differ. So a time that is stored or compared
    (of a lease, a ticket, a claim, what is due) is written ``{t}`` in SQL, and its parameter goes through `_at`; where 0
    stands for "none", ``{t0}`` and `_at_or_none`. What is due is looked for with ``{begun}``, which does not move while the
    statement runs, so that an index leads to it. A time that is read goes through `_here`, with ``{clock}`` read beside it.
    """

    def __init__(self, database: Database, dialect: Dialect, prefix: str, clock: Clock, ids: Ids) -> None:
        self._database, self._dialect, self._prefix, self._clock, self._ids = database, dialect, prefix, clock, ids
        self._server_decides = dialect.now is not None

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
        now, begun = self._dialect.now, self._dialect.begun
        at, at_or_none, from_begun = ("?",) * 3 if now is None else (f"({now} + ?)", f"COALESCE({now} + ?, 0)", f"({begun} + ?)")
        text = text.replace("{p}", self._prefix).replace("{t}", at).replace("{t0}", at_or_none)
        return text.replace("{begun}", from_begun).replace("{clock}", now or "NULL")

    # --- time, where a server decides ---------------------------------------------------------------

    def _now(self) -> int:
        """The parameter of ``{t}`` for this moment."""
        return 0 if self._server_decides else self._clock.now_ms()

    def _at(self, at: int) -> int:
        """The parameter of ``{t}`` for a time of our clock (ms): on a server, how far from now it is."""
        return at - self._clock.now_ms() if self._server_decides else at

    def _at_or_none(self, at: int | None) -> int | None:
        """The same of ``{t0}``, where 0, and of ``{t}``, where None is no time at all."""
        return self._at(at) if at else (None if self._server_decides else at)

    def _here(self, at: int, server_now: int | None) -> int:
        """What our clock shows at a time that was read beside ``{clock}``; 0 stays 0."""
        return at if server_now is None or not at else at - server_now + self._clock.now_ms()

    # --- writing ------------------------------------------------------------------------------------

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
