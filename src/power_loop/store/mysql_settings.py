"""What a DSN says of a MySQL server, checked before anything is opened."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import NamedTuple

from power_loop.store.dsn import Dsn

# Under any other character set the server would hand out question marks for what that set lacks.
_CHARSETS = ("utf8mb4", "utf8mb3", "utf8")

_NO, _CHAIN, _FULL = ("0", "false", "no", "off"), ("ca", "chain"), ("1", "true", "yes", "on", "full", "identity")


class Tls(NamedTuple):
    """How the connection is encrypted; without one of these it is not."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    check_chain: bool = True
    check_name: bool = True

    def context(self) -> ssl.SSLContext:
        """Raises OSError for files that cannot be read or do not fit."""
        context = ssl.create_default_context(cafile=self.ca)
        context.check_hostname = self.check_name
        context.verify_mode = ssl.CERT_REQUIRED if self.check_chain else ssl.CERT_NONE
        if self.cert is not None:
            context.load_cert_chain(self.cert, self.key)
        return context


class Settings(NamedTuple):
    """Where the server is, and how to talk to it."""

    place: str
    """For error texts: where, as whom, never the password."""
    host: str
    port: int
    user: str | None
    password: str
    database: str
    tls: Tls | None
    pool_max: int
    allow_galera: bool
    lock_wait_s: int
    socket: str | None = None
    """Of the server on this machine; then host and port do not matter."""

    @classmethod
    def of(cls, dsn: Dsn, lock_wait_s: int) -> Settings:
        """Raises ValueError for what no server could satisfy."""
        options = dsn.options
        if not dsn.database:
            raise ValueError("the DSN names no database; write mysql://user:password@host/name")
        if (charset := options.get("charset", "utf8mb4")).lower() not in _CHARSETS:
            raise ValueError(f"mysql option charset: {charset!r} cannot hold every text; leave it out, or write charset=utf8mb4")
        port = dsn.port or 3306
        socket = options.get("unix_socket")
        host = "localhost" if socket else dsn.server or "localhost"
        where = f"{socket or f'{host}:{port}'}/{dsn.database}"
        place = f"{dsn.user}@{where}" if dsn.user else where
        galera = options.get("allow_galera") == "1"
        return cls(
            place,
            host,
            port,
            dsn.user,
            dsn.password or "",
            dsn.database,
            _tls(options),
            int(options.get("pool_max", 10)),
            galera,
            lock_wait_s,
            socket,
        )


def _tls(options: Mapping[str, str]) -> Tls | None:
    ca, cert, key, verify = (options.get(name) for name in ("ssl_ca", "ssl_cert", "ssl_key", "ssl_verify"))
    if ca is None and cert is None and key is None and verify is None:
        return None
    if key is not None and cert is None:
        raise ValueError("mysql option ssl_key: a key needs its certificate, ssl_cert")
    word = (verify if verify is not None else "1").lower()
    if word not in (*_NO, *_CHAIN, *_FULL):
        raise ValueError(f"mysql option ssl_verify: {verify!r}; write 1 (chain and name), ca (chain alone) or 0 (encrypt only)")
    return Tls(ca, cert, key, check_chain=word not in _NO, check_name=word in _FULL)
