"""PostgreSQL behind the two verbs: what one connection says to the server, and what its answers mean.

A batch is one statement where that is possible (`postgres_text`), else a short transaction. The thread, the queue and
the pool are `server`'s business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from typing import Any, NoReturn, TypeVar

from power_loop.contracts.errors import StoreUnavailable
from power_loop.contracts.store import Batch, CommitUnknown, Conflict, Row, Statement
from power_loop.contracts.watch import Heard
from power_loop.store.database import NOT_READ, NOT_WRITTEN
from power_loop.store.dsn import Dsn
from power_loop.store.postgres_connect import Address
from power_loop.store.postgres_dialect import PostgresDialect
from power_loop.store.postgres_driver import Connection, InterfaceError, PostgresError, code_of, was_never_sent
from power_loop.store.postgres_errors import (
    AGAIN,
    DUPLICATE_KEY,
    NO_SUCH_CHARACTER,
    NOT_AN_INTEGER,
    NOT_SUCH_A_VALUE,
    reason,
    unavailable,
)  # fmt: skip
from power_loop.store.postgres_hints import Grapevine
from power_loop.store.postgres_text import BROKEN_GUARD, Texts
from power_loop.store.server import ServerDatabase

T = TypeVar("T")

_END_OF_LINE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND application_name = $2"

# A batch that the server undid to let others pass is tried again this often.
TRIES = 6

# Classes of SQLSTATE: connection exceptions and interventions of the operator. The latter also holds statements that were
# cancelled on a connection that goes on; to drop it costs a little, to trust one that is being ended may cost more.
_ENDS_THE_CONNECTION = ("08", "57")


class PostgresDatabase(ServerDatabase):
    """The database at ``dsn``. Nothing is connected before the first verb.

    ``pool_max`` connections at most are open at once. Raises ValueError for options that are none.
    """

    dialect: PostgresDialect = PostgresDialect()

    def __init__(self, dsn: Dsn) -> None:
        address = Address(dsn)
        texts = Texts()
        super().__init__(f"PostgreSQL at {address}", lambda: PostgresLine(address, texts), address.most_lines)
        self._grapevine = Grapevine(address, self.read)

    def announce(self, session_id: str) -> None:
        """See `Announces`."""
        self._grapevine.announce(session_id)

    def hear_of_commits(self, heard: Heard) -> Callable[[], None]:
        """See `Announces`."""
        return self._grapevine.hear(heard)


class PostgresLine:
    """One connection, made when it is first needed and again after it was lost."""

    def __init__(self, address: Address, texts: Texts) -> None:
        self._address, self._texts = address, texts
        self._connection: Connection | None = None
        self._pid = 0
        """Of the server's process at the other end; a connection that was cut does not know it any more."""
        self._asked_at: float | None = None
        """When (the event loop's time) the server was asked what it has not answered yet; None: nothing, or there is no hurry."""
        self._watch: asyncio.TimerHandle | None = None
        self._cut = False

    async def close(self) -> None:
        """Hang up. Never raises; the line may be used again."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._address.hang_up(connection)

    # --- reading ----------------------------------------------------------------------------------

    async def read(self, sql: str, params: Sequence[Any]) -> list[Row]:
        """See `Database.read`. A connection that broke meanwhile is replaced, once; where no answer came, that took long enough."""
        text = self._texts.numbered(sql)
        for again in (True, False):
            connection = await self._connected(NOT_READ)
            try:
                found = await self._in_time(connection.fetch(text, *params))
            except Exception as error:  # the driver's: what it raises for a broken connection is open-ended
                _refuse_mistake(connection, error)
                lost, silent = _is_lost(connection, error), isinstance(error, TimeoutError)
                if silent:
                    connection.terminate()  # a read holds no locks there that others wait for
                elif lost:
                    await self._lose(connection)
                if silent or not (lost and again):
                    raise unavailable(str(self._address), error, NOT_READ) from error
            else:
                return [tuple(row) for row in found]
        raise AssertionError("the second try either answers or raises")

    # --- writing -------------------------------------------------------------------------------------

    async def write(self, batch: Batch) -> None:
        """See `Database.write`."""
        if not batch:
            return
        text = self._texts.as_one(tuple((sql, touches) for sql, _, touches in batch))
        tried = 0
        while True:
            connection = await self._connected(NOT_WRITTEN)
            try:
                if text is not None:
                    await self._write_at_once(connection, text, batch)
                else:
                    await self._write_in_turn(connection, batch)
                return
            except _Again as again:
                tried += 1
                if tried == TRIES:
                    raise unavailable(str(self._address), again.reason, NOT_WRITTEN) from again.reason

    async def _write_at_once(self, connection: Connection, text: str, batch: Batch) -> None:
        """One statement is a transaction of its own: what the server answers is final, and no answer tells nothing."""
        params = chain.from_iterable(params for _, params, _ in batch)
        try:
            await self._in_time(connection.fetchval(text, *params))
        except Exception as error:  # the driver's: what it raises for a broken connection is open-ended
            await self._tell(connection, error, may_be_there=True)

    async def _write_in_turn(self, connection: Connection, batch: Batch) -> None:
        try:
            await self._execute(connection, "BEGIN")
            for statement in _joined(batch):
                await self._run(connection, statement)
        except Exception as error:  # the driver's, and a guard that does not hold
            await self._undo(connection)
            await self._tell(connection, error, may_be_there=False)
        try:
            await self._execute(connection, "COMMIT")
        except Exception as error:  # the driver's
            await self._tell(connection, error, may_be_there=True)

    async def _run(self, connection: Connection, statement: Statement) -> None:
        sql, params, touches = statement
        done = await self._execute(connection, self._texts.numbered(sql), *params, patient=_is_plain(statement))
        touched = done.rpartition(" ")[2]
        if touches is not None and touched != str(touches):
            raise Conflict(f"{touched} rows instead of {touches}: {sql[:100]}")

    async def _execute(self, connection: Connection, sql: str, *params: Any, patient: bool = False) -> str:
        # What changes the schema may have to wait for, and work on, whole tables.
        done = connection.execute(sql, *params)
        return await (done if patient else self._in_time(done))

    async def _undo(self, connection: Connection) -> None:
        if connection.is_closed():
            return
        try:
            await self._execute(connection, "ROLLBACK")
        except Exception:  # the driver's: the server undoes what an ended connection leaves
            await self._lose(connection)

    async def _tell(self, connection: Connection, error: Exception, *, may_be_there: bool) -> NoReturn:
        """What the caller learns of an error. Where it is the server's answer, the whole batch was undone."""
        if isinstance(error, Conflict):
            raise error
        _refuse_mistake(connection, error)
        code, text = code_of(error), str(error)
        if _is_lost(connection, error):
            await self._lose(connection)
            if was_never_sent(error):
                raise _Again(error)
            if may_be_there:
                raise CommitUnknown(f"PostgreSQL at {self._address}: {reason(error)}; the batch is there or it is not") from error
        if code in AGAIN:
            raise _Again(error)
        if code == DUPLICATE_KEY:
            raise Conflict(text) from error
        if code == NOT_AN_INTEGER and BROKEN_GUARD in text:
            raise Conflict(text[text.index(BROKEN_GUARD) :].rstrip('"')) from None
        raise unavailable(str(self._address), error, NOT_WRITTEN) from error

    # --- the connection -----------------------------------------------------------------------------------

    async def _connected(self, state: str) -> Connection:
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        lost, self._connection = self._connection, None
        try:
            connection = await self._connect(patiently=lost is not None)
        except Exception as error:  # the driver's, the system's and those of TLS
            if isinstance(error, StoreUnavailable) or (isinstance(error, ValueError) and not isinstance(error, OSError)):
                raise  # what it is, or an option that is none; the errors of TLS are both
            raise unavailable(str(self._address), error, state) from error
        if self._watch is None:
            self._look_after()
        return connection

    async def _connect(self, *, patiently: bool) -> Connection:
        connection = self._connection = await self._address.connect(patiently=patiently)
        self._pid = connection.get_server_pid()
        return connection

    async def _in_time(self, answer: Awaitable[T]) -> T:
        """The answer, or TimeoutError on a line that is cut: what the server does, nobody knows."""
        self._asked_at = asyncio.get_running_loop().time()
        try:
            return await answer
        except Exception as error:
            if not self._cut:
                raise
            raise TimeoutError from error
        finally:
            self._asked_at, self._cut = None, False

    def _look_after(self) -> None:
        """Cut the line when no answer came in time. One timer that looks now and then costs less than one for every statement."""
        loop, patience_s = asyncio.get_running_loop(), self._address.patience_s
        if self._connection is not None and self._asked_at is not None and loop.time() - self._asked_at > patience_s:
            self._cut = True
            self._connection.terminate()
        self._watch = loop.call_later(patience_s / 4, self._look_after)

    async def _lose(self, connection: Connection) -> None:
        """Drop it, and have the server drop its end too: a cut line may hold its locks there for long."""
        if self._connection is not connection:
            return  # an attempt to undo has dropped it already
        self._connection = None
        pid, name = self._pid, self._address.name
        connection.terminate()
        try:
            anew = await self._connect(patiently=True)
            await anew.execute(_END_OF_LINE, pid, name, timeout=self._address.patience_s)
        except Exception:  # the driver's and the system's: the next verb tries again, and says what is wrong
            return


