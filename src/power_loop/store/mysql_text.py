"""Statements as MySQL reads them: ``?`` filled in, and every value written as a literal that means just that value.

The server is asked in text (its drivers for asyncio know no other way), so what protects the data from being read as
SQL is here and nowhere else. Text is sent as UTF-8, in which no byte of a longer character is a quote or a backslash.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from math import isfinite
from typing import Any

# What may hold a question mark that is no placeholder: strings, quoted names, comments. A quote within is doubled.
# Among the names of our columns one is a word of these servers' own (LOAD DATA ... ESCAPED BY) and has to be quoted.
_TOKEN = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`|--[^\n]*|/\*.*?\*/|(\?)|\bescaped\b", re.DOTALL)


def rendered(sql: str, params: Sequence[Any], backslash_escapes: bool) -> bytes:
    """The statement with its values in place.

    ``backslash_escapes``: the session reads a backslash in a string as the beginning of an escape. Raises TypeError,
    ValueError or OverflowError for a value that no column could hold, and when the number of values is wrong.
    """
    pieces = _pieces(sql)
    if len(params) != len(pieces) - 1:
        raise ValueError(f"{len(pieces) - 1} values are needed and {len(params)} were given: {sql[:100]}")
    if not params:
        return pieces[0]
    parts = [pieces[0]]
    for value, piece in zip(params, pieces[1:], strict=True):
        parts.append(literal(value, backslash_escapes))
        parts.append(piece)
    return b"".join(parts)


def literal(value: object, backslash_escapes: bool) -> bytes:
    """One value as SQL."""
    if value is None:
        return b"NULL"
    if isinstance(value, str):
        return b"'" + _quoted(value.encode(), backslash_escapes) + b"'"
    if isinstance(value, int):
        return b"%d" % value
    if isinstance(value, float):
        return _fraction(value)
    if isinstance(value, bytes | bytearray):
        return b"_binary'" + _quoted(bytes(value), backslash_escapes) + b"'"
    raise TypeError(f"a value of type {type(value).__name__} cannot be kept in a database")


def _quoted(data: bytes, backslash_escapes: bool) -> bytes:
    if backslash_escapes and b"\\" in data:
        data = data.replace(b"\\", b"\\\\")
    return data.replace(b"'", b"''") if b"'" in data else data


def _fraction(value: float) -> bytes:
    if not isfinite(value):
        raise ValueError(f"{value} cannot be kept in a database")
    text = repr(value)
    # With an exponent the server reads a double; without one it would be a decimal number of its own kind.
    return (text if "e" in text else text + "e0").encode()


def spelt(sql: str) -> str:
    """The same statement, with the names quoted that these servers would take for words of their own."""
    return _TOKEN.sub(lambda match: f"`{match[0]}`" if match[0] == "escaped" else match[0], sql)


@lru_cache(maxsize=512)
def _pieces(sql: str) -> tuple[bytes, ...]:
    """What stands between the placeholders."""
    pieces: list[bytes] = []
    begin = 0
    sql = spelt(sql)
    for match in _TOKEN.finditer(sql):
        if match[1]:
            pieces.append(sql[begin : match.start()].encode())
            begin = match.end()
    pieces.append(sql[begin:].rstrip("; \n").encode())
    return tuple(pieces)
