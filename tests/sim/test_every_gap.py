"""One send of three rounds with parallel tools, and one thing that happens at each gap of it in turn.

A gap stands before and after every verb of the database, every model call, every effect and (in the second half)
every hook. Whatever happens, another process goes on afterwards, and the verdict of the conversation must be empty.
"""

from __future__ import annotations

import asyncio

import pytest

from power_loop.testing.conversation import EXPECTED, HOOK_POINTS, Talk, come_to_rest, leases_of_the_living, verdict
from power_loop.testing.faults import AN_HOUR_S, LONG_PAUSE_S, StrikeAt, jump, kill, lose_the_answer, pause, refuse
from power_loop.testing.simulate import simulate
from power_loop.testing.world import NoFaults

SAID = "m{} rounds=2 calls=2 tools=once,again,look"


def sending(strike, points=(), said=SAID.format(1)):
    """A scenario whose seed is the number of the gap at which ``strike`` happens to a send."""

    async def scenario(world):
        world.faults, world.one_machine = NoFaults(), True
        talk = Talk(world, points)
        talk.sessions = [await talk.agent(world.process("first")).new_session(session_id="s")]
        sender = world.process("sender")
        world.talk, talk.said = talk, 1
        world.faults = StrikeAt(sender, world.seed + 1, strike) if strike else NoFaults()
        await sender.run(send(talk, talk.agent(sender), said))
        await asyncio.sleep(2 * LONG_PAUSE_S)
        world.faults = NoFaults()
        forgotten = [] if world.database_was_away else leases_of_the_living(world)
        await come_to_rest(talk)
        await asyncio.sleep(2 * AN_HOUR_S)
        world.violations += [*forgotten, *await verdict(talk)]

    return scenario


async def send(talk, loop, said):
    try:
        talk.completed["m1"] = await loop.send(said, "s")
        talk.acknowledged["m1"] = "s"
    except EXPECTED as error:
        talk.world.note(f"the sender got {type(error).__name__}: {error}")


def at_every_gap(strike, points=()):
    """Strike at each gap in turn; the report of all."""
    gaps = simulate(sending(None, points), 1).check().gaps
    return simulate(sending(strike, points), gaps).check()


# --- what happens ------------------------------------------------------------------------------------


async def take_over(process, where):
    """The lease seems to have ended: another process takes the session and ends the send; then the first goes on."""
    world = process.world
    world.wall_jump_s = AN_HOUR_S
    rival = world.process("rival")
    await process.stop_for(rival.run(quietly(world.talk.agent(rival).resume("s"))))
    world.wall_jump_s = 0.0


async def take_over_half(process, where):
    """The same, and the rival is in the middle of it when the first goes on."""
    world = process.world
    world.wall_jump_s = AN_HOUR_S
    rival = world.process("rival")
    world.faults = StrikeAt(rival, world.chance.randint(8, 24), pause)
    rival.start(quietly(world.talk.agent(rival).resume("s")))
    await process.stop(0.1)
    world.wall_jump_s = 0.0


async def follow_up(process, where):
    """Somebody elsewhere says more."""
    talk = process.world.talk
    loop = talk.agent(process.world.process("other"))
    await by_another(process, quietly(said_elsewhere(talk, loop.enqueue(SAID.format(2), "s", key="two"), "m2")))


async def follow_up_in_the_same_process(process, where):
    talk = process.world.talk
    talk.acknowledged.pop("m2", None)
    loop = talk.agent(process)
    process.start(quietly(said_elsewhere(talk, loop.follow_up(SAID.format(2), "s"), "m2")))
    await process.clock.sleep(0.01)


async def cancel(process, where):
    process.world.disturbances += 1
    await by_another(process, quietly(process.world.talk.agent(process.world.process("other")).cancel("s")))


async def said_elsewhere(talk, saying, tag):
    await saying
    talk.acknowledged[tag] = "s"


async def quietly(work):
    try:
        return await work
    except EXPECTED:
        return None


async def by_another(process, work):
    """Wait for what another process does; this one stands still meanwhile."""
    other = process.world.processes[-1]
    await other.run(quietly(work))


STRIKES = (kill, pause, lose_the_answer, refuse, jump, take_over, take_over_half, follow_up, follow_up_in_the_same_process, cancel)


# acceptance: 185 (each kind of fault at every gap)
@pytest.mark.parametrize("strike", STRIKES, ids=lambda strike: strike.__name__)
def test_a_send_that_is_struck_at_any_gap_comes_to_rest_with_everything_in_its_place(strike):
    assert at_every_gap(strike).seeds > 40


# acceptance: 185 (each kind of fault at every gap, with hooks)
@pytest.mark.parametrize("strike", (kill, take_over, follow_up, cancel), ids=lambda strike: strike.__name__)
def test_the_same_with_a_handler_at_every_hook(strike):
    assert at_every_gap(strike, HOOK_POINTS).seeds > 80