class _Again(Exception):
    """Nothing was written, and the same batch may well be written now."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _joined(batch: Batch) -> list[Statement]:
    """The same, with statements that need neither values nor a guard sent together: a schema is some thirty of them."""
    joined: list[Statement] = []
    for statement in batch:
        if joined and _is_plain(statement) and _is_plain(joined[-1]):
            joined[-1] = Statement(f"{joined[-1].sql};\n{statement.sql}")
        else:
            joined.append(statement)
    return joined


def _is_plain(statement: Statement) -> bool:
    return not statement.params and statement.touches is None


def _refuse_mistake(connection: Connection, error: Exception) -> None:
    """A value that no column takes, or too few of them, is the caller's own mistake. The driver sees most of them itself."""
    if code_of(error) == NO_SUCH_CHARACTER:
        raise ValueError("PostgreSQL keeps no text with a NUL character (U+0000) in it; nothing was read or written") from error
    if code_of(error) == NOT_SUCH_A_VALUE or (isinstance(error, InterfaceError) and not connection.is_closed()):
        raise ValueError(f"{error}; nothing was read or written") from error


def _is_lost(connection: Connection, error: Exception) -> bool:
    """The connection is of no use any more. After an error that is no answer of the server nobody knows where it stands."""
    return connection.is_closed() or not isinstance(error, PostgresError) or code_of(error)[:2] in _ENDS_THE_CONNECTION
