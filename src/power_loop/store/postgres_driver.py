"""The driver, asyncpg, as far as we use it, with types: it ships none."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

try:
    _asyncpg: Any = importlib.import_module("asyncpg")
except ImportError as _error:
    raise ImportError('PostgreSQL needs the driver asyncpg: pip install "power-loop[postgres]"') from _error

PostgresError: type[Exception] = _asyncpg.PostgresError
"""What the server answered, and a few that the driver words like an answer: those of lost connections, in class 08."""

InterfaceError: type[Exception] = _asyncpg.InterfaceError
"""What the driver itself refuses. Where it is a ValueError too, it is about a value or an option."""


def was_never_sent(error: BaseException) -> bool:
    """The driver found out that its connection is of no use any more before it sent anything.

    Where it words that otherwise some day, the error counts as one of a connection that broke in the middle.
    """
    return "cannot switch to state" in str(error) or "connection is closed" in str(error)


class Connection(Protocol):
    """One connection; it belongs to the event loop that made it. ``timeout`` is in seconds."""

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[Iterable[Any]]: ...

    async def fetchval(self, query: str, *args: Any, timeout: float | None = None) -> Any: ...

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        """The server's word on what was done: ``UPDATE 1``. Without ``args`` it may be several statements."""
        ...

    async def close(self, *, timeout: float) -> None: ...

    def terminate(self) -> None:
        """Hang up without a word."""
        ...

    def is_closed(self) -> bool: ...

    def get_server_pid(self) -> int: ...

    def get_settings(self) -> Any:
        """What the server said of itself, by name."""
        ...


async def connect(dsn: str, *, timeout: float, server_settings: Mapping[str, str] | None, **options: Any) -> Connection:
    """Raises `OSError`, `PostgresError`, `TimeoutError`, errors of TLS, and ValueError for options that are none."""
    return await _asyncpg.connect(dsn, timeout=timeout, server_settings=server_settings, **options)


def code_of(error: BaseException) -> str:
    """The error's SQLSTATE; empty when the driver or the system raised it."""
    return getattr(error, "sqlstate", None) or ""  # errors of others have no such attribute
