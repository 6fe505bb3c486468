"""Batches that change the schema. MySQL commits at every such statement, so they cannot be all or nothing by a transaction.

Instead: one process at a time, under a lock of the server's; first see that the batch's guards hold; then the schema,
each statement of it harmless to repeat; then all the rest in one transaction. So the version row is written last,
and whoever comes after a crash in between finds the version of before and does the whole again.
"""

from __future__ import annotations

from collections.abc import Sequence

from power_loop.contracts.store import Batch, Statement
from power_loop.store.mysql_errors import DUPLICATE_COLUMN
from power_loop.store.mysql_wire import Broken, Wire

# Statements that commit implicitly (dev.mysql.com, "Statements That Cause an Implicit Commit"), as far as anybody sends them here.
_WORDS = ("CREATE ", "ALTER ", "DROP ", "TRUNCATE ", "RENAME ")

# Longer than eight processes need, one after the other, to find that everything is there.
_LOCK_S = 25


def changes_schema(batch: Batch) -> bool:
    return any(_is_schema(statement) for statement in batch)


def parted(batch: Batch) -> tuple[list[Statement], list[Statement]]:
    """What changes the schema, and what a transaction can hold."""
    return [each for each in batch if _is_schema(each)], [each for each in batch if not _is_schema(each)]


async def lock_schema(wire: Wire) -> bool:
    """False when another process keeps it. It ends with the connection. Raises `Broken`."""
    return await wire.rows(b"SELECT GET_LOCK(LEFT(CONCAT('power_loop ', DATABASE()), 64), %d)" % _LOCK_S) == [(1,)]


async def change_schema(wire: Wire, texts: Sequence[bytes]) -> None:
    """Run the statements, each for itself; a column that is there already is what was wanted. Raises `Broken`."""
    for text in texts:
        try:
            await wire.run([text])
        except Broken as broken:
            if broken.code != DUPLICATE_COLUMN:
                raise


def _is_schema(statement: Statement) -> bool:
    return statement.sql.lstrip().upper().startswith(_WORDS)
