"""The driver, aiomysql on PyMySQL, as far as we use it: it ships no types, so what comes from it is `Any`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

try:
    _aiomysql: Any = importlib.import_module("aiomysql.connection")
    _types: Any = importlib.import_module("pymysql.constants.FIELD_TYPE")
    _converters: Any = importlib.import_module("pymysql.converters")
except ImportError as _error:
    raise ImportError('MySQL and MariaDB need the driver aiomysql: pip install "power-loop[mysql]"') from _error

Connection: Any = _aiomysql.Connection

# Capability bit of the protocol (dev.mysql.com, "Capabilities Flags"): the server offers TLS.
_SSL = 1 << 11


class _OnlyWithTls(Connection):
    """A connection that says nothing secret to a server without TLS; the driver's own would go on in the clear."""

    async def _request_authentication(self) -> None:
        this: Any = self
        if not this.server_capabilities & _SSL:
            raise ConnectionRefusedError("the server offers no TLS, and the DSN asks for it")
        await Connection._request_authentication(this)


OnlyWithTls: Any = _OnlyWithTls


def _number(text: str) -> int | float:
    value = Decimal(text)
    return float(value) if value % 1 else int(value)


DECODERS: Mapping[int, Any] = {**_converters.decoders, _types.DECIMAL: _number, _types.NEWDECIMAL: _number}
"""How columns become values: the driver's ways, and for the type of sums the numbers that other engines give."""
