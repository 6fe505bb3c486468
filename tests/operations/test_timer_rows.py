"""Timers as rows: due ones reach the inbox exactly once, recurring ones keep their nominal time."""

from __future__ import annotations

import asyncio

import pytest
from operating import Place

from power_loop import SessionNotFoundError

HOUR_MS = 3_600_000


async def test_a_due_timer_reaches_the_inbox_once_whoever_fires_it(place: Place) -> None:
    store, session = place.store, await place.store.create_session()
    now = store.clock.now_ms()
    due = await store.create_timer(session, due_at=now - 1000, note="wake up")
    later = await store.create_timer(session, due_at=now + HOUR_MS, note="not yet")
    assert [timer.timer_id for timer in await store.due_timers()] == [due.timer_id]
    assert sum(await asyncio.gather(*(store.fire_due() for _ in range(4)))) == 1
    assert await store.fire_due() == 0
    [item] = await store.inbox(session)
    assert (item.key, item.record.content) == (f"timer:{due.timer_id}:1", f"<timer id={due.timer_id}>wake up</timer>")
    assert [timer.timer_id for timer in await store.list_timers(session)] == [later.timer_id]
    done = await store.get_timer(session, due.timer_id)
    assert done is not None
    assert (done.status, done.fire_count) == ("fired", 1)
    [request] = await place.next_requests(session)
    assert "wake up" in str(request["messages"])


async def test_what_was_missed_is_one_firing_and_the_next_one_is_on_the_nominal_time(place: Place) -> None:
    store, session = place.store, await place.store.create_session()
    start = store.clock.now_ms() - 10_500
    timer = await store.create_timer(session, due_at=start, note="tick", interval_s=4)
    assert await store.fire_due() == 1
    after = await store.get_timer(session, timer.timer_id)
    assert after is not None
    assert after.status == "armed"
    assert abs(after.due_at - (start + 12_000)) < 200, "on a server the time is read through its clock"
    assert await store.fire_due() == 0


async def test_a_timer_moves_only_from_where_it_is_said_to_stand(place: Place) -> None:
    store, session = place.store, await place.store.create_session()
    timer = await store.create_timer(session, due_at=1, note="x")
    where = (session, timer.timer_id)
    assert not await store.transition_timer(*where, from_status="fired", to_status="armed")
    assert await store.transition_timer(*where, from_status="armed", to_status="cancelled")
    assert await store.fire_due() == 0
    assert await store.transition_timer(*where, from_status="cancelled", to_status="armed", due_at=store.clock.now_ms() + HOUR_MS)
    assert await store.due_timers() == []
    with pytest.raises(ValueError, match="armed, fired, cancelled"):
        await store.transition_timer(*where, from_status="armed", to_status="odd")
    for wrong in ({"note": " "}, {"note": None}, {"note": "x", "interval_s": 0.5}):
        with pytest.raises(ValueError, match=r"note|interval_s"):
            await store.create_timer(session, due_at=1, **wrong)
    with pytest.raises(TypeError, match="cron takes text, not int"):
        await store.create_timer(session, note="x", cron=7)
    with pytest.raises(SessionNotFoundError):
        await store.create_timer("gone", due_at=1, note="x")
    assert await store.prune_timers(older_than_ms=0) == 0
    await store.transition_timer(*where, from_status="armed", to_status="fired")
    assert await store.prune_timers(older_than_ms=0) == 1


async def test_armed_timers_come_along_only_when_asked_for(place: Place) -> None:
    store, session = place.store, await place.store.create_session()
    await store.create_timer(session, due_at=store.clock.now_ms() + HOUR_MS, note="later", interval_s=60)
    archive = await store.export_session(session)
    skipped, kept = await store.import_session(archive), await store.import_session(archive, timers="keep")
    assert await store.list_timers(skipped) == []
    [timer] = await store.list_timers(kept)
    assert (timer.note, timer.interval_s, timer.status) == ("later", 60.0, "armed")
    assert await store.list_timers(await store.fork_session(session)) == []
