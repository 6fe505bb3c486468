"""The engines that tests run on, in one list: a fresh database of any of them for one test.

    @pytest.mark.parametrize("engine", engines.ALL)
    async def test_...(engine, tmp_path):
        async with engines.fresh(engine, tmp_path) as dsn: ...

A server is started when a test of the process first asks for it, and serves them all. Where there is none, the test is
skipped; with CI set it fails.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest
import servers_mysql
import servers_postgres
from servers import NoServer, Server

from power_loop.store.open import open_database
from power_loop.store.schema import VERSIONS
from power_loop.store.tables import SCHEMA

IN_PROCESS = ("sqlite", "memory")

# What starts a server for tests, or raises `NoServer`.
STARTERS: dict[str, Callable[[], Server]] = {
    "postgresql": servers_postgres.start,
    "mariadb": servers_mysql.start_mariadb,
    "mysql": servers_mysql.start_mysql,
}
# Not to be had on every machine: skipped in CI too where it is absent.
OPTIONAL = ("mysql",)
SERVERS = tuple(STARTERS)
ALL = (*IN_PROCESS, *SERVERS)
FILES_AND_SERVERS = ("sqlite", *SERVERS)
"""Those that several processes may share."""

# Begins the line that is shown at the end of a run for all tests that were skipped for it.
MISSING = "NO TEST SERVER"

_running: dict[str, Server] = {}
_cleared: dict[str, list[str]] = {}
_numbers = count(1)


@asynccontextmanager
async def fresh(engine: str, folder: Path) -> AsyncIterator[str]:
    """The DSN of an empty database that is gone afterwards. ``:memory:`` is one anew for each that opens it."""
    if engine == "memory":
        yield ":memory:"
    elif engine == "sqlite":
        yield f"sqlite:///{folder / 'app.db'}"
    else:
        running, database = server(engine), f"test_{os.getpid()}_{next(_numbers)}"
        await running.create(database)
        try:
            yield running.dsn(database)
        finally:
            await running.drop(database)


@asynccontextmanager
async def cleared(engine: str, folder: Path) -> AsyncIterator[str]:
    """The DSN of a database without a row, for tests that leave its schema alone. On a server it has our schema, and was used before."""
    if engine in IN_PROCESS:
        async with fresh(engine, folder) as dsn:
            yield dsn
        return
    running, stock = server(engine), _cleared.setdefault(engine, [])
    database = stock.pop() if stock else await _made(running)
    try:
        yield running.dsn(database)
    finally:
        try:
            await running.clear(database, [table for table in SCHEMA.columns("pl_") if not table.endswith(VERSIONS)])
            stock.append(database)
        except Exception:  # the driver's: a test may leave a database in any state
            await running.drop(database)


async def _made(running: Server) -> str:
    database = f"made_{os.getpid()}_{next(_numbers)}"
    await running.create(database)
    await (await open_database(running.dsn(database))).database.close()
    return database


def server(engine: str) -> Server:
    """The running server; skips the test, or in CI fails it, where there is none."""
    if engine not in _running:
        try:
            _running[engine] = STARTERS[engine]()
        except NoServer as error:
            text = f"{MISSING} for {engine}: {error}"
            if _must_be_there(engine):
                pytest.fail(text, pytrace=False)
            pytest.skip(text)
    return _running[engine]


def own(engine: str) -> Server:
    """The running server, where it is ours to change and to kill; else the test is skipped."""
    running = server(engine)
    if running.pid is None:
        pytest.skip("somebody else's server is not ours to change")
    return running


def is_there(engine: str) -> bool:
    """There is such a server, for tests that do with those that there are; in CI the test fails without one."""
    try:
        server(engine)
    except pytest.skip.Exception:
        return False
    return True


def _must_be_there(engine: str) -> bool:
    return bool(os.environ.get("CI")) and engine not in OPTIONAL


@atexit.register
def stop_servers() -> None:
    """At the end of a session, before it looks for what was left running."""
    _cleared.clear()
    while _running:
        _running.popitem()[1].stop()
