"""MariaDB and MySQL for tests: found on the machine, started in a temporary folder on a random port, thrown away afterwards.

MariaDB is what Debian installs. MySQL itself is not in Debian's stable archive; `scripts/real_mysql.sh` unpacks it into a
folder, and where neither that nor an installed one is there, its tests are skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pymysql
from pymysql.cursors import Cursor
from servers import Leashed, NoServer, Server, as_user, folder_for, free_port, renamed, user_to_run_as, wait_until

from power_loop.store.dsn import Dsn, parse_dsn
from power_loop.store.mysql_settings import Settings
from power_loop.store.mysql_wire import Wire, connect

DSN = "POWER_LOOP_TEST_MYSQL_DSN"
ROOT = "POWER_LOOP_TEST_MYSQL_ROOT"
_DEFAULT_ROOT = "/var/tmp/power-loop-mysql"

# This user needs no password, so that connecting is quick.
USER = "kernel"
_FIRST_STATEMENTS = f"""\
CREATE USER IF NOT EXISTS '{USER}'@'127.0.0.1';
GRANT ALL ON *.* TO '{USER}'@'127.0.0.1' WITH GRANT OPTION;
"""

_SETTINGS = {
    "bind-address": "127.0.0.1",
    "skip-log-bin": "1",
    "skip-name-resolve": "1",
    "innodb-buffer-pool-size": "64M",
    "innodb-use-native-aio": "0",
    "performance-schema": "OFF",
    "max-connections": "200",
    # Nobody should depend on what the server's settings happen to be.
    "transaction-isolation": "SERIALIZABLE",
    "default-time-zone": "+05:00",
    "sql-mode": "",
}
_CARELESS = {"innodb-flush-log-at-trx-commit": "0", "innodb-doublewrite": "OFF"}


class Build(NamedTuple):
    """A server's programs: how the server is called, and how an empty data folder is made."""

    name: str
    serve: list[str]
    initialise: Callable[[Path], list[str]]


def start_mariadb() -> Server:
    """A MariaDB to run tests on: the one that the environment names, else one of our own. Raises `NoServer`."""
    return _named(mariadb=True) or Mysql(mariadb_build())


def start_mysql() -> Server:
    """The same, of MySQL itself."""
    return _named(mariadb=False) or Mysql(mysql_build())


# --- somebody else's ------------------------------------------------------------------------------------


def _named(*, mariadb: bool) -> Server | None:
    named = os.environ.get(DSN)
    server = NamedMysql(named) if named else None
    return server if server is not None and server.is_mariadb() == mariadb else None


class _Databases:
    """Making and dropping databases, and whatever else a test wants of the server."""

    def dsn(self, database: str) -> str:
        raise NotImplementedError

    def at_once(self, statement: str) -> list[tuple[object, ...]]:
        """Run one statement as the test's user; its rows."""
        with pymysql.connect(**_address(parse_dsn(self.dsn("")))) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    async def run(self, *statements: str) -> list[tuple[object, ...]]:
        """Run the statements; the rows of the last."""
        rows: list[tuple[object, ...]] = []
        for statement in statements:
            rows = self.at_once(statement)
        return rows

    async def create(self, database: str) -> None:
        await self.run(f"CREATE DATABASE `{database}`")

    async def clear(self, database: str, tables: Sequence[str]) -> None:
        with self._alone(database) as cursor:
            cursor.execute("SET innodb_lock_wait_timeout = 5; " + "; ".join(f"DELETE FROM `{database}`.{table}" for table in tables))
            while cursor.nextset():
                pass

    async def drop(self, database: str) -> None:
        with self._alone(database) as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS `{database}`")

    @contextmanager
    def _alone(self, database: str) -> Iterator[Cursor]:
        """A cursor, when nobody is connected to the database. One in the middle of a transaction would hold everything up."""
        flags = pymysql.constants.CLIENT.MULTI_STATEMENTS
        with pymysql.connect(**_address(parse_dsn(self.dsn(""))), client_flag=flags) as connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT id FROM information_schema.processlist WHERE db = '{database}'")
            for (other,) in cursor.fetchall():
                with suppress(pymysql.err.OperationalError):  # it ended by itself meanwhile
                    cursor.execute(f"KILL {other}")
            yield cursor


class NamedMysql(_Databases):
    """Somebody else's server; its user may create databases."""

    pid = None

    def __init__(self, dsn: str) -> None:
        self._dsn = parse_dsn(dsn)

    def dsn(self, database: str) -> str:
        return renamed(self._dsn, "mysql", database)

    def is_mariadb(self) -> bool:
        return "MariaDB" in str(self.at_once("SELECT VERSION()")[0][0])

    def stop(self) -> None:
        """It goes on."""


