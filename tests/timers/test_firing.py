"""Firing on every engine: who may, how often, and what becomes of timers that cannot."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from operating import Place

from power_loop import SessionStore, Worker
from power_loop.contracts.store import Statement
from power_loop.testing.crash import UnsureDatabase, over


def due(store: SessionStore, ago_s: float = 1) -> int:
    return store.clock.now_ms() - int(ago_s * 1000)


async def test_a_timer_whose_session_is_gone_is_cancelled(place: Place) -> None:
    store = place.store
    kept, gone = [await store.create_session(agent="agent") for _ in range(2)]
    timers = [await store.create_timer(session, due_at=due(store), note="x", interval_s=60) for session in (kept, gone)]
    await store.database.write([Statement("DELETE FROM pl_sessions WHERE session_id = ?", (gone,), 1)])
    assert await store.fire_due(agents=["agent"]) == 1
    found = await store.get_timer(gone, timers[1].timer_id)
    assert found is not None
    assert (found.status, found.fire_count) == ("cancelled", 0)
    assert await store.fire_due() == 0
    for table in ("timers", "session_info"):
        await store.database.write([Statement(f"DELETE FROM pl_{table} WHERE session_id = ?", (gone,))])


async def test_only_timers_of_the_agents_that_were_asked_for_fire(place: Place) -> None:
    store = place.store
    sessions = {agent: await store.create_session(agent=agent) for agent in ("cook", "clerk", None)}
    for session in sessions.values():
        await store.create_timer(session, due_at=due(store), note="x")
    assert await store.fire_due(agents=["cook"]) == 1
    assert len(await store.inbox(sessions["cook"])) == 1
    assert await store.fire_due(agents=[]) == 0
    assert await store.fire_due(agents=["cook", "clerk"]) == 1
    assert await store.fire_due() == 1, "a session without an agent is everybody's"


async def test_a_worker_fires_what_is_its_own_agents(place: Place) -> None:
    cook = place.loop("awake", name="cook")
    mine, other = await cook.new_session(), await place.loop(name="clerk").new_session()
    for session in (mine, other):
        await place.store.create_timer(session, due_at=due(place.store), note="x")
    assert await Worker(cook).run_once() == 1
    assert [timer.session_id for timer in await place.store.due_timers()] == [other]


async def test_a_key_that_a_host_has_used_does_not_hold_a_timer_up(place: Place) -> None:
    store, loop = place.store, place.loop()
    session = await loop.new_session()
    timer = await store.create_timer(session, due_at=due(store), note="x", interval_s=60)
    await loop.enqueue("mine", session, key=f"timer:{timer.timer_id}:1")
    assert await store.fire_due() == 0
    found = await store.get_timer(session, timer.timer_id)
    assert found is not None
    assert (found.status, found.fire_count) == ("armed", 1)
    assert found.due_at > store.clock.now_ms()


async def test_many_that_are_due_fire_once_however_many_fire_them(place: Place) -> None:
    store = place.store
    sessions = [await store.create_session() for _ in range(3)]
    for number in range(30):
        await store.create_timer(sessions[number % 3], due_at=due(store, number), note=f"n{number}")
    fired = 0
    while count := sum(await asyncio.gather(*(store.fire_due(limit=7) for _ in range(3)))):
        fired += count
    assert fired == 30
    assert [len(await store.inbox(session)) for session in sessions] == [10, 10, 10]


async def test_timers_whose_notes_nobody_has_heard_keep_no_others_waiting(place: Place) -> None:
    store, now = place.store, place.store.clock.now_ms()
    session, other = [await store.create_session() for _ in range(2)]
    for number in range(6):
        await store.create_timer(session, due_at=now - 100_000 - number, note="tick", interval_s=10)
    assert await store.fire_due(now=now) == 6
    await store.create_timer(other, due_at=now + 14_000, note="once")
    assert [await store.fire_due(now=now + 15_000, limit=2) for _ in range(2)] == [1, 0]
    assert await store.due_timers(now=now + 15_000) == []
    assert (len(await store.inbox(session)), len(await store.inbox(other))) == (6, 1)


async def in_zone(store: SessionStore, timer_id: int, tz: str) -> None:
    """As a machine armed it that knows the zone."""
    await store.database.write([Statement("UPDATE pl_timers SET tz = ? WHERE timer_id = ?", (tz, timer_id), 1)])


async def test_timers_of_zones_that_this_machine_does_not_know_keep_no_others_waiting(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    store = place.store
    session = await store.create_session(agent="cook")
    stuck: list[int] = []
    for number in range(6):
        timer = await store.create_timer(session, cron="0 3 * * *", tz="Europe/Berlin", note="nightly")
        await store.transition_timer(session, timer.timer_id, from_status="armed", to_status="armed", due_at=due(store, 100 + number))
        await in_zone(store, timer.timer_id, f"Mars/Olympus{number % 3}")
        stuck.append(timer.timer_id)
    for number in range(2):
        await store.create_timer(session, due_at=due(store, number), note=f"n{number}")
    with caplog.at_level(logging.WARNING, "power_loop"):
        fired = await store.fire_timers(limit=2, agents=["cook"])
    assert [timer.note for timer in fired] == ["n1", "n0"]
    (said,) = [record.getMessage() for record in caplog.records]
    assert all(f"Mars/Olympus{number}" in said for number in range(3))
    assert await store.fire_due(limit=2) == 0
    for timer_id in stuck:
        await in_zone(store, timer_id, "Europe/Berlin")
    assert [await store.fire_due(limit=4) for _ in range(3)] == [4, 2, 0], "nothing is lost where the zone is known"


@pytest.mark.parametrize("odd", ["interval_ms = 0", "interval_ms = -5", "interval_ms = 4611686018427387904", "cron = 'often', tz = 'UTC'"])
async def test_a_timer_of_which_nobody_can_say_when_it_is_due_again_is_cancelled_and_the_others_fire(
    place: Place, caplog: pytest.LogCaptureFixture, odd: str
) -> None:
    store = place.store
    session = await store.create_session()
    broken = await store.create_timer(session, due_at=due(store, 100), note="broken")
    await store.create_timer(session, due_at=due(store), note="sound")
    await store.database.write([Statement(f"UPDATE pl_timers SET {odd} WHERE timer_id = ?", (broken.timer_id,), 1)])
    with caplog.at_level(logging.WARNING, "power_loop"):
        assert [await store.fire_due(limit=1) for _ in range(3)].count(1) == 1
    assert len(await store.inbox(session)) == 1
    found = await store.get_timer(session, broken.timer_id)
    assert found is not None
    assert (found.status, found.fire_count) == ("cancelled", 0)
    (said,) = [record.getMessage() for record in caplog.records]
    assert f"timer {broken.timer_id} of session {session} is cancelled" in said


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_commit_of_unknown_outcome_fires_once(stand: Any, when: str) -> None:
    session = await stand.create_session()
    for number in range(1, 4):
        await stand.create_timer(session, due_at=due(stand), note=f"n{number}", interval_s=3600)
        unsure = over(stand, UnsureDatabase(stand.database, 1, when))
        await unsure.fire_due()
        assert await stand.fire_due() == 0
        assert len(await stand.inbox(session)) == number


async def test_a_postponed_recurring_timer_and_its_grid_survive_an_archive(place: Place) -> None:
    store = place.store
    session = await store.create_session()
    timer = await store.create_timer(session, cron="0 3 * * *", tz="Europe/Berlin", note="nightly")
    copy = await store.import_session(await store.export_session(session), timers="keep")
    [kept] = await store.list_timers(copy)
    assert (kept.cron, kept.tz, kept.note) == ("0 3 * * *", "Europe/Berlin", "nightly")
    assert abs(kept.due_at - timer.due_at) < 5000
