"""What a host asks of a loop: to be woken later, not to be, and what waits."""

from __future__ import annotations

import math
from typing import Any

import pytest
from operating import Place

from power_loop import SessionNotFoundError

HOUR_MS = 3_600_000


async def test_a_timer_is_due_after_a_delay_at_a_time_or_when_cron_says_so(stand: Any) -> None:
    loop = stand.loop()
    session, now = await loop.new_session(), stand.time.now_ms()
    after = await loop.schedule_timer(session, delay_s=90.5, note="a delay")
    at = await loop.schedule_timer(session, due_at_ms=now + 1000, note="a time", interval_s=60)
    cron = await loop.schedule_timer(session, cron="30 8 * * *", tz="Europe/Berlin", note="each morning")
    assert (after.due_at, after.interval_s, after.status) == (now + 90_500, None, "armed")
    assert (at.due_at, at.interval_s) == (now + 1000, 60.0)
    assert (cron.cron, cron.tz) == ("30 8 * * *", "Europe/Berlin")
    assert (cron.due_at % (24 * HOUR_MS)) == 7 * HOUR_MS + HOUR_MS // 2, "half past eight of a winter's day, in UTC"
    assert [timer.timer_id for timer in await loop.list_timers(session)] == [at.timer_id, after.timer_id, cron.timer_id]
    assert await stand.inbox(session) == [], "nothing fires by itself"


async def test_a_cancelled_timer_never_fires_and_is_cancelled_once(stand: Any) -> None:
    loop = stand.loop()
    session, other = await loop.new_session(), await loop.new_session()
    timer = await loop.schedule_timer(session, delay_s=1, note="x")
    assert not await loop.cancel_timer(other, timer.timer_id), "it is another session's"
    assert await loop.cancel_timer(session, timer.timer_id)
    assert not await loop.cancel_timer(session, timer.timer_id)
    await stand.time.advance(5)
    assert (await stand.fire_due(), await loop.list_timers(session)) == (0, [])


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({}, "exactly one"),
        ({"delay_s": 1, "due_at_ms": 5}, "exactly one"),
        ({"delay_s": 1, "cron": "* * * * *"}, "exactly one"),
        ({"delay_s": -1}, "delay_s"),
        ({"delay_s": math.nan}, "delay_s"),
        ({"delay_s": math.inf}, "delay_s"),
        ({"delay_s": 1, "note": " \n"}, "note"),
        ({"delay_s": 1, "note": "a\ud800b"}, "the note of a timer holds .* a lone surrogate"),
        ({"delay_s": 1, "note": "a\0b"}, "the note of a timer holds a NUL character"),
        ({"delay_s": 1, "interval_s": 0.5}, "interval_s"),
        ({"delay_s": 1, "interval_s": math.nan}, "interval_s"),
        ({"delay_s": 1, "interval_s": math.inf}, "interval_s"),
        ({"due_at_ms": 10**18}, "due_at_ms"),
        ({"due_at_ms": -1}, "due_at_ms"),
        ({"cron": "* * * * *", "interval_s": 60}, "interval_s"),
        ({"cron": "61 * * * *"}, "minute"),
        ({"cron": "* * * *"}, "five fields"),
        ({"cron": "0 0 * * * *"}, "five fields"),
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"cron": "* * * * *", "tz": "Mars/Olympus"}, "time zone"),
        ({"cron": "* * * * *", "tz": "../../etc/passwd"}, "time zone"),
    ],
)
async def test_what_is_no_timer_is_refused_before_anything_is_written(stand: Any, wrong: dict[str, Any], what: str) -> None:
    loop = stand.loop()
    session = await loop.new_session()
    with pytest.raises(ValueError, match=what):
        await loop.schedule_timer(session, **{"note": "x", **wrong})
    assert await loop.list_timers(session) == []


async def test_an_unknown_session_has_no_timers(stand: Any) -> None:
    loop = stand.loop()
    for verb in (loop.schedule_timer("gone", delay_s=1, note="x"), loop.cancel_timer("gone", 1), loop.list_timers("gone")):
        with pytest.raises(SessionNotFoundError):
            await verb


# acceptance: 109 (restarts)
async def test_timers_survive_a_restart_on_every_engine(place: Place) -> None:
    first = place.loop()
    session = await first.new_session()
    once = await first.schedule_timer(session, due_at_ms=place.store.clock.now_ms() - 5000, note="once")
    often = await first.schedule_timer(session, due_at_ms=place.store.clock.now_ms() - 5000, note="often", interval_s=3600)
    daily = await first.schedule_timer(session, cron="0 3 * * *", tz="America/New_York", note="nightly")
    await first.aclose()
    assert await place.store.fire_due() == 2
    again = place.loop()
    armed = {timer.timer_id: timer for timer in await again.list_timers(session)}
    assert set(armed) == {often.timer_id, daily.timer_id}
    assert abs(armed[often.timer_id].due_at - often.due_at - 3_600_000) < 200, "on a server the time is read through its clock"
    assert abs(armed[daily.timer_id].due_at - daily.due_at) < 200
    fired = await place.store.get_timer(session, once.timer_id)
    assert fired is not None
    assert (fired.status, fired.fire_count) == ("fired", 1)
    [request] = await place.next_requests(session)
    assert str(request["messages"]).count("<timer id=") == 2
