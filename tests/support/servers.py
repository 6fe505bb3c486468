"""What test servers share: a process on a leash, a folder that the server's user may enter, and what to say where there is none.

One engine's server is in a file of its own (`servers_postgres`, `servers_mysql`); which engines tests run on is `engines`' business.
"""

from __future__ import annotations

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from power_loop.store.dsn import Dsn

# Of a server that does not come up: far beyond the second that it takes, on a machine that is busy besides.
START_S = 60.0
LOOK_AGAIN_S = 0.01

# A shell that ends its child when its own input does, hence also when whoever holds the other end was killed.
_LEASH = '"$@" & child=$!; echo $child; read -r _; kill -s "$0" $child 2>/dev/null; wait $child'


class NoServer(Exception):
    """There is no such server on this machine; the text says how to get one."""


class Server(Protocol):
    """A running server, of which tests use databases of their own."""

    @property
    def pid(self) -> int | None:
        """Of its main process; None when it is not ours."""
        ...

    def dsn(self, database: str) -> str: ...

    async def create(self, database: str) -> None:
        """An empty database of that name."""
        ...

    async def clear(self, database: str, tables: Sequence[str]) -> None:
        """No row is left in these tables, and nobody is connected."""
        ...

    async def drop(self, database: str) -> None:
        """Away with it, whoever is connected."""
        ...

    def stop(self) -> None:
        """End the server, if it is ours, and remove what it left."""
        ...


def renamed(dsn: Dsn, scheme: str, database: str) -> str:
    """The text of ``dsn`` with another database."""
    secret = "" if dsn.password is None else f":{dsn.password}"
    user = "" if dsn.user is None else f"{dsn.user}{secret}@"
    port = "" if dsn.port is None else f":{dsn.port}"
    query = "&".join(f"{name}={value}" for name, value in dsn.options.items())
    return f"{scheme}://{user}{dsn.host}{port}/{database}" + (f"?{query}" if query else "")


class Leashed:
    """A server process that does not outlive whoever started it, however that one ends."""

    def __init__(self, command: Sequence[str | Path], *, user: str | None, log: Path, ends_by: str, env: Mapping[str, str] | None = None):
        with log.open("ab") as output:
            self._leash = subprocess.Popen(
                ["sh", "-c", _LEASH, ends_by, *map(str, command)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, text=True,
                start_new_session=True, cwd="/", env=env, **as_user(user),
            )  # fmt: skip
        assert self._leash.stdout is not None
        self.pid = int(self._leash.stdout.readline())

    @property
    def ended(self) -> bool:
        """The server process is gone."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def stop(self) -> None:
        """End it by the signal that it was started with, and wait until it is gone."""
        self._leash.communicate("")

    def kill(self) -> None:
        """As a crash of the machine would."""
        os.kill(self.pid, signal.SIGKILL)
        self.stop()


def as_user(user: str | None) -> dict[str, object]:
    """The arguments of `subprocess` that run a command as ``user``; None: as whoever we are."""
    return {} if user is None else {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": ()}


def user_to_run_as(name: str) -> str | None:
    """Servers refuse to run as root: then as ``name``. Raises `NoServer` when there is no such user."""
    if os.getuid() != 0:
        return None
    try:
        pwd.getpwnam(name)
    except KeyError:
        raise NoServer(f"there is no user {name!r} to run it as; root cannot") from None
    return name


def folder_for(user: str | None, prefix: str) -> Path:
    """A new folder that belongs to ``user``, below ones that it may pass through."""
    place = tempfile.gettempdir() if _everybody_may_enter(Path(tempfile.gettempdir())) else "/tmp"
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    if user is not None:
        shutil.chown(folder, user)
    return folder


def _everybody_may_enter(folder: Path) -> bool:
    return all(part.stat().st_mode & 0o001 for part in (folder, *folder.parents))


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    """Below those that systems give to connections by themselves, so that none takes it before the server does, or while it is down."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket(socket.AF_INET, kind) as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_until(holds: Callable[[], bool], what: str, log: Path) -> None:
    """Look again until ``holds()`` does; after a minute an AssertionError with the end of ``log``."""
    deadline = time.monotonic() + START_S
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen within {START_S:g} s:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(LOOK_AGAIN_S)
