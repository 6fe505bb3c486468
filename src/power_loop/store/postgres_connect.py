"""Reaching a PostgreSQL server: what of a DSN is the driver's, what every session is told, and how long we try."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from power_loop.contracts.errors import StoreUnavailable
from power_loop.store.dsn import Dsn, host_and_port
from power_loop.store.postgres_driver import Connection, PostgresError, code_of, connect

# Times in ms, as the server reads them (postgresql.org/docs/current/runtime-config-client.html and ...-connection.html). A
# batch takes milliseconds; these are for what went wrong: a holder of a lock that hangs, a client that is gone without a word.
_SESSION = {
    "lock_timeout": "10000",
    "statement_timeout": "30000",
    "idle_in_transaction_session_timeout": "15000",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "default_transaction_isolation": "read committed",
}

# Longer than a statement may take there: who hears nothing by then takes the line for cut.
PATIENCE_S = 40.0
CONNECT_S = 10.0

# A server that restarts is back within seconds; a connection that worked before is worth the wait.
COMES_BACK_S = 3.0
_TRY_AGAIN_S = 0.05

_HANG_UP_S = 2.0
_MOST_LINES = 10

# Of the driver's own numbers, those that a DSN may set; behind a pooler statement_cache_size must be 0.
_NUMBERS = frozenset(("statement_cache_size", "max_cached_statement_lifetime", "max_cacheable_statement_size"))
_OURS = frozenset(("pool_max", "connect_timeout", "command_timeout")) | _NUMBERS

# `08P01` is what a pooler answers to settings that it does not know, `57P03` a server that is starting or ending.
_UNKNOWN_SETTING, _NOT_YET = "08P01", "57P03"


class Address:
    """Where the server is and how it is spoken to. Its text is for people; the password is not in it.

    Raises ValueError for an option whose value is no number, where it must be one.
    """

    def __init__(self, dsn: Dsn) -> None:
        options = dsn.options
        self._dsn, self._hosts = dsn, _hosts(dsn)
        self.most_lines: int = max(1, int(_number(options, "pool_max", _MOST_LINES)))
        self.patience_s: float = _number(options, "command_timeout", PATIENCE_S)
        self._connect_s = _number(options, "connect_timeout", CONNECT_S)
        self._numbers = {name: int(_number(options, name, 0)) for name in _NUMBERS if name in options}
        self._query = urlencode({name: value for name, value in options.items() if name not in _OURS})
        self.name: str = options.get("application_name") or f"power-loop {os.getpid()}-{os.urandom(4).hex()}"
        self._settings = {name: value for name, value in {**_SESSION, "application_name": self.name}.items() if name not in options}

    def __str__(self) -> str:
        dsn = self._dsn
        return f"{dsn.server or dsn.options.get('host') or 'localhost'}:{dsn.port or dsn.options.get('port') or 5432}/{dsn.database}"

    async def connect(self, *, patiently: bool) -> Connection:
        """A connection. ``patiently``: wait a little for a server that is not there. Raises what the driver raises."""
        clock = asyncio.get_running_loop().time
        deadline, wait_s = clock() + COMES_BACK_S, _TRY_AGAIN_S
        while True:
            try:
                return await self._connect()
            except (OSError, PostgresError) as error:
                absent = isinstance(error, OSError) or code_of(error) == _NOT_YET
                if not (patiently and absent and clock() + wait_s < deadline):
                    raise
            await asyncio.sleep(wait_s)
            wait_s *= 2

    async def hang_up(self, connection: Connection) -> None:
        """Say goodbye where that is possible. Never raises."""
        try:
            await connection.close(timeout=_HANG_UP_S)
        except Exception:  # the driver's: what it raises for a broken connection is open-ended
            connection.terminate()

    async def _connect(self) -> Connection:
        try:
            return self._sound(await self._open(self._settings))
        except PostgresError as error:
            if code_of(error) != _UNKNOWN_SETTING or not self._settings:
                raise
        # A pooler that knows no such settings: then those of the role count, see the guide.
        connection = self._sound(await self._open({}))
        self._settings = {}
        return connection

    def _sound(self, connection: Connection) -> Connection:
        """Raises `StoreUnavailable` for a database that lacks characters: what a model was paid for could not be kept."""
        encoding = getattr(connection.get_settings(), "server_encoding", "UTF8")  # a proxy may not say
        if encoding in ("UTF8", "SQL_ASCII"):
            return connection
        connection.terminate()
        raise StoreUnavailable(f"PostgreSQL at {self}: its encoding {encoding} lacks characters; make a database with ENCODING 'UTF8'")

    async def _open(self, settings: Mapping[str, str]) -> Connection:
        dsn = self._dsn
        given: dict[str, Any] = {**self._hosts, "user": dsn.user, "password": dsn.password, "database": dsn.database}
        return await connect(
            f"postgresql:///?{self._query}",  # the driver reads its own options best
            **{name: value for name, value in given.items() if value},
            **self._numbers,
            timeout=self._connect_s,
            server_settings=dict(settings) or None,
        )


def _hosts(dsn: Dsn) -> dict[str, Any]:
    """Of several servers, behind commas, the driver takes the first that is as ``target_session_attrs`` wants it."""
    if "," not in dsn.host:
        return {"host": dsn.server, "port": dsn.port}
    written = dsn.host if dsn.port is None else f"{dsn.host}:{dsn.port}"
    found = [Dsn("postgresql", host=host, port=port) for host, port in map(host_and_port, written.split(","))]
    return {"host": [each.server for each in found], "port": [each.port or 5432 for each in found]}


def _number(options: Mapping[str, str], name: str, otherwise: float) -> float:
    try:
        return float(options.get(name, otherwise))
    except ValueError:
        raise ValueError(f"postgresql option {name}: {options[name]!r} is no number") from None
