"""A real process is killed with ``kill -9`` at every boundary of a scan that fires two timers and drives their session."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from forks import ForkServer

from power_loop import open_store

PROGRAM = Path(__file__).parent / "program.py"
NOTES = ("once", "again and again")

Runs = Callable[..., int]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Runs one job in a process of its own: how that ended."""
    with ForkServer(PROGRAM, tmp_path_factory.mktemp("alive")) as server:
        yield lambda folder, verb, die_at=None: server.run({"dir": str(folder), "verb": verb, "die_at": die_at})[0]


def with_two_due_timers(folder: Path) -> Path:
    async def make() -> None:
        store = await open_store(str(folder / "app.db"))
        await store.create_session(session_id="s", agent="agent")
        now = store.clock.now_ms()
        await store.create_timer("s", due_at=now - 1000, note=NOTES[0])
        await store.create_timer("s", due_at=now - 5_400_000, note=NOTES[1], interval_s=3600)
        await store.close()

    folder.mkdir()
    asyncio.run(make())
    return folder


def look(folder: Path, sql: str) -> list[tuple]:
    with sqlite3.connect(folder / "app.db") as database:
        found = database.execute(sql).fetchall()
    database.close()
    return found


# acceptance: 109 (kill -9), 110 (kill -9)
def test_whatever_boundary_a_process_dies_at_each_timer_fires_once_and_is_heard_once(runs: Runs, tmp_path: Path) -> None:
    whole = with_two_due_timers(tmp_path / "whole")
    assert runs(whole, "fire") == 0
    boundaries = json.loads((whole / "boundaries").read_text())
    assert boundaries >= 15
    for at in range(1, boundaries + 1):
        folder = with_two_due_timers(tmp_path / f"death{at}")
        assert runs(folder, "fire", at) == -signal.SIGKILL
        assert runs(folder, "go on") == 0
        name = f"killed at boundary {at} of {boundaries}"
        assert json.loads((folder / "violations").read_text()) == [], name
        assert look(folder, "SELECT fire_count, status FROM pl_timers ORDER BY timer_id") == [(1, "fired"), (1, "armed")], name
        assert look(folder, "SELECT COUNT(*), SUM(heard_seq IS NULL) FROM pl_inbox") == [(2, 0)], name
        said = "\n".join(text for (text,) in look(folder, "SELECT content FROM pl_records WHERE role = 'user'"))
        assert [said.count(note) for note in NOTES] == [1, 1], name
        assert look(folder, "SELECT content FROM pl_records WHERE role = 'assistant' ORDER BY seq DESC LIMIT 1") == [("awake",)], name
