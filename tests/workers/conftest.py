"""Processes that a test starts, hears, stops, kills and waits for."""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import engines
import pytest
from forks import Asked

from power_loop import SessionStore, open_store

PROGRAM = Path(__file__).parent / "program.py"
# Longer than anything takes here; who waits so long for a word waits in vain.
PATIENCE_S = 60.0


class Crowd:
    """The processes of one test, on one database."""

    def __init__(self, server: Asked, folder: Path, dsn: str) -> None:
        self.server, self.dsn = server, dsn
        self.pids: dict[str, int] = {}
        self.stopped: set[str] = set()
        self._pipe = str(folder / "pipe")
        os.mkfifo(self._pipe)
        # Both ends, so that it neither waits for a writer nor ends with the last one.
        self._reading = os.open(self._pipe, os.O_RDWR | os.O_NONBLOCK)
        self._begun = b""

    def start(self, name: str, verb: str, **more: Any) -> None:
        job = {"name": name, "verb": verb, "dsn": self.dsn, "pipe": self._pipe, **more}
        self.pids[name] = self.server.ask({"start": job})

    def hear(self, timeout_s: float = PATIENCE_S) -> tuple[str, str, str] | None:
        """The next line that any of them wrote: (name, what, text); None when nobody said anything for so long."""
        while b"\n" not in self._begun:
            if not select.select([self._reading], [], [], timeout_s)[0]:
                return None
            self._begun += os.read(self._reading, 65536)
        line, self._begun = self._begun.split(b"\n", 1)
        name, what, text = json.loads(line)
        return name, what, text

    def kill(self, name: str) -> None:
        os.kill(self.pids[name], signal.SIGKILL)
        assert self.wait(name) == -signal.SIGKILL

    def stop(self, name: str) -> None:
        os.kill(self.pids[name], signal.SIGSTOP)
        self.stopped.add(name)

    def go_on(self, name: str) -> None:
        self.stopped.discard(name)
        os.kill(self.pids[name], signal.SIGCONT)

    def end(self, name: str) -> int:
        """SIGTERM, and how it ended."""
        os.kill(self.pids[name], signal.SIGTERM)
        return self.wait(name)

    def wait(self, name: str) -> int:
        return self.server.ask({"wait": self.pids.pop(name)})

    def close(self) -> None:
        for name in list(self.pids):
            self.go_on(name)
            self.kill(name)
        os.close(self._reading)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    with Asked(PROGRAM, tmp_path_factory.mktemp("alive"), PYTHONWARNINGS="ignore::DeprecationWarning") as server:
        yield server


@pytest.fixture(params=engines.FILES_AND_SERVERS)
async def dsn(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    async with engines.fresh(request.param, tmp_path) as dsn:
        yield dsn


@pytest.fixture
async def store(dsn: str) -> AsyncIterator[SessionStore]:
    """The database, as who watches sees it."""
    store = await open_store(dsn)
    yield store
    await store.close()


@pytest.fixture
def crowd(server: Asked, tmp_path: Path, dsn: str) -> Iterator[Crowd]:
    crowd = Crowd(server, tmp_path, dsn)
    yield crowd
    crowd.close()
