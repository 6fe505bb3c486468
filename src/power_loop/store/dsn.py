"""A DSN, read once into a value; everything that a typing error can do to one is a ValueError here.

No file is ever named after a DSN: what looks like one and is none is refused, and the text says how to write the file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

Engine = Literal["sqlite", "memory", "postgresql", "mysql"]

_SCHEMES: dict[str, Engine] = {"sqlite": "sqlite", "postgresql": "postgresql", "postgres": "postgresql", "mysql": "mysql"}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9.-]*)(\+[^:/]*)?://", re.ASCII)
# One letter before a colon is a drive of Windows; more is an unfinished DSN far more often than a file.
_ALMOST_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:", re.ASCII)
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_FORMS = "a file path, :memory:, sqlite:///relative.db, sqlite:////absolute.db, postgresql://user:password@host/name or mysql://user:password@host/name"


class Dsn(NamedTuple):
    """Where a database is. Its text forms hide the password."""

    engine: Engine
    path: str = ""
    """Of a SQLite file, as written."""
    host: str = ""
    """As written; `server` is what it means."""
    port: int | None = None
    user: str | None = None
    password: str | None = None
    database: str = ""
    options: Mapping[str, str] = {}
    """Checked by name and, for SQLite, by value; for servers they go to the driver."""

    @property
    def server(self) -> str:
        """The host, or the folder of its socket, as the system takes it."""
        return _decoded(self.host).removeprefix("[").removesuffix("]")

    def __repr__(self) -> str:
        return f"Dsn({self})"

    def __str__(self) -> str:
        if self.engine == "memory":
            return ":memory:"
        query = "?" + "&".join(f"{name}={_shown(name, value)}" for name, value in self.options.items()) if self.options else ""
        if self.engine == "sqlite":
            return f"sqlite:///{self.path}{query}"
        secret = "" if self.password is None else ":***"
        user = "" if self.user is None else f"{self.user}{secret}@"
        port = "" if self.port is None else f":{self.port}"
        return f"{self.engine}://{user}{self.host}{port}/{self.database}{query}"


def parse_dsn(text: str | os.PathLike[str]) -> Dsn:
    """The value of ``text``. Raises ValueError, which never shows a password."""
    text = os.fspath(text)
    if not text or "\0" in text:
        raise ValueError(f"the DSN is empty or holds a NUL character; write {_FORMS}")
    if text == ":memory:":
        return Dsn("memory")
    if match := _SCHEME.match(text):
        return _of_scheme(match[1], text[match.end() :])
    return _file(text)


def _file(text: str) -> Dsn:
    if match := _ALMOST_SCHEME.match(text):
        raise ValueError(f"{match[0]!r} begins no DSN that is known here; write {_FORMS} (a file of such a name: ./{match[0]}...)")
    path, _, query = text.partition("?")
    if query.partition("=")[0] in _SQLITE_OPTIONS:
        raise ValueError(f"a plain path takes no options; write sqlite:///{path}?...")
    return Dsn("sqlite", text)


def _of_scheme(scheme: str, rest: str) -> Dsn:
    engine = _SCHEMES.get(scheme.lower())
    if engine is None:
        raise ValueError(f"no engine for the scheme {scheme!r}; write {_FORMS}")
    place, _, query = rest.partition("?")
    options = _options(query)
    if engine == "sqlite":
        return _sqlite(place, options)
    return _server(engine, place, options)


# --- SQLite -----------------------------------------------------------------------------------------


def _sqlite(place: str, options: dict[str, str]) -> Dsn:
    _check(options, _SQLITE_OPTIONS, "sqlite")
    if place in ("", "/:memory:"):
        return Dsn("memory", options=options)
    if not place.startswith("/") or place == "/":
        raise ValueError("after sqlite: come three slashes and a relative path, or four and an absolute one, or :memory: alone")
    return Dsn("sqlite", _decoded(place[1:]), options=options)


def _one_of(*words: str) -> Callable[[str], bool]:
    return lambda value: value in words


def _number(value: str) -> bool:
    return value.isascii() and value.isdigit()


def _at_least_one(value: str) -> bool:
    return _number(value) and int(value) > 0


def _anything(value: str) -> bool:
    return True


_SQLITE_OPTIONS: dict[str, Callable[[str], bool]] = {"synchronous": _one_of("full", "normal"), "busy_timeout_ms": _number}

# --- servers ------------------------------------------------------------------------------------------

_MYSQL_OPTIONS: dict[str, Callable[[str], bool]] = {
    "ssl_ca": _anything,
    "ssl_cert": _anything,
    "ssl_key": _anything,
    "ssl_verify": _anything,
    "charset": _anything,
    "unix_socket": _anything,
    "pool_max": _at_least_one,
    "allow_galera": _one_of("0", "1"),
}


def _server(engine: Engine, place: str, options: dict[str, str]) -> Dsn:
    if engine == "mysql":
        _check(options, _MYSQL_OPTIONS, engine)
    elif not _at_least_one(options.get("pool_max", "10")):  # all others are the driver's, which knows them best
        raise ValueError(f"postgresql option pool_max: {options['pool_max']!r} is no number from 1")
    address, _, database = place.partition("/")
    who, at, where = address.rpartition("@")
    user, colon, password = who.partition(":")
    host, port = host_and_port(where)
    return Dsn(
        engine,
        host=host,
        port=port,
        user=_decoded(user) if at else None,
        password=_decoded(password) if colon else None,
        database=_decoded(database),
        options=options,
    )


def host_and_port(where: str) -> tuple[str, int | None]:
    """Raises ValueError for a port that is no number."""
    host, colon, port = where.rpartition(":")
    if not colon or where.endswith("]"):  # the colons of an IPv6 address stand in brackets
        return where, None
    if port and not _number(port):
        raise ValueError("the port of the DSN is no number")
    return host, int(port) if port else None


# --- options --------------------------------------------------------------------------------------------


def _options(query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        if name in options:
            raise ValueError(f"the option {name} stands twice in the DSN")
        options[_decoded(name)] = _decoded(value)
    return options


def _check(options: Mapping[str, str], known: Mapping[str, Callable[[str], bool]], engine: str) -> None:
    for name, value in options.items():
        if name not in known:
            raise ValueError(f"{engine} has no option {name!r}; it knows {', '.join(sorted(known))}")
        if not known[name](value):
            raise ValueError(f"{engine} option {name}: {value!r} is not allowed")


def _decoded(text: str) -> str:
    """Per cent signs resolved. `urllib.parse` does it too, but costs more to import than all of this file."""
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), text.encode()).decode(errors="replace")


def _shown(name: str, value: str) -> str:
    return "***" if "password" in name or "secret" in name or "key" in name else value
