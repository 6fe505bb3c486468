"""A PostgreSQL for tests: found on the machine, started in a temporary folder on a random port, thrown away afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from servers import Leashed, NoServer, Server, as_user, folder_for, free_port, renamed, user_to_run_as, wait_until

from power_loop.store.dsn import parse_dsn

DSN = "POWER_LOOP_TEST_PG_DSN"

# This user needs no password, so that connecting is quick; every other role has to give one.
USER = "kernel"
_WHO_MAY_ENTER = f"host all {USER} 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "64MB",
    "max_connections": "200",
    "jit": "off",
    "timezone": "UTC",
}
_CARELESS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def start() -> Server:
    """A server to run tests on: the one that the environment names, else one of our own. Raises `NoServer`."""
    named = os.environ.get(DSN)
    return NamedPostgres(named) if named else Postgres()


class _Databases:
    """Making and dropping databases through a connection to ``postgres``."""

    def dsn(self, database: str) -> str:
        raise NotImplementedError

    async def run(self, *statements: str, database: str = "postgres") -> None:
        """Run each statement as the server's first user."""
        import asyncpg

        connection = await asyncpg.connect(self.dsn(database))
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def create(self, database: str) -> None:
        await self.run(f'CREATE DATABASE "{database}" TEMPLATE template0')

    async def clear(self, database: str, tables: Sequence[str]) -> None:
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        await self.run("SET lock_timeout = '5s'", others, "; ".join(f"DELETE FROM {table}" for table in tables), database=database)

    async def drop(self, database: str) -> None:
        await self.run(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')


class NamedPostgres(_Databases):
    """Somebody else's server; its user may create databases."""

    pid = None

    def __init__(self, dsn: str) -> None:
        self._dsn = parse_dsn(dsn)

    def dsn(self, database: str) -> str:
        return renamed(self._dsn, "postgresql", database)

    def stop(self) -> None:
        """It goes on."""


class Postgres(_Databases):
    """A server of our own, running from now on. With ``fsync`` it survives power loss, as in production; else it is quick."""

    def __init__(self, *, fsync: bool = False, **settings: str) -> None:
        self._programs = _programs()
        self._user = user_to_run_as("postgres")
        self.folder = folder_for(self._user, "power-loop-pg-")
        self.log = self.folder / "log"
        self._settings = _SETTINGS | ({} if fsync else _CARELESS) | settings
        self._make()
        self.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def dsn(self, database: str) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it, also once more after `kill`, on the same port."""
        self._process = Leashed([self._programs / "postgres", "-D", self.folder / "data"], user=self._user, log=self.log, ends_by="QUIT")
        wait_until(lambda: self._is_ready() or self._process.ended, "the start of PostgreSQL", self.log)
        assert not self._process.ended, self.log.read_text()[-2000:]

    def kill(self) -> None:
        """Kill the main process; its children end by themselves, and a start before that fails."""
        children = _children(self.pid)
        self._process.kill()
        wait_until(lambda: not any(_is_alive(child) for child in children), "the end of PostgreSQL", self.log)

    def stop(self) -> None:
        self._process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make(self) -> None:
        initdb = [self._programs / "initdb", "-D", self.folder / "data", "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        made = subprocess.run([*initdb, "--no-instructions"], capture_output=True, text=True, check=False, cwd="/", **as_user(self._user))
        assert made.returncode == 0, made.stderr
        self.port = free_port()
        (self.folder / "data" / "pg_hba.conf").write_text(_WHO_MAY_ENTER)
        with (self.folder / "data" / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in {**self._settings, "port": str(self.port)}.items())

    def _is_ready(self) -> bool:
        # The eighth line of the lock file is the server's state (storage/pidfile or miscadmin.h of PostgreSQL: LOCK_FILE_LINE_PM_STATUS).
        try:
            lines = (self.folder / "data" / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"


def _programs() -> Path:
    """Where the server's programs are: the newest that Debian installed, else the one on the PATH. Raises `NoServer`."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    found = str(debian[-1]) if debian else shutil.which("postgres")
    if found is None:
        raise NoServer(f"there is no PostgreSQL: install one (`make servers` on Debian), or name one in {DSN}")
    return Path(found).resolve().parent


def _children(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return [int(child) for child, parent in map(str.split, listed.splitlines()) if int(parent) == pid]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
