"""The database servers that figures are taken on: started for it, and stopped."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from report import Report
from servers import NoServer
from servers_mysql import Mysql, mariadb_build, mysql_build
from servers_postgres import Postgres

# What each keeps of its data in memory as it comes; the tests' servers make do with half of it.
MEMORY = "128MB"
# Each takes whether it syncs.
START: dict[str, Callable[[bool], Any]] = {
    "PostgreSQL": lambda fsync: Postgres(fsync=fsync, shared_buffers=MEMORY),
    "MariaDB": lambda fsync: Mysql(mariadb_build(), fsync=fsync, innodb_buffer_pool_size=MEMORY.removesuffix("B")),
    "MySQL": lambda fsync: Mysql(mysql_build(), fsync=fsync, innodb_buffer_pool_size=MEMORY.removesuffix("B")),
}


async def on_each(report: Report, engines: Iterable[str], work: Callable[[str, Any], Awaitable[None]], *, fsync: bool = True) -> None:
    """Await ``work(engine, server)`` on each server; one that is not installed is said to be not measured."""
    for engine in engines:
        try:
            server = START[engine](fsync)
        except NoServer as error:
            report.add(engine, "not measured", str(error))
            continue
        try:
            await work(engine, server)
        finally:
            server.stop()
