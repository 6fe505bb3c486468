"""Faults of ours, put in on purpose: each suite must fail on those that it is there for.

A mutation changes the code of the process that it is applied in. In a process of its own `apply` is enough;
`mutated` gives everything back.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import power_loop.agents.spawn as spawn
import power_loop.runtime.drive as drive
import power_loop.store.log as log
import power_loop.store.sqlite_file as sqlite_file
import power_loop.store.sqlite_worker as sqlite_worker
from power_loop.contracts.errors import StoreUnavailable
from power_loop.contracts.store import Conflict, Statement
from power_loop.store.database import Answer, tell
from power_loop.store.part import Part

Change = tuple[Any, str, Any]
"""Whose attribute, its name, what it becomes."""
Mutation = Callable[[], list[Change]]


def no_sync() -> list[Change]:
    """``synchronous=OFF``: nothing is forced to the disk."""
    prepare = sqlite_file.SqliteFile._prepare

    def prepared(self: Any, connection: Any) -> None:
        prepare(self, connection)
        connection.execute("PRAGMA synchronous=OFF")

    return [(sqlite_file.SqliteFile, "_prepare", prepared)]


def acknowledged_before_commit() -> list[Change]:
    """The engine says "written" and then writes."""

    def write(self: Any, writes: Any) -> list[Answer]:
        tell([Answer(job.future, None, None) for job in writes])
        self._outcomes([job.batch for job in writes])
        return []

    return [(sqlite_worker.SqliteWorker, "_write", write)]


def no_epoch_in_the_fence() -> list[Change]:
    """A holder that was taken over goes on writing where nobody wrote since."""
    return [(log, "FENCE", without(log.FENCE, "AND epoch = ?", "AND ? IS NOT NULL"))]


def look_then_write() -> list[Change]:
    """SELECT, then INSERT: the guards are looked at, and no longer part of the batch."""
    fenced = log.RecordLog.append
    guards = "AND epoch = ? AND head = ? AND wake_no = ? AND lease_until <"

    async def looks_first(self: Any, batch: Any) -> None:
        head = await self.look(batch.seen.session_id)
        if (head.epoch, head.head, head.wake_no) != (batch.seen.epoch, batch.seen.head, batch.seen.wake_no):
            raise Conflict
        await fenced(self, batch)

    return [(log, "FENCE", without(log.FENCE, guards, "AND ? + ? + ? IS NOT NULL AND 0 <")), (log.RecordLog, "append", looks_first)]


def unknown_commit_known_by_its_place() -> list[Change]:
    """Something stands where the batch would stand, so it is taken for the batch."""

    async def something_is_there(self: Any, batch: Any, mark: Any) -> bool:
        seq = batch.rows[-1].seq if batch.rows else batch.next.head
        return bool(await self._database.read(self._sql(log.MINE), (batch.seen.session_id, seq)))

    return [(log.RecordLog, "_is_there", something_is_there)]


def release_ignores_wake_no() -> list[Change]:
    """A send ends over a word that was posted meanwhile."""
    guarded = log.RecordLog._statements

    def releases_blindly(self: Any, batch: Any, mark: Any) -> list[Statement]:
        first, *rest = guarded(self, batch, mark)
        if batch.next.holder is None:
            first = Statement(without(first.sql, "AND wake_no = ?", "AND ? IS NOT NULL"), first.params, first.touches)
        return [first, *rest]

    return [(log.RecordLog, "_statements", releases_blindly)]


def post_in_two_batches() -> list[Change]:
    """The item is written, and the session woken afterwards."""
    write = Part._write_once

    async def one_by_one(self: Any, batch: Any) -> bool:
        if len(batch) < 2 or "INSERT INTO" not in batch[1].sql or "_inbox" not in batch[1].sql or batch[0].touches != 1:
            return await write(self, batch)
        there = await self._database.read(f"SELECT 1 FROM {self._prefix}sessions WHERE session_id = ?", (batch[0].params[-1],))
        if not there:
            raise Conflict
        return await write(self, batch[1:]) and await write(self, batch[:1])

    return [(Part, "_write_once", one_by_one)]


def unknown_commit_told_as_not_written() -> list[Change]:
    """COMMIT raised, and the caller is told that nothing was written, without another look."""

    async def not_written(self: Any, *_: Any) -> None:
        raise StoreUnavailable("nothing of the batch was written")

    return [(log.RecordLog, "_resolve", not_written)]


def a_take_that_was_cancelled_is_forgotten() -> list[Change]:
    """Whoever is cancelled while it takes the lease does not look whether it has it."""

    async def nobody_knows(self: Any, batch: Any) -> bool:
        return False

    return [(drive.Driver, "_was_taken", nobody_knows)]


def a_spawn_finds_no_child() -> list[Change]:
    """A call that runs again begins another child."""
    return [(spawn, "child_id_of", lambda *_: f"sess_{os.urandom(12).hex()}")]


def without(sql: str, guard: str, instead: str) -> str:
    """The statement with ``guard`` put out of action; the mutation is out of date when it is not there."""
    assert guard in sql, f"no {guard!r} in {sql!r}: bring the mutation up to date"
    return sql.replace(guard, instead)


MUTATIONS: dict[str, Mutation] = {
    mutation.__name__: mutation
    for mutation in (
        no_sync, acknowledged_before_commit, no_epoch_in_the_fence, look_then_write, unknown_commit_known_by_its_place,
        release_ignores_wake_no, post_in_two_batches, unknown_commit_told_as_not_written,
        a_take_that_was_cancelled_is_forgotten, a_spawn_finds_no_child,
    )
}  # fmt: skip


def apply(name: str | None) -> None:
    """For good: in a process that is there for it."""
    for owner, attribute, value in MUTATIONS[name]() if name is not None else ():
        setattr(owner, attribute, value)


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """While the block runs."""
    changes = MUTATIONS[name]()
    with ExitStack() as back:
        for owner, attribute, value in changes:
            if attribute in vars(owner):
                back.callback(setattr, owner, attribute, vars(owner)[attribute])
            else:
                back.callback(delattr, owner, attribute)
            setattr(owner, attribute, value)
        yield
