"""Care for the database as a whole, while sends run: write the log back, give room back, copy it.

An engine that is a file does it; servers look after themselves, and have tools of their own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from power_loop.store.part import Part

MODES = ("PASSIVE", "FULL", "RESTART", "TRUNCATE")

# Whoever held something when a copy was made holds nothing in the copy: it would only be waited for there.
LET_GO = (
    "UPDATE {p}sessions SET lease_until = 1 WHERE holder IS NOT NULL",
    "UPDATE {p}sessions SET claimed_until = 1, runnable_at = MIN(runnable_at, 1) WHERE claim IS NOT NULL",
    "DELETE FROM {p}waiters",
)


@runtime_checkable
class CaredFor(Protocol):
    """A database that has to be looked after from here."""

    async def write_back(self, mode: str) -> None: ...

    async def shrink(self, *, in_steps: bool) -> int: ...

    async def copy_to(self, path: str, *, overwrite: bool, then: Sequence[str] = ()) -> None: ...


class Care(Part):
    """What an operator does to the database."""

    async def checkpoint(self, mode: str = "TRUNCATE") -> None:
        """Write the log back into the file; with ``TRUNCATE`` it is empty afterwards. On a server: nothing."""
        if mode.upper() not in MODES:
            raise ValueError(f"checkpoint takes {', '.join(MODES)}, not {mode!r}")
        if isinstance(self._database, CaredFor):
            await self._database.write_back(mode.upper())

    async def vacuum(self, *, incremental: bool = True) -> int:
        """Give free pages back to the file system; how many bytes. On a server: 0.

        Incremental goes in small steps between other writes. The full form rewrites the file, packs it more tightly,
        and holds up writers for as long as that takes.
        """
        database = self._database
        return await database.shrink(in_steps=incremental) if isinstance(database, CaredFor) else 0

    async def backup(self, dest_path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """A copy of the whole database at one moment, in one file, while sends go on.

        A send that was under way is in the copy as one whose process died: nobody waits there for its lease.
        Raises `FileExistsError` unless ``overwrite``, `StoreUnavailable` when it cannot be written (nothing is left then), and
        `ValueError` on a server, which has tools of its own for it.
        """
        if not isinstance(self._database, CaredFor):
            raise ValueError("backup copies SQLite databases; for a server use its own tool: pg_dump, mysqldump or mariadb-dump")
        await self._database.copy_to(os.fspath(dest_path), overwrite=overwrite, then=[self._sql(text) for text in LET_GO])
