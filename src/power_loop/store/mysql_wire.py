"""One open connection to a MySQL server: how its session is set up, and how statements go there and results come back.

What an error means for a batch is decided in `mysql_line`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any

from power_loop.contracts.errors import StoreUnavailable
from power_loop.contracts.store import Row
from power_loop.store.mysql_driver import DECODERS, Connection, OnlyWithTls
from power_loop.store.mysql_errors import code_of, unavailable
from power_loop.store.mysql_settings import Settings

CONNECT_S = 10.0

# A server that restarts is back within seconds; a connection that worked before is worth the wait.
COMES_BACK_S = 3.0
_TRY_AGAIN_S = 0.05

_HANG_UP_S = 1.0

# It ends, it cannot be reached, it hung up in the middle of the greeting.
_ABSENT = frozenset((1053, 2003, 2013))

# How long the server may take to answer, beyond what it may wait for locks.
ANSWER_S = 30.0

# Capability bit of the protocol (dev.mysql.com, "Capabilities Flags"): an UPDATE counts the rows that it found, also
# those that it leaves as they are.
_FOUND_ROWS = 1 << 1
# Status bit: the session reads a backslash in a string as a backslash.
_NO_BACKSLASH_ESCAPES = 1 << 9

# Quotes, backslashes and || mean here what they mean to the other engines; nothing is cut to fit or made up; a query
# is as strict about GROUP BY as elsewhere.
_SQL_MODE = "ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES,STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ONLY_FULL_GROUP_BY"

# A client that vanished without a word loses its locks after this long: MariaDB ends idle transactions, both end idle sessions.
_IDLE_TRANSACTION_S, _IDLE_SESSION_S = 15, 75

_ASKED = ("version", "max_allowed_packet", "wsrep_on")


class Broken(Exception):
    """A statement failed, or the connection did. ``at``: how many statements of the text had succeeded by then."""

    at: int
    error: Exception

    def __init__(self, at: int, error: Exception) -> None:
        super().__init__(at, error)
        self.at, self.error = at, error

    @property
    def code(self) -> int:
        return code_of(self.error)

    @property
    def answered(self) -> bool:
        """The server itself said no, so the connection stands and the statement had no effect."""
        return bool(self.code) and not 2000 <= self.code < 3000


class Wire:
    """Made by `connect`. Not for two tasks at once."""

    def __init__(self, connection: Any, settings: Settings, max_packet: int) -> None:
        self._connection, self._settings = connection, settings
        self.max_packet = max_packet
        """The longest text that the server takes, in bytes."""

    @property
    def backslash_escapes(self) -> bool:
        """As the server said it with its last answer."""
        return not self._connection.server_status & _NO_BACKSLASH_ESCAPES

    @property
    def stale(self) -> bool:
        """It was closed, by us or by the server; a server may say why before it hangs up, and nothing else speaks unasked."""
        if self._connection.closed:
            return True
        reader = self._connection._reader
        return bool(reader.at_eof() or reader.eof_received or reader.exception() or reader._buffer)

    async def rows(self, text: bytes) -> list[Row]:
        """The rows of one SELECT. Raises `Broken`."""
        try:
            async with asyncio.timeout(ANSWER_S + self._settings.lock_wait_s):
                await self._connection.query(text)
        except Exception as error:  # the driver's: it lets through whatever socket, TLS and its own parser raise
            raise self._broken(0, error) from error
        return list(self._connection._result.rows or ())

    async def run(self, texts: Sequence[bytes]) -> list[int]:
        """Send the statements in one text; how many rows each touched. The first that fails is the last that is run. Raises `Broken`."""
        counts: list[int] = []
        connection = self._connection
        try:
            async with asyncio.timeout(ANSWER_S + self._settings.lock_wait_s):
                await connection.query(b"\n;".join(texts))
                counts.append(connection.affected_rows())
                while connection._result.has_next:
                    await connection.next_result()
                    counts.append(connection.affected_rows())
        except Exception as error:  # the driver's, as above
            raise self._broken(len(counts), error) from error
        return counts

    def _broken(self, at: int, error: Exception) -> Broken:
        broken = Broken(at, error)
        if not broken.answered:
            self._connection.close()
        return broken

    async def hang_up(self) -> None:
        """Say goodbye where that is possible. Never raises."""
        writer = self._connection._writer
        if writer is None:
            return
        try:
            async with asyncio.timeout(_HANG_UP_S):
                await self._connection.ensure_closed()
                await writer.wait_closed()
        except Exception:  # the driver's: there is nobody to tell
            self._connection.close()


class Address:
    """Where connections come from; shared by all lines of a database."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._reached = False

    async def connect(self) -> Wire:
        """A connection; where one worked before, a server that is not there is waited for a little. Raises `StoreUnavailable`."""
        clock = asyncio.get_running_loop().time
        deadline, wait_s = clock() + COMES_BACK_S, _TRY_AGAIN_S
        while True:
            try:
                wire = await connect(self.settings)
            except StoreUnavailable as error:
                absent = error.__cause__ is not None and code_of(error.__cause__) in _ABSENT
                if not (self._reached and absent and clock() + wait_s < deadline):
                    raise
            else:
                self._reached = True
                return wire
            await asyncio.sleep(wait_s)
            wait_s *= 2


