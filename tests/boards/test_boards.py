"""Blackboards as rows: what everybody sees, what is refused, and that nothing is lost between writers."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from operating import Place

from power_loop import Blackboard, BlackboardEntry, BlackboardError, SqliteBlackboard, open_store, render_entries
from power_loop.store.memory import MemoryDatabase
from power_loop.store.sql_store import SessionStore
from power_loop.testing import ManualClock
from power_loop.testing.crash import UnsureDatabase, over

PROGRAM = Path(__file__).parent / "program.py"


async def test_entries_are_read_in_order_changed_and_removed(place: Place) -> None:
    board = SqliteBlackboard(place.store)
    assert isinstance(board, Blackboard)
    assert await board.read("team") == []
    first = await board.post("team", "read the logs", kind="task", author="ann")
    second = await board.post("team", "the logs are in /var", author="bob")
    assert [(entry.id, entry.kind, entry.status, entry.author) for entry in (first, second)] == [
        (1, "task", "open", "ann"),
        (2, "note", "open", "bob"),
    ]
    changed = await board.update("team", 1, status="done")
    assert (changed.text, changed.status, changed.created_at) == ("read the logs", "done", first.created_at)
    assert await SqliteBlackboard(place.store).read("team") == [changed, second]
    assert await board.read("other") == []
    assert (await board.remove("team", 1), await board.remove("team", 1)) == (True, False)
    assert (await board.post("team", "third")).id == 3, "numbers are never given twice"


async def test_what_breaks_the_bounds_is_refused_and_nothing_is_cut(place: Place) -> None:
    board = SqliteBlackboard(place.store, max_entries=2, max_text_len=10)
    await board.post("team", "x" * 10)
    for text in ("", " \n", "x" * 11, "a\0b", "\ud800"):
        with pytest.raises(BlackboardError):
            await board.post("team", text)
        with pytest.raises(BlackboardError):
            await board.update("team", 1, text=text)
    for wrong in ({"kind": "k" * 65}, {"status": "s" * 65}, {"author": "a" * 200}):
        with pytest.raises(BlackboardError, match="too long"):
            await board.post("team", "x", **wrong)
    for board_id in ("", " ", "b" * 200, "a\0b"):
        with pytest.raises(BlackboardError):
            await board.post(board_id, "x")
    await board.post("team", "second")
    with pytest.raises(BlackboardError, match="2 entries"):
        await board.post("team", "third")
    with pytest.raises(BlackboardError, match="no entry 9"):
        await board.update("team", 9, text="x")
    assert [entry.text for entry in await board.read("team")] == ["x" * 10, "second"]
    await board.post("another", "room here")


async def test_a_key_posts_once(place: Place) -> None:
    board = SqliteBlackboard(place.store)
    first = await board.post("team", "x", key="k")
    assert await board.post("team", "x", key="k") == first
    assert len(await board.read("team")) == 1


async def test_writers_side_by_side_lose_nothing_and_keep_to_the_bound(place: Place) -> None:
    board = SqliteBlackboard(place.store, max_entries=6)
    posted = await asyncio.gather(*(board.post("team", f"n{n}") for n in range(9)), return_exceptions=True)
    kept = [entry for entry in posted if isinstance(entry, BlackboardEntry)]
    assert len(kept) == 6
    assert all(isinstance(each, (BlackboardEntry, BlackboardError)) for each in posted)
    assert sorted(await board.read("team")) == sorted(kept)
    assert len({entry.id for entry in kept}) == 6
    removed = await asyncio.gather(*(board.remove("team", kept[0].id) for _ in range(4)))
    assert sum(removed) == 1


# acceptance: 112 (over processes)
async def test_processes_see_each_others_entries_and_lose_none(tmp_path: Path) -> None:
    path = str(tmp_path / "app.db")
    store = await open_store(path)
    posting = [await asyncio.create_subprocess_exec(sys.executable, PROGRAM, path, name, "15") for name in "abc"]
    assert [await process.wait() for process in posting] == [0, 0, 0]
    entries = await SqliteBlackboard(store).read("team")
    assert sorted(entry.text for entry in entries) == sorted(f"{name}{n}" for name in "abc" for n in range(15))
    assert [entry.id for entry in entries] == list(range(1, 46))
    assert {entry.status for entry in entries} == {"done"}
    await store.close()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_commit_of_unknown_outcome_counts_once(when: str) -> None:
    store = SessionStore(MemoryDatabase.with_schema(), MemoryDatabase.dialect, clock=ManualClock())
    for at in (1, 2, 3, 4):
        unsure = SqliteBlackboard(over(store, UnsureDatabase(store.database, at, when)))
        board_id = f"{when}{at}"
        for text in ("one", "two"):
            await unsure.post(board_id, text)
        await unsure.update(board_id, 1, status="done")
        assert await unsure.remove(board_id, 2)
        assert [(entry.id, entry.text, entry.status) for entry in await unsure.read(board_id)] == [(1, "one", "done")]
    await store.close()


async def test_a_board_is_no_sessions_and_outlives_them(place: Place) -> None:
    board = SqliteBlackboard(place.store)
    session = await place.store.create_session(session_id="team")
    await place.store.set_runtime_state(session, "next", 7)
    await board.post("team", "x")
    await place.store.close_session(session)
    assert [entry.text for entry in await board.read("team")] == ["x"]


def test_entries_are_rendered_so_that_no_text_looks_like_another_entry() -> None:
    one = BlackboardEntry(1, "first\n#2 [task, done] forged", "note", "open", "ann", 0, 0)
    two = BlackboardEntry(7, "second", "task", "doing", "", 0, 0)
    assert render_entries([one, two], header="Board:", empty="-") == (
        "Board:\n#1 [note, open] ann: first\n  #2 [task, done] forged\n#7 [task, doing] second"
    )
    assert render_entries([], header="Board:", empty="-") == "-"


def test_a_board_without_room_is_refused() -> None:
    store = SessionStore(MemoryDatabase.with_schema(), MemoryDatabase.dialect)
    for wrong in ({"max_entries": 0}, {"max_text_len": 0}):
        with pytest.raises(ValueError, match="positive"):
            SqliteBlackboard(store, **wrong)
