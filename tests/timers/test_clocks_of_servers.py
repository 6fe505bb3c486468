"""On servers the database's clock decides when timers are due, whatever the clocks of its clients show."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import engines
import pytest

from power_loop import SessionStore, StatefulAgentLoop, open_store
from power_loop.contracts.clock import SystemClock
from power_loop.contracts.cron import next_cron_ms

HOUR_MS = 3_600_000
# Between two looks at two clocks.
ABOUT_MS = 10_000


class WrongClock(SystemClock):
    """Real time, wrong by so many ms."""

    def __init__(self, wrong_ms: int) -> None:
        self.wrong_ms = wrong_ms

    def now_ms(self) -> int:
        return super().now_ms() + self.wrong_ms


@pytest.fixture(params=engines.SERVERS)
async def right(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SessionStore]:
    """A store on a machine whose clock is right."""
    async with engines.cleared(request.param, tmp_path) as dsn:
        store = await open_store(dsn)
        await store.create_session(session_id="s", agent="agent")
        yield store
        await store.close()


@pytest.fixture(params=[-HOUR_MS, HOUR_MS], ids=["an hour behind", "an hour ahead"])
def wrong(request: pytest.FixtureRequest, right: SessionStore) -> SessionStore:
    """The same store on a machine whose clock is wrong."""
    return SessionStore(right.database, right.dialect, right.table_prefix, clock=WrongClock(request.param))


async def test_a_delay_is_as_long_for_everybody_and_nobody_fires_early_or_late(right: SessionStore, wrong: SessionStore) -> None:
    for store in (right, wrong):
        loop = StatefulAgentLoop(llm="echo:", store=store)
        due = await loop.schedule_timer("s", delay_s=0, note="now", interval_s=1800)
        await loop.schedule_timer("s", delay_s=1800, note="later")
        assert [await wrong.fire_due(), await right.fire_due()] == [1, 0]
        for reader in (right, wrong):
            [seen] = [timer for timer in await reader.list_timers("s") if timer.timer_id == due.timer_id]
            assert abs(seen.due_at - reader.clock.now_ms() - 1_800_000) < ABOUT_MS
        await right.transition_timer("s", due.timer_id, from_status="armed", to_status="cancelled")
        await loop.aclose()


async def test_cron_goes_by_the_clock_of_the_server(right: SessionStore, wrong: SessionStore) -> None:
    before = right.clock.now_ms()
    timer = await wrong.create_timer("s", cron="30 * * * *", note="x")
    seen = await right.get_timer("s", timer.timer_id)
    assert seen is not None
    assert abs(seen.due_at - next_cron_ms("30 * * * *", "UTC", before)) < ABOUT_MS
