"""What may happen to a worker, at every gap of its work: whatever it is, other workers alone bring all of it to rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from power_loop.loop import StatefulAgentLoop
from power_loop.store import claims, inbox
from power_loop.testing import simulate
from power_loop.testing.clients import EXPECTED
from power_loop.testing.faults import LONG_PAUSE_S, EachGap, Strike, kill
from power_loop.testing.simulation import Report
from power_loop.testing.sweep import SESSION, STRIKES, WORD, enqueue
from power_loop.testing.talk import Talk
from power_loop.testing.verdict import leases_of_the_living, verdict
from power_loop.testing.world import Faults, NoFaults, Process, Scenario, World
from power_loop.worker import Worker

# Together longer than a claim lasts, and than the first retries of what failed.
LOOKS, LOOK_EVERY_S = 6, 5.0


pytestmark = pytest.mark.usefixtures("quiet_log")


def working(faults_of: Callable[[Process], Faults]) -> Scenario:
    """A scenario in which these faults strike a worker; others come after it."""

    async def scenario(world: World) -> None:
        world.faults, world.one_machine = NoFaults(), True
        talk = Talk(world)
        first = talk.agent(world.process("first"))
        talk.sessions = [await first.new_session(session_id=SESSION)]
        await first.enqueue(WORD.format(1), SESSION, key="one")
        talk.acknowledged["m1"] = SESSION
        worker = world.process("worker")
        loop = talk.agent(worker)
        world.faults = faults_of(worker)
        await worker.run(_work_twice(loop))
        await asyncio.sleep(2 * LONG_PAUSE_S)
        world.faults = NoFaults()
        forgotten = [] if world.database_was_away else leases_of_the_living(world)
        last = world.process("last")
        await last.run(_work_for_a_while(talk.agent(last)))
        for text in [*forgotten, *await verdict(talk)]:
            world.violated(text)

    return scenario


async def _work_twice(loop: StatefulAgentLoop) -> None:
    try:
        for _ in range(2):
            await Worker(loop).run_once()
    except (*EXPECTED, asyncio.CancelledError):
        return


async def _work_for_a_while(loop: StatefulAgentLoop) -> None:
    worker = Worker(loop)
    for _ in range(LOOKS):
        await asyncio.sleep(LOOK_EVERY_S)
        await worker.run_once()
    await loop.aclose()


def at_every_gap(strike: Strike) -> Report:
    gaps = EachGap(strike)
    return simulate(working(gaps.of), gaps)


# acceptance: 135, 139 (each kind of fault at every gap of a worker)
@pytest.mark.parametrize("strike", STRIKES, ids=lambda strike: strike.__name__)
def test_workers_bring_to_rest_what_struck_one_of_them_at_any_gap(strike: Strike) -> None:
    assert at_every_gap(strike).check().seeds > 50


# acceptance: 185 (a settlement without its guard)
def test_giving_a_session_back_without_looking_at_wake_no_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    guard = "AND epoch = ? AND head = ? AND wake_no = ?"
    assert guard in claims.SETTLE
    monkeypatch.setattr(claims, "SETTLE", claims.SETTLE.replace(guard, "AND ? + ? + ? IS NOT NULL"))
    assert at_every_gap(enqueue).violations


# acceptance: 185 (a post that wakes nobody)
def test_a_post_that_does_not_say_when_to_look_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    asleep = inbox.WAKE.replace("ELSE {t} END", "ELSE runnable_at + 0 * {t} END")
    assert asleep != inbox.WAKE
    monkeypatch.setattr(inbox, "WAKE", asleep)
    assert simulate(working(lambda _: NoFaults()), 1).violations


# acceptance: 185 (a dead holder that nobody looks for)
def test_leaving_sessions_of_the_dead_alone_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "DUE", f"{claims.DUE} AND holder IS NULL")
    assert at_every_gap(kill).violations