# --- our own ---------------------------------------------------------------------------------------------


class Mysql(_Databases):
    """A server of our own, running from now on. With ``fsync`` it survives power loss, as in production; else it is quick."""

    def __init__(self, build: Build, *, fsync: bool = False, **settings: str) -> None:
        self.build = build
        self._user = user_to_run_as("mysql")
        self.folder = folder_for(self._user, f"power-loop-{build.name}-")
        self.log = self.folder / "log"
        self.port = free_port()
        careless = {} if fsync else _CARELESS
        self._settings = _SETTINGS | careless | {name.replace("_", "-"): value for name, value in settings.items()}
        self._make()
        self.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def dsn(self, database: str) -> str:
        return f"mysql://{USER}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it, also once more after `kill`, on the same port."""
        given = {
            "port": str(self.port),
            "socket": str(self.folder / "socket"),
            "pid-file": str(self.folder / "pid"),
            # A server that starts clears its folder for temporary tables, also of those that another one has in use.
            "tmpdir": str(self.folder),
        }
        settings = [f"--{name}={value}" for name, value in {**self._settings, **given}.items()]
        command = [*self.build.serve, f"--datadir={self.folder / 'data'}", f"--init-file={self.folder / 'first.sql'}", *settings]
        # Its data are thrown away, so nothing has to be tidied up at the end.
        self._process = Leashed(command, user=self._user, log=self.log, ends_by="KILL")
        wait_until(lambda: self._is_ready() or self._process.ended, f"the start of {self.build.name}", self.log)
        assert not self._process.ended, self.log.read_text(errors="replace")[-2000:]

    def kill(self) -> None:
        self._process.kill()

    def stop(self) -> None:
        self._process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make(self) -> None:
        (self.folder / "first.sql").write_text(_FIRST_STATEMENTS)
        command = [*self.build.initialise(self.folder / "data"), f"--tmpdir={self.folder}"]
        made = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **as_user(self._user))
        assert made.returncode == 0, made.stdout + made.stderr

    def _is_ready(self) -> bool:
        try:
            self.at_once("DO 0")
        except pymysql.err.OperationalError:
            return False
        return True


def mariadb_build() -> Build:
    """Raises `NoServer`."""
    server, installer = _program("mariadbd"), _program("mariadb-install-db")
    if server is None or installer is None:
        raise NoServer(f"there is no MariaDB: install one (`make servers` on Debian), or name one in {DSN}")

    def initialise(data: Path) -> list[str]:
        return [
            installer, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal", "--skip-test-db",
            "--skip-name-resolve",
        ]  # fmt: skip

    return Build("mariadb", [server, "--no-defaults"], initialise)


def mysql_build() -> Build:
    """Raises `NoServer`."""
    root = Path(os.environ.get(ROOT, _DEFAULT_ROOT))
    if (root / "usr/sbin/mysqld").exists():
        serve = _unpacked(root)
    elif (installed := _program("mysqld")) is not None and "MariaDB" not in _version(installed):
        serve = [installed, "--no-defaults"]
    else:
        raise NoServer(f"there is no MySQL itself: `scripts/real_mysql.sh` unpacks one into {root}, or name one in {DSN}")
    serve += ["--mysqlx=OFF", "--secure-file-priv=NULL"]
    return Build("mysql", serve, lambda data: [*serve, f"--datadir={data}", "--initialize-insecure", "--innodb-redo-log-capacity=16M"])


def _unpacked(root: Path) -> list[str]:
    """The call of a server that stands in a folder with libraries of its own: through that folder's loader."""
    libraries = ":".join(str(root / folder) for folder in ("usr/lib/x86_64-linux-gnu", "usr/lib/mysql/private"))
    return [
        str(root / "usr/lib64/ld-linux-x86-64.so.2"), "--library-path", libraries, str(root / "usr/sbin/mysqld"), "--no-defaults",
        f"--basedir={root / 'usr'}", f"--lc-messages-dir={root / 'usr/share/mysql'}", f"--plugin-dir={root / 'usr/lib/mysql/plugin'}",
    ]  # fmt: skip


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:/usr/local/bin:/usr/bin")


def _version(program: str) -> str:
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Wire]:
    """A second program's connection, for statements outside of any batch."""
    wire = await connect(Settings.of(parse_dsn(dsn), 10))
    yield wire
    await wire.hang_up()


def _address(dsn: Dsn) -> dict[str, object]:
    return {
        "host": dsn.host, "port": dsn.port or 3306, "user": dsn.user, "password": dsn.password or "",
        "database": dsn.database or None, "autocommit": True,
        "ssl_disabled": True,  # else all authorities of the machine are read for each connection, which takes longer than most tests
    }  # fmt: skip
