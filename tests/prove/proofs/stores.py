"""A fresh store on any engine, with the event loop that it is used from."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple

import engines

from power_loop.store.memory import MemoryDatabase
from power_loop.store.sql_store import SessionStore
from proofs.io_faults import quick_folder

_numbers = count(1)


class Ready(NamedTuple):
    engine: str
    dsn: str
    folder: Path
    store: SessionStore
    runner: asyncio.Runner


@contextmanager
def ready(engine: str, options: str = "") -> Iterator[Ready]:
    """An open store on a database of its own, gone afterwards; ``options`` go into the DSN. Skips where there is no such server."""
    with asyncio.Runner() as runner, database(engine, runner) as (dsn, folder):
        dsn += options
        store = runner.run(_open(dsn))
        try:
            yield Ready(engine, dsn, folder, store, runner)
        finally:
            runner.run(store.close())


async def _open(dsn: str) -> SessionStore:
    return SessionStore(MemoryDatabase.with_schema(), MemoryDatabase.dialect) if dsn == ":memory:" else await SessionStore.open(dsn)


@contextmanager
def database(engine: str, runner: asyncio.Runner) -> Iterator[tuple[str, Path]]:
    """(the DSN of an empty database, a folder)"""
    folder = quick_folder()
    name = f"prove_{os.getpid()}_{next(_numbers)}"
    try:
        if engine == "memory":
            yield ":memory:", folder
        elif engine == "sqlite":
            yield f"sqlite:///{folder}/app.db", folder
        else:
            server = engines.server(engine)
            runner.run(server.create(name))
            try:
                yield server.dsn(name), folder
            finally:
                runner.run(server.drop(name))
    finally:
        shutil.rmtree(folder)
