"""Stores that die, or lose an answer, at a commit that the test chooses.

    store = await open_store("app.db")
    loop = StatefulAgentLoop(llm=llm, store=DyingStore(store, at=3, when="after"))
    with pytest.raises(Died):
        await loop.send("Book it.", session)
    # a new process
    loop = StatefulAgentLoop(llm=llm, store=store)
    await loop.resume(session)

A dead store stays dead: every later call of it raises as well, so that no ``finally`` of the dying process writes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

from power_loop.contracts.store import Batch, CommitUnknown, Database, Row
from power_loop.store.sql_store import SessionStore

When = Literal["before", "after"]
"""Of the commit: ``before`` it nothing of the batch is written, ``after`` it all of it."""


class Died(BaseException):
    """The process is gone. No `Exception`, so that nothing that handles errors goes on."""


class DyingDatabase:
    """A database whose process dies at the ``at``-th commit, counted from 1."""

    def __init__(self, inner: Database, at: int, when: When = "after") -> None:
        self._inner, self._at, self._when = inner, at, when
        self.commits: int = 0
        """How many batches were tried."""
        self.dead: bool = False

    async def read(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        self._refuse_when_dead()
        rows = await self._inner.read(sql, params)
        self._refuse_when_dead()
        return rows

    async def write(self, batch: Batch) -> None:
        self._refuse_when_dead()
        self.commits += 1
        last = self.commits == self._at
        if last and self._when == "before":
            self.dead = True
            raise Died
        try:
            await self._inner.write(batch)
        finally:
            self.dead = self.dead or last
            self._refuse_when_dead()

    async def close(self) -> None:
        """A dead process closes nothing, and a living one does not close what others use."""

    def _refuse_when_dead(self) -> None:
        if self.dead:
            raise Died


class UnsureDatabase:
    """A database whose ``at``-th COMMIT raises, although the batch is there (``after``) or not (``before``)."""

    def __init__(self, inner: Database, at: int = 1, when: When = "after") -> None:
        self._inner, self._at, self._when = inner, at, when
        self.commits: int = 0
        self.meanwhile: Callable[[], Awaitable[Any]] | None = None
        """Called and awaited before the loss is told: room for somebody else to write."""

    async def read(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        return await self._inner.read(sql, params)

    async def write(self, batch: Batch) -> None:
        self.commits += 1
        unsure = self.commits == self._at
        if not (unsure and self._when == "before"):
            await self._inner.write(batch)
        if unsure:
            if self.meanwhile is not None:
                await self.meanwhile()
            raise CommitUnknown(f"commit {self._at}: nobody knows")

    async def close(self) -> None:
        await self._inner.close()


class DyingStore(SessionStore):
    """``store``, seen by a process that dies at its ``at``-th commit, counted from 1."""

    def __init__(self, store: SessionStore, at: int, when: When = "after") -> None:
        self._living = store
        self.dying: DyingDatabase = DyingDatabase(store.database, at, when)
        super().__init__(self.dying, store.dialect, store.table_prefix, clock=store.clock, ids=store.ids)
        self.max_spawn_depth: int = store.max_spawn_depth

    @property
    def dead(self) -> bool:
        return self.dying.dead

    async def renew(self, leases: Sequence[tuple[str, int]], until: int) -> None:
        """The heartbeat keeps its own time, so its commits are not counted; it ends with the process."""
        if not self.dead:
            await self._living.renew(leases, until)

    async def wakes(self, session_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """The dead hold nothing."""
        return {} if self.dead else await self._living.wakes(session_ids)


def over(store: SessionStore, database: Database) -> SessionStore:
    """``store`` with ``database`` in place of its own."""
    return SessionStore(database, store.dialect, store.table_prefix, clock=store.clock, ids=store.ids)