async def connect(settings: Settings) -> Wire:
    """A connection whose session means what we mean. Raises `StoreUnavailable`."""
    state = "nothing was read or written"
    connection: Any = None
    try:
        context = settings.tls.context() if settings.tls is not None else None
        connection = (Connection if context is None else OnlyWithTls)(
            host=settings.host, port=settings.port, user=settings.user, password=_spelt(settings.password), db=settings.database,
            charset="utf8mb4", client_flag=_FOUND_ROWS, autocommit=None, conv=DECODERS, ssl=context, connect_timeout=CONNECT_S,
            program_name="power-loop", unix_socket=settings.socket,
        )  # fmt: skip
        async with asyncio.timeout(CONNECT_S):
            await connection._connect()
            variables = await _begin(connection, settings)
        if why := refusal(variables, settings.allow_galera):
            raise StoreUnavailable(f"MySQL at {settings.place}: {why}; {state}")
    except Exception as error:  # the driver's: it lets through whatever socket, TLS and its own parser raise
        if connection is not None:
            connection.close()
        raise error if isinstance(error, StoreUnavailable) else unavailable(settings.place, error, state) from error
    return Wire(connection, settings, int(variables["max_allowed_packet"]))


async def _begin(connection: Any, settings: Settings) -> dict[str, str]:
    """Set the session up in one trip, and learn what server it is."""
    wait_s = settings.lock_wait_s
    asked = ", ".join(f"'{name}'" for name in _ASKED)
    await connection.query(
        f"SET NAMES utf8mb4, SESSION sql_mode = '{_SQL_MODE}', SESSION autocommit = 1, SESSION completion_type = 'NO_CHAIN',"
        " SESSION sql_select_limit = 18446744073709551615, SESSION sql_big_selects = 1,"
        f" SESSION wait_timeout = {_IDLE_SESSION_S}, SESSION innodb_lock_wait_timeout = {wait_s}, SESSION lock_wait_timeout = {wait_s}"
        f" /*M! , SESSION idle_transaction_timeout = {_IDLE_TRANSACTION_S} */;"
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;"
        f"SHOW VARIABLES WHERE Variable_name IN ({asked})"
    )
    while connection._result.has_next:
        await connection.next_result()
    return {name.lower(): value for name, value in connection._result.rows}


def refusal(variables: Mapping[str, str], allow_galera: bool) -> str | None:
    """Why this server will not do; None when it will."""
    version = variables["version"]
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    numbers = [int(number) for number in found.groups()] if found else []
    maria = "mariadb" in version.lower()
    if numbers < ([10, 6] if maria else [8, 0, 17]):
        return f"it is version {version}; needed is MariaDB 10.6 or MySQL 8.0.17, or newer"
    if variables.get("wsrep_on", "OFF") in ("ON", "1") and not allow_galera:
        return (
            "it is a Galera cluster, whose nodes may accept writes that are refused later; if all programs write to the same"
            " single node, say so with ?allow_galera=1"
        )
    return None


def _spelt(password: str) -> str:
    """The password's UTF-8 bytes, one character each: the driver encodes it as latin-1, and servers hash what they were given as UTF-8."""
    return password.encode().decode("latin-1")
