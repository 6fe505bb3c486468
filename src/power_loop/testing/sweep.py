"""One send of three rounds with parallel tools, and one thing that happens at each gap of it in turn.

A gap stands before and after every verb of the database, every model call, every effect and every hook that stands.
Whatever happens, another process goes on afterwards, and the verdict of the conversation must be empty.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

from power_loop.loop import StatefulAgentLoop
from power_loop.testing.clients import EXPECTED
from power_loop.testing.faults import AN_HOUR_S, LONG_PAUSE_S, EachGap, Strike, StrikeAt, jump, kill, lose_the_answer, pause, refuse
from power_loop.testing.scenario import come_to_rest
from power_loop.testing.simulation import Report, simulate
from power_loop.testing.talk import Talk
from power_loop.testing.verdict import leases_of_the_living, verdict
from power_loop.testing.world import NoFaults, Process, Scenario, World

SESSION = "s"
WORD = "m{} rounds=2 calls=2 tools=once,again,look"


def at_every_gap(strike: Strike, hook_points: Iterable[str] = (), word: str = WORD, **asked: Any) -> Report:
    """Strike at each gap in turn; the report over all of them. The seed of a violation is the number of its gap, from 0.

    ``asked``: what the send of ``word`` is given besides.
    """
    gaps = EachGap(strike)
    return simulate(sending(gaps, tuple(hook_points), word, **asked), gaps)


def sending(gaps: EachGap, hook_points: Iterable[str], word: str, **asked: Any) -> Scenario:
    """A scenario whose seed is the number of the gap at which something happens to a send."""

    async def scenario(world: World) -> None:
        world.faults, world.one_machine = NoFaults(), True
        talk = Talk(world, hook_points)
        talk.sessions = [await talk.agent(world.process("first")).new_session(session_id=SESSION)]
        sender = world.process("sender")
        loop = talk.agent(sender)
        world.faults = gaps.of(sender)
        await sender.run(_send(talk, loop, word.format(1), asked))
        await asyncio.sleep(2 * LONG_PAUSE_S)
        world.faults = NoFaults()
        forgotten = [] if world.database_was_away else leases_of_the_living(world)
        await come_to_rest(talk)
        await asyncio.sleep(2 * AN_HOUR_S)
        for text in [*forgotten, *await verdict(talk)]:
            world.violated(text)

    return scenario


async def _send(talk: Talk, loop: StatefulAgentLoop, text: str, asked: dict[str, Any]) -> None:
    try:
        talk.completed["m1"] = await loop.send(text, SESSION, **asked)
        talk.acknowledged["m1"] = SESSION
    except (*EXPECTED, asyncio.CancelledError) as error:
        talk.world.note(f"the sender got {type(error).__name__}: {error}")


# --- what others do meanwhile ------------------------------------------------------------------------


async def take_over(process: Process, where: str) -> None:
    """The lease seems to have ended: another process takes the session and ends the send; then the first goes on."""
    world = process.world
    world.wall_jump_s = AN_HOUR_S
    rival = world.process("rival")
    await process.stop_for(rival.run(_quietly(talk_of(world).agent(rival).resume(SESSION))))
    world.wall_jump_s = 0.0


async def take_over_half(process: Process, where: str) -> None:
    """The same, and the rival is in the middle of it when the first goes on."""
    world = process.world
    world.wall_jump_s = AN_HOUR_S
    rival = world.process("rival")
    world.faults = StrikeAt(rival, world.chance.randint(6, 24), pause)
    rival.start(_quietly(talk_of(world).agent(rival).resume(SESSION)))
    await process.stop(0.1)
    world.wall_jump_s = 0.0


async def enqueue(process: Process, where: str) -> None:
    """Somebody elsewhere leaves a word."""
    talk, other = talk_of(process.world), process.world.process("other")
    await other.run(_quietly(_acknowledged(talk, talk.agent(other).enqueue(WORD.format(2), SESSION, key="two"))))


async def follow_up(process: Process, where: str) -> None:
    """Somebody in the same process says more."""
    talk = talk_of(process.world)
    process.start(_quietly(_acknowledged(talk, talk.agents[process.name].follow_up(WORD.format(2), SESSION))))
    await asyncio.sleep(0.01)


async def cancel(process: Process, where: str) -> None:
    """Somebody elsewhere asks for the end of it."""
    world = process.world
    world.disturbances += 1
    other = world.process("other")
    await other.run(_quietly(talk_of(world).agent(other).cancel(SESSION)))


async def cancel_the_task(process: Process, where: str) -> None:
    """The task that drives the send is cancelled while it is here."""
    process.world.disturbances += 1
    process.tasks[0].cancel()
    await asyncio.sleep(0)


def talk_of(world: World) -> Talk:
    assert isinstance(world.story, Talk), "these strikes belong to a conversation"
    return world.story


async def _acknowledged(talk: Talk, saying: Coroutine[Any, Any, Any]) -> None:
    await saying
    talk.acknowledged["m2"] = SESSION


async def _quietly(work: Coroutine[Any, Any, Any]) -> None:
    try:
        await work
    except EXPECTED:
        return


STRIKES: tuple[Strike, ...] = (
    kill, pause, lose_the_answer, refuse, jump, take_over, take_over_half, enqueue, follow_up, cancel, cancel_the_task,
)  # fmt: skip
"""Everything that a sweep can do to a send."""
