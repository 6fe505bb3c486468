"""Readers that come and go while processes die, stop and race: all of them read the same, and what the runs told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Any

import pytest

from power_loop import AgentEvent, SessionNotFoundError
from power_loop import watching as watching_module
from power_loop.runtime.bus import AgentEventBus
from power_loop.testing.scenario import conversation
from power_loop.testing.simulation import simulate
from power_loop.testing.talk import Talk
from power_loop.testing.world import World
from power_loop.watching import Watching

SEEDS = 60
SESSIONS = ("s0", "s1")
# Of a result, what its records tell; the rest is known to the run alone.
OF_A_RESULT = ("status", "final_text", "send_index", "error", "usage", "tool_calls", "pending_interactions")


def said(event: AgentEvent) -> tuple[Any, ...]:
    payload = {name: value for name, value in event.payload.items() if name not in ("time_iso", "max_rounds")}
    if event.type == "result":
        payload = {name: payload[name] for name in OF_A_RESULT}
    return event.cursor, str(event.type), event.send_index, event.round_index, payload


class Wanderer:
    """Reads a session from outside; leaves after a few events, or when it is tired of waiting, and comes back."""

    def __init__(self, world: World, session: str, seed: str) -> None:
        self._world, self._session, self._chance = world, session, random.Random(f"{world.seed} {seed}")
        self.seen: list[AgentEvent] = []

    async def wander(self) -> None:
        while True:
            with suppress(SessionNotFoundError):
                await self._visit()
            await asyncio.sleep(self._chance.choice((0.0, 0.05, 500.0)))

    async def _visit(self) -> None:
        after = self.seen[-1].cursor or 0 if self.seen else 0
        left = self._chance.randint(1, 9)
        reading = Watching(AgentEventBus()).events(self._world.onlooker(), self._session, "an onlooker", after=after)
        with suppress(TimeoutError):
            async with aclosing(reading) as events, asyncio.timeout(self._chance.choice((0.1, 5.0, 4000.0))):
                async for event in events:
                    self.seen.append(event)
                    left -= 1
                    if not left:
                        return


async def watched_conversation(world: World) -> None:
    told: list[AgentEvent] = []
    plain = Talk.agent

    def agent(self: Talk, process: Any) -> Any:
        loop = plain(self, process)
        loop.event_bus.subscribe(None, told.append)
        return loop

    wanderers = [Wanderer(world, session, f"reader {n}") for n in range(2) for session in SESSIONS]
    tasks = [world.loop.create_task(each.wander()) for each in wanderers]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Talk, "agent", agent)
        await conversation(world)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for wanderer in wanderers:
        whole = [said(event) async for event in everything(world, wanderer._session)]
        seen = [said(event) for event in wanderer.seen]
        if seen != whole[: len(seen)]:
            world.violated(f"a reader of {wanderer._session} saw {seen}, not the beginning of {whole}")
    for session in SESSIONS:
        by_cursor = {event.cursor: said(event) async for event in everything(world, session)}
        for event in told:
            if event.session_id == session and event.record_seq is not None and by_cursor.get(event.cursor) != said(event):
                world.violated(f"{session} was told {said(event)}, but reads {by_cursor.get(event.cursor)}")


async def everything(world: World, session: str) -> AsyncIterator[AgentEvent]:
    with suppress(SessionNotFoundError):
        async for event in Watching(AgentEventBus()).events(world.onlooker(), session, "an onlooker", follow=False):
            yield event


# acceptance: 133 (random faults, cut at random)
def test_whatever_strikes_every_reader_sees_the_same_and_what_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching_module, "LAST_POLL_S", 500.0)  # a simulated conversation rests for hours
    report = simulate(watched_conversation, SEEDS, max_steps=2_000_000).check()
    assert report.crashes > SEEDS / 4, "the faults must really strike"
