"""kill -9 of a real process at every boundary of a send that waits for an approval and for an answer; then another goes on."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from forks import ForkServer

from power_loop import open_store
from power_loop.contracts.codec import from_cells
from power_loop.contracts.records import Decided, ToolParked, ToolReturned

PROGRAM = Path(__file__).parent / "program.py"
Run = Callable[..., int]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs one job in a process of its own: how it ended."""
    with ForkServer(PROGRAM, tmp_path_factory.mktemp("alive")) as server:
        yield lambda folder, **job: server.run({"dir": str(folder), **job})[0]


def told(folder: Path, name: str) -> list[Any]:
    path = folder / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def opened(folder: Path) -> Path:
    """``folder`` with a database of one new session."""
    os.mkdir(folder)
    store = await open_store(str(folder / "app.db"))
    await store.create_session(session_id="s", agent="agent")
    await store.close()
    return folder


async def records(folder: Path) -> list[Any]:
    store = await open_store(str(folder / "app.db"))
    found = [from_cells(row.cells) for row in await store.rows("s", after=0)]
    await store.close()
    return found


async def check(folder: Path, effects: str) -> None:
    """What must be true, wherever the first process died."""
    (ended,), violations, paid = told(folder, "ended"), told(folder, "violations"), told(folder, "paid")
    kept = await records(folder)
    assert ended["status"] == "completed"
    assert ended["text"].endswith("| blue")
    assert violations == [[]]
    returned = [record for record in kept if isinstance(record, ToolReturned)]
    decided = [record for record in kept if isinstance(record, Decided)]
    assert len(returned) == 2, "each call was answered once"
    assert [(made.approved, made.by is not None) for made in decided] == [(True, True)], "it was decided once, and nobody was asked twice"
    assert len([record for record in kept if isinstance(record, ToolParked)]) == 2
    assert len({each["key"] for each in paid}) <= 1
    if effects == "once":
        known = next(record for record in returned if record.name == "pay")
        assert len(paid) <= 1, "it took effect at most once"
        assert known.outcome == "unknown" or (known.output, len(paid)) == ("paid 5", 1)
    else:
        assert ended["text"] == "so: paid 5 | blue"
        assert paid


# acceptance: 125 (kill -9), 111 (kill -9), 120 (an approved call), 121 (an approved call)
@pytest.mark.parametrize("effects", ["once", "idempotent"])
async def test_killed_anywhere_between_the_question_and_the_end_another_process_goes_on(run: Run, tmp_path: Path, effects: str) -> None:
    whole = await opened(tmp_path / "whole")
    assert run(whole, effects=effects) == 0
    await check(whole, effects)
    boundaries = int((whole / "boundaries").read_text())
    assert boundaries > 20
    outcomes = set[str]()
    # What may run again has no boundary of its own that the other class has not.
    for at in range(1, boundaries + 1, 1 if effects == "once" else 3):
        folder = await opened(tmp_path / f"at {at}")
        ended = run(folder, effects=effects, die_at=at)
        if ended == -signal.SIGKILL and not told(folder, "ended"):
            assert run(folder, effects=effects) == 0
            await check(folder, effects)
            outcomes |= {record.outcome for record in await records(folder) if isinstance(record, ToolReturned)}
    assert outcomes == ({"ok", "unknown"} if effects == "once" else {"ok"})
