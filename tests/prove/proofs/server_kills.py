"""A server that ends connections, loses the process behind one, or is killed and started again, at every batch of a talk."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from typing import Any

import servers_mysql
import servers_postgres
from servers import NoServer

from power_loop.contracts.errors import PowerLoopError, StoreUnavailable
from power_loop.contracts.store import Batch, Database, Row
from power_loop.store.open import open_database
from proofs.facts import look_at
from proofs.io_faults import quick_folder
from proofs.network import LEASE_S, WORDS, talk_here
from proofs.suite import Missing, Suite
from proofs.talker import Watched

Case = tuple[int, str, str]
"""At which batch, from 1; before it or while it is on its way; what happens."""

DATABASE = "prove"
BACK_S, LOOK_AGAIN_S = 60.0, 0.05
HOWS = {"postgresql": ("end", "kill", "restart"), "mariadb": ("end", "restart"), "mysql": ("end", "restart")}


class Struck:
    """A database to whose server something happens at one batch."""

    def __init__(self, inner: Database, at: int, when: str, strike: Callable[[], Awaitable[None]]) -> None:
        self._inner, self._at, self._when, self._strike = inner, at, when, strike
        self.batches = 0

    async def read(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        return await self._inner.read(sql, params)

    async def write(self, batch: Batch) -> None:
        self.batches += 1
        now = self.batches == self._at
        if now and self._when == "before":
            await self._strike()
        writing = asyncio.ensure_future(self._inner.write(batch))
        if now and self._when == "during":
            await self._strike()
        await writing

    async def close(self) -> None:
        await self._inner.close()


class ServerKills(Suite):
    """On a server of its own, which keeps what it confirmed as one in production does; a careless one does not."""

    def __init__(self, engine: str, *, careless: bool = False) -> None:
        self.name = f"server kills ({engine})"
        self._engine, self._careless = engine, careless
        self._talks = self.batches = 0

    def open(self, stack: ExitStack) -> None:
        try:
            self._server = _start(self._engine, not self._careless)
        except NoServer as error:
            raise Missing(f"NO TEST SERVER for {self._engine}: {error}") from error
        stack.callback(self._server.stop)
        self._folder = quick_folder()
        stack.callback(shutil.rmtree, self._folder)
        self._runner = stack.enter_context(asyncio.Runner())
        self._runner.run(self._server.create(DATABASE))
        self._runner.run(self._talk(self._job(), 0, "", ""))

    def cases(self) -> list[Case]:
        times = [(at, when) for at in range(1, self.batches + 1) for when in ("before", "during")]
        return [(at, when, how) for how in HOWS[self._engine] for at, when in times]

    def run(self, case: Case) -> list[str]:
        return self._runner.run(self._struck(*case))

    async def _struck(self, at: int, when: str, how: str) -> list[str]:
        job = self._job()
        try:
            await self._talk(job, at, when, how)
        except StoreUnavailable:
            pass
        except PowerLoopError as error:
            return [f"its caller got {error!r}"]
        await self._until_it_is_back()
        wrong = [f"after the strike: {text}" for text in await self._look(job)]
        await self._talk(job, 0, "", "")
        return wrong + [f"after the next one: {text}" for text in await self._look(job, at_rest=True)]

    async def _talk(self, job: dict[str, Any], at: int, when: str, how: str) -> None:
        struck: list[Struck] = []

        async def open_it() -> Watched:
            opened = await open_database(job["dsn"])
            struck.append(Struck(opened.database, at, when, lambda: self._strike(how)))
            return Watched(struck[0], opened.dialect, opened.prefix)

        await talk_here(job, open_it)
        self.batches = self.batches or struck[0].batches

    async def _look(self, job: dict[str, Any], at_rest: bool = False) -> list[str]:
        return await look_at(self._folder / job["session"], job["dsn"], job["session"], at_rest=at_rest)

    def _job(self) -> dict[str, Any]:
        self._talks += 1
        folder = self._folder / f"s{self._talks}"
        folder.mkdir()
        return {"folder": str(folder), "dsn": self._server.dsn(DATABASE), "session": folder.name, "words": WORDS, "lease_ttl_s": LEASE_S}

    async def _until_it_is_back(self) -> None:
        """A server that lost a process recovers on its own; a first connection does not wait for that."""
        deadline = time.monotonic() + BACK_S
        while True:
            try:
                await (await open_database(self._server.dsn(DATABASE))).database.close()
                return
            except StoreUnavailable:
                assert time.monotonic() < deadline, f"the server did not come back within {BACK_S:g} s"
                await asyncio.sleep(LOOK_AGAIN_S)

    # --- what happens to the server ---------------------------------------------------------------------

    async def _strike(self, how: str) -> None:
        if how == "restart":
            self._server.kill()
            self._server.start()
        elif isinstance(self._server, servers_mysql.Mysql):
            ours = f"SELECT id FROM information_schema.processlist WHERE db = '{DATABASE}'"
            for (connection,) in await self._server.run(ours):
                await self._server.run(f"KILL {connection}")
        else:
            await self._end_backends(how)

    async def _end_backends(self, how: str) -> None:
        import asyncpg

        connection = await asyncpg.connect(self._server.dsn("postgres"))
        try:
            found = await connection.fetch("SELECT pid FROM pg_stat_activity WHERE datname = $1", DATABASE)
            for (pid,) in found:
                if how == "kill":
                    os.kill(pid, signal.SIGKILL)  # the server then ends all its connections and recovers
                else:
                    await connection.execute("SELECT pg_terminate_backend($1)", pid)
        finally:
            connection.terminate()


def _start(engine: str, fsync: bool) -> servers_postgres.Postgres | servers_mysql.Mysql:
    """Raises `NoServer`."""
    if engine == "postgresql":
        return servers_postgres.Postgres(fsync=fsync)
    return servers_mysql.Mysql(servers_mysql.mariadb_build() if engine == "mariadb" else servers_mysql.mysql_build(), fsync=fsync)
