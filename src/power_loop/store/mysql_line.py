"""A line to a MySQL server: reads, and batches that are there whole or not at all, through connections that may be lost.

A batch goes there in one text, COMMIT included, so it costs one round trip and holds its locks for no longer than the
server needs. A guard that does not hold makes the text fail where it stands: what follows it, COMMIT too, is never run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from power_loop.contracts.errors import StoreRefused, StoreUnavailable
from power_loop.contracts.store import Batch, CommitUnknown, Conflict, Row, Statement
from power_loop.store.database import NOT_READ, NOT_WRITTEN
from power_loop.store.mysql_errors import AGAIN, DUPLICATE_KEY, LOCK_WAIT, reason, unavailable
from power_loop.store.mysql_schema import change_schema, changes_schema, lock_schema, parted
from power_loop.store.mysql_text import rendered
from power_loop.store.mysql_wire import Address, Broken, Wire

# A batch that had to give way is tried this often; one that waited in vain for a lock took its time already.
TRIES, LOCK_WAITS = 6, 2

# Fails when it is computed, which happens only if the statement before it touched another number of rows. SET reports
# the error on both servers; DO swallows it on MariaDB.
_GUARD = b"SET @power_loop = EXP(IF(ROW_COUNT() = %d, 0, 710))"
_BEGIN, _COMMIT, _ROLLBACK = b"START TRANSACTION", b"COMMIT", b"ROLLBACK"


class Step(NamedTuple):
    """One statement of the text that is sent."""

    text: bytes
    of: Statement | None = None
    guards: bool = False


class MysqlLine:
    """See `store.server.Line`."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._place = address.settings.place
        self._wire: Wire | None = None

    async def read(self, sql: str, params: Sequence[Any]) -> list[Row]:
        """The rows of one SELECT. A connection that turns out to be lost is made anew once: to read twice harms nobody.

        Where no answer came in time it is not: the caller has waited long enough.
        """
        try:
            return await self._read(sql, params)
        except Broken as broken:
            if broken.answered or isinstance(broken.error, TimeoutError):
                raise self._unavailable(broken, NOT_READ) from broken.error
        try:
            return await self._read(sql, params)
        except Broken as broken:
            raise self._unavailable(broken, NOT_READ) from broken.error

    async def write(self, batch: Batch) -> None:
        """All of ``batch`` or nothing; see `Database.write`."""
        if not batch:
            return
        if changes_schema(batch):
            await self._change_schema(batch)
        else:
            await self._transact(batch)

    async def close(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.hang_up()

    # --- a transaction ------------------------------------------------------------------------------

    async def _transact(self, batch: Batch, end: bytes = _COMMIT) -> None:
        tried = waited = 0
        while True:
            wire = await self._connected()
            steps = _steps(batch, end, wire.backslash_escapes)
            self._check_size(wire, sum(len(step.text) + 2 for step in steps), NOT_WRITTEN)
            try:
                await wire.run([step.text for step in steps])
                return
            except Broken as broken:
                await self._judge(wire, broken, steps[broken.at])
                tried, waited = tried + 1, waited + (broken.code == LOCK_WAIT)
                if tried == TRIES or waited == LOCK_WAITS:
                    raise self._unavailable(broken, NOT_WRITTEN) from broken.error

    async def _judge(self, wire: Wire, broken: Broken, step: Step) -> None:
        """Undo what a failed try left, and raise what it means; come back when the same may be tried again."""
        if not broken.answered:
            raise self._unknown(broken) from broken.error
        if broken.code in AGAIN or step.guards or broken.code == DUPLICATE_KEY:
            await self._roll_back(wire)
        else:
            await self.close()
        if broken.code in AGAIN:
            return
        if step.text is _COMMIT:
            raise self._unknown(broken) from broken.error
        if step.guards and step.of is not None:
            raise Conflict(f"the number of rows is not {step.of.touches}: {step.of.sql[:100]}")
        if broken.code == DUPLICATE_KEY:
            raise Conflict(reason(broken.error)) from broken.error
        raise self._unavailable(broken, NOT_WRITTEN) from broken.error

    async def _roll_back(self, wire: Wire) -> None:
        # A statement that fails leaves its transaction open, locks and all.
        try:
            await wire.run([_ROLLBACK])
        except Broken:
            await self.close()  # the server rolls back when it notices

    # --- the schema ---------------------------------------------------------------------------------

    async def _change_schema(self, batch: Batch) -> None:
        wire = await self._connected()
        schema, rest = parted(batch)
        texts = [rendered(sql, params, wire.backslash_escapes) for sql, params, _ in schema]
        try:
            if not await lock_schema(wire):
                raise StoreUnavailable(f"MySQL at {self._place}: another process is changing the schema; {NOT_WRITTEN}")
            await self._transact([each for each in rest if each.touches is not None], end=_ROLLBACK)
            await change_schema(wire, texts)
            await self._transact(rest)
        except Broken as broken:
            raise self._unavailable(broken, "the schema may be changed in part, and opening it again goes on from there") from broken.error
        finally:
            await self.close()  # and with it the lock

    # --- one connection -----------------------------------------------------------------------------

    async def _read(self, sql: str, params: Sequence[Any]) -> list[Row]:
        wire = await self._connected()
        text = rendered(sql, params, wire.backslash_escapes)
        self._check_size(wire, len(text), NOT_READ)
        return await wire.rows(text)

    async def _connected(self) -> Wire:
        if self._wire is not None and self._wire.stale:
            await self.close()
        if self._wire is None:
            self._wire = await self._address.connect()
        return self._wire

    def _check_size(self, wire: Wire, size: int, state: str) -> None:
        if size >= wire.max_packet:
            raise StoreRefused(
                f"MySQL at {self._place}: the batch is {size} bytes long and the server takes {wire.max_packet};"
                f" raise max_allowed_packet there; {state}"
            )

    def _unavailable(self, broken: Broken, state: str) -> StoreUnavailable:
        return unavailable(self._place, broken.error, state)

    def _unknown(self, broken: Broken) -> CommitUnknown:
        return CommitUnknown(f"MySQL at {self._place}: {reason(broken.error)}; the batch is there or it is not")


def _steps(batch: Batch, end: bytes, backslash_escapes: bool) -> list[Step]:
    """The batch as the server is told it; a statement alone that nothing guards is a transaction by itself."""
    steps: list[Step] = []
    for statement in batch:
        steps.append(Step(rendered(statement.sql, statement.params, backslash_escapes), statement))
        if statement.touches is not None:
            steps.append(Step(_GUARD % statement.touches, statement, guards=True))
    if len(steps) == 1 and end is _COMMIT:
        return steps
    return [Step(_BEGIN), *steps, Step(end)]
