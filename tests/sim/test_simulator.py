"""The simulator itself: what it promises to those who rely on its verdict."""

from __future__ import annotations

import asyncio
import logging

import pytest

from power_loop.contracts.store import CommitUnknown
from power_loop.testing.clock import ManualClock, SeededIds
from power_loop.testing.faults import StrikeAt, kill, lose_the_answer
from power_loop.testing.scenario import conversation
from power_loop.testing.simulation import simulate
from power_loop.testing.virtual_loop import VirtualLoop
from power_loop.testing.world import NoFaults


def traces(seed):
    seen = []

    async def traced(world):
        await conversation(world)
        seen.append(list(world.trace))

    simulate(traced, [seed])
    return seen[0]


def test_a_seed_is_the_same_to_the_last_step():
    assert traces(7) == traces(7)
    assert traces(7) != traces(8)


def test_a_failing_seed_says_how_to_run_it_again():
    async def fails(world):
        assert world.seed != 3, "three is a bad number"

    report = simulate(fails, 5)
    assert [violation.seed for violation in report.violations] == [3]
    with pytest.raises(AssertionError, match=r"three is a bad number(.|\n)*seeds=\[3\]"):
        report.check()


def test_a_world_that_never_comes_to_rest_is_a_violation():
    async def waits(world):
        await asyncio.Event().wait()

    async def spins(world):
        while True:
            await asyncio.sleep(0)

    assert "everybody waits" in simulate(waits, 1).violations[0].text
    assert "not at rest" in simulate(spins, 1, max_steps=1000).violations[0].text


def test_an_exception_that_nobody_awaits_is_a_violation():
    async def drops(world):
        world.loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)

    assert "ZeroDivisionError" in simulate(drops, 1).violations[0].text


def test_a_dead_process_says_no_last_word():
    async def scenario(world):
        world.faults, said = NoFaults(), []
        process = world.process()

        async def lives():
            try:
                await process.gap("here")
                said.append("went on")
            finally:
                said.append("finally")

        world.faults = StrikeAt(process, 1, kill)
        assert await process.run(lives()) is None
        await asyncio.sleep(10)
        assert not said

    simulate(scenario, 3).check()


def test_a_dead_process_writes_nothing_although_its_batch_was_on_its_way():
    async def scenario(world):
        world.faults = NoFaults()
        process = world.process()
        world.faults = StrikeAt(process, 1 + world.seed, kill)
        await process.run(process.store.create_session(session_id="s"))
        return world.look("SELECT count(*) FROM {p}sessions")

    found = []

    async def collected(world):
        found.append(await scenario(world))

    simulate(collected, 2).check()
    assert found == [[(0,)], [(1,)]], "killed before the commit, and after it"


def test_a_stopped_process_goes_on_where_it_was():
    async def scenario(world):
        world.faults = NoFaults()
        process = world.process()
        seen = []

        async def lives():
            await process.stop(5.0)
            seen.append(world.loop.time())

        await process.run(lives())
        assert seen == [5.0]

    simulate(scenario, 3).check()


def test_a_lost_answer_is_lost_on_either_side_of_the_commit():
    async def scenario(world):
        world.faults = NoFaults()
        process = world.process()
        world.faults = StrikeAt(process, 1 + world.seed, lose_the_answer)

        async def writes():
            with pytest.raises(CommitUnknown):
                await process.store.database.write([])

        await process.run(writes())

    simulate(scenario, 2).check()


def test_threads_have_no_place_in_a_virtual_loop():
    async def hands_over():
        await asyncio.get_running_loop().run_in_executor(None, print)

    loop = VirtualLoop(0)
    with pytest.raises(RuntimeError, match="no threads"):
        loop.run_until_complete(hands_over())
    loop.close()


def test_the_log_is_quiet():
    assert logging.getLogger("power_loop").level == logging.CRITICAL


async def test_a_manual_clock_wakes_sleepers_in_order_and_at_their_time():
    clock, woke = ManualClock(), []

    async def sleeper(name, *naps):
        for nap in naps:
            await clock.sleep(nap)
            woke.append((name, clock.monotonic()))

    tasks = [asyncio.create_task(sleeper("a", 2, 2)), asyncio.create_task(sleeper("b", 3))]
    await clock.advance(1)
    assert (woke, clock.sleepers) == ([], 2)
    await clock.advance(3)
    assert woke == [("a", 2), ("b", 3), ("a", 4)]
    await asyncio.gather(*tasks)


async def test_the_wall_may_jump_while_nobody_sleeps_less():
    clock = ManualClock(now_ms=1_000_000)
    clock.jump(-500)
    assert (clock.now_ms(), clock.monotonic()) == (500_000, 0.0)
    await clock.advance(1.5)
    assert (clock.now_ms(), clock.monotonic()) == (501_500, 1.5)


def test_ids_of_one_seed_are_the_same():
    drawn = [[ids.token(4), ids.bits(62), ids.uniform(0, 1)] for ids in (SeededIds(1), SeededIds(1), SeededIds(2))]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0][0]) == 8
