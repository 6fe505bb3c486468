"""A server of processes that may be killed, and an empty database to begin with."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from power_loop.store.open import open_database
from power_loop.store.sql_store import SessionStore

PROGRAM = Path(__file__).parent / "program.py"


class Processes:
    """Runs jobs of `program`, each in a process of its own."""

    def __init__(self, server: subprocess.Popen[str]) -> None:
        self._server = server

    def run(self, *jobs: dict) -> list[int]:
        """Run the jobs side by side: the exit code of each, or minus the signal that ended it."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(jobs) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alive")
    server = subprocess.Popen(
        [sys.executable, str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )  # fmt: skip
    yield Processes(server)
    server.stdin.close()
    server.wait(10)
    server.stdout.close()


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A database file with one new session, to be copied."""
    path = tmp_path_factory.mktemp("empty") / "app.db"

    async def make() -> None:
        opened = await open_database(f"sqlite:///{path}")
        store = SessionStore(opened.database, opened.dialect, opened.prefix)
        await store.create_session(session_id="s")
        await store.close()

    asyncio.run(make())
    return path


class Case:
    """One folder: a database, and what happened outside of it."""

    def __init__(self, folder: Path, empty: Path) -> None:
        self.folder = folder
        folder.mkdir()
        shutil.copy(empty, folder / "app.db")

    def job(self, verb: str, **more: object) -> dict:
        return {"dir": str(self.folder), "verb": verb, **more}

    def told(self, name: str) -> list[dict]:
        path = self.folder / f"{name}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def rows(self, sql: str) -> list[tuple]:
        connection = sqlite3.connect(self.folder / "app.db")
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def case(tmp_path_factory, empty):
    """Makes a `Case` in a folder of its own."""
    return lambda name: Case(tmp_path_factory.mktemp("cases") / name, empty)
