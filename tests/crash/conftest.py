"""A server of processes that may be killed, and an empty database to begin with."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from forks import ForkServer

from power_loop.store.open import open_database
from power_loop.store.sql_store import SessionStore

PROGRAM = Path(__file__).parent / "program.py"


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    with ForkServer(PROGRAM, tmp_path_factory.mktemp("alive")) as server:
        yield server


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
