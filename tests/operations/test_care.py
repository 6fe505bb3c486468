"""Care for the database while sends go on: the log, free room, copies."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path

import pytest
from operating import Place

from power_loop import LLMRequest, open_store
from power_loop.contracts.errors import StoreUnavailable
from power_loop.contracts.records import ContextFolded, ModelReplied, SendEnded, UserSaid
from power_loop.testing import FunctionLLM, check_invariants
from power_loop.testing.hand import Hand


async def long_life(place: Place, sends: int = 120, size: int = 4000) -> str:
    """A session of a good megabyte, nearly all of it folded and emptied."""
    session = await place.store.create_session()
    hand = await Hand.of(place.store, session, "a")
    for _ in range(sends):
        await hand.take(UserSaid("x" * size))
        await hand.release(ModelReplied("y" * size), SendEnded("completed"))
    await hand.take(ContextFolded(hand.head.head - 3, "much"))
    await hand.release()
    assert await place.store.prune_compacted_messages(session) == 2 * (sends - 1)
    return session


def size_of(path: str) -> int:
    return os.path.getsize(path)


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# acceptance: 86
@pytest.mark.parametrize("incremental", [True, False])
async def test_the_file_really_shrinks_while_another_session_keeps_sending(file_place: Place, incremental: bool) -> None:
    place = file_place
    await long_life(place)
    await place.store.checkpoint()
    before = size_of(place.dsn)
    loop = place.loop(llm=FunctionLLM(lambda request: "ok"))
    busy = await loop.new_session()
    sent, done = 0, asyncio.Event()

    async def keep_sending() -> None:
        nonlocal sent
        while not done.is_set():
            await loop.send("more", busy)
            sent += 1

    sending = asyncio.create_task(keep_sending())
    freed = await place.store.vacuum(incremental=incremental)
    done.set()
    await sending
    await place.store.checkpoint()
    assert freed > before // 2
    assert size_of(place.dsn) < before // 2
    assert size_of(place.dsn + "-wal") == 0
    assert sent
    assert await place.count("SELECT COUNT(*) FROM {p}records WHERE session_id = ?", busy) == 3 * sent


# acceptance: 86 (a file of another making)
async def test_a_file_that_cannot_shrink_in_steps_is_rewritten_once(tmp_path: Path) -> None:
    path = str(tmp_path / "app.db")
    with sqlite3.connect(path) as foreign:
        foreign.execute("CREATE TABLE theirs (a)")
    foreign.close()
    place = Place("sqlite", path, await open_store(path))
    await long_life(place, 50)
    assert await place.store.vacuum() > 0
    assert (await place.store.database.read("PRAGMA auto_vacuum")) == [(2,)]
    assert await check_invariants(place.store) == []
    await place.store.close()


# acceptance: 86 (servers)
async def test_care_is_harmless_on_every_engine(place: Place) -> None:
    session = await long_life(place, 20)
    await place.store.checkpoint()
    await place.store.checkpoint("passive")
    freed = [await place.store.vacuum(), await place.store.vacuum(incremental=False)]
    if place.engine not in ("sqlite", "memory"):
        assert freed == [0, 0]
        with pytest.raises(ValueError, match="pg_dump, mysqldump"):
            await place.store.backup("somewhere.db")
    assert len(await place.store.load_all_messages(session)) == 40
    with pytest.raises(ValueError, match="PASSIVE, FULL"):
        await place.store.checkpoint("hard")


@pytest.mark.parametrize("dsn", ["app.db", ":memory:"])
async def test_a_backup_taken_while_sends_go_on_is_whole_and_can_be_gone_on_with(tmp_path: Path, dsn: str) -> None:
    store = await open_store(dsn if dsn == ":memory:" else str(tmp_path / dsn))
    place = Place("sqlite", dsn, store)
    session = await place.said("one", "two")
    loop = place.loop(llm=FunctionLLM(lambda request: "ok"))
    sending = [asyncio.create_task(loop.send(str(n), session)) for n in range(5)]
    target = tmp_path / "copy.db"
    await store.backup(target)
    await asyncio.gather(*sending)
    copy = await open_store(str(target))
    assert await check_invariants(copy) == []
    assert [row.content for row in await copy.load_all_messages(session)][:4] == ["one", "answer 1", "two", "answer 2"]
    other = Place("sqlite", str(target), copy)
    assert (await other.loop("goes on").send("and now?", session)).final_text == "goes on"
    await other.close()
    await copy.close()
    await place.close()
    await store.close()
    assert [name for name in files_in(tmp_path) if "app" not in name and "writer" not in name] == ["copy.db"]


@pytest.mark.parametrize("dsn", ["app.db", ":memory:"])
async def test_nobody_waits_in_a_copy_for_who_was_at_work_when_it_was_made(tmp_path: Path, dsn: str) -> None:
    asked = asyncio.Event()

    async def hangs(request: LLMRequest) -> str:
        asked.set()
        await asyncio.Event().wait()
        return "never"

    store = await open_store(dsn if dsn == ":memory:" else str(tmp_path / dsn))
    place = Place("sqlite", dsn, store)
    session, claimed = await place.said("one"), await place.loop().new_session()
    loop = place.loop(llm=FunctionLLM(hangs))
    sending = asyncio.create_task(loop.send("two", session))
    await asked.wait()
    await loop.enqueue("three", claimed)
    assert len((await store.claim("us", limit=10))[1]) == 1
    await store.backup(tmp_path / "copy.db")
    await loop.cancel(session)
    await sending

    copy = await open_store(str(tmp_path / "copy.db"))
    other = Place("sqlite", str(tmp_path / "copy.db"), copy)
    assert [lease.lapsed for lease in await copy.leases()] == [True]
    assert [standing.session_id for standing in (await copy.claim("others", limit=10))[1]] == [claimed]
    assert (await other.loop("goes on").send("and now?", session)).final_text == "goes on"
    assert await check_invariants(copy) == []
    for each in (other, copy, place, store):
        await each.close()


async def test_a_backup_of_what_is_in_memory_says_what_is_wrong_with_its_place(memory_place: Place, tmp_path: Path) -> None:
    await memory_place.said("one")
    with pytest.raises(StoreUnavailable, match="nothing was left there"):
        await memory_place.store.backup(tmp_path / "no folder" / "copy.db")


async def test_a_backup_replaces_nothing_unasked_and_leaves_nothing_half_done(file_place: Place, tmp_path: Path) -> None:
    await file_place.said("one")
    target = tmp_path / "copy.db"
    target.write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        await file_place.store.backup(target)
    assert target.read_text() == "mine"
    with pytest.raises(StoreUnavailable, match="nothing was left there"):
        await file_place.store.backup(tmp_path / "no folder" / "copy.db")
    await file_place.store.backup(target, overwrite=True)
    copy = await open_store(str(target))
    assert len(await copy.list_sessions()) == 1
    await copy.close()


@pytest.mark.parametrize("ending", ["", "-wal", ".writer", "by another name", "by a link"])
async def test_a_backup_never_takes_the_place_of_the_database_itself(file_place: Place, tmp_path: Path, ending: str) -> None:
    session = await file_place.said("one")
    path = Path(file_place.store.database.path)
    target = {"by another name": tmp_path / "same.db", "by a link": tmp_path / "linked.db"}.get(ending, path.with_name(path.name + ending))
    if ending == "by another name":
        target.hardlink_to(path)
    elif ending == "by a link":
        target.symlink_to(path)
    with pytest.raises(ValueError, match="the store's own"):
        await file_place.store.backup(target, overwrite=True)
    assert (await file_place.store.load_all_messages(session))[0].content == "one"
