"""Clients of a scenario: each does some deeds in turn, in a process that is started again whenever it dies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias, TypeVar

from power_loop.contracts.errors import (
    LLMError,
    SessionBusyError,
    SessionLeaseLost,
    SessionPendingError,
    StoreUnavailable,
    WorkflowRunError,
)
from power_loop.loop import StatefulAgentLoop
from power_loop.testing.world import Process, World

# What a caller must expect in such a world, and nothing else.
EXPECTED = (SessionPendingError, SessionLeaseLost, SessionBusyError, StoreUnavailable, LLMError, WorkflowRunError, TimeoutError)


class Story(Protocol):
    """What clients share."""

    world: World
    sessions: list[str]

    def agent(self, process: Process) -> StatefulAgentLoop:
        """The loop of one process."""
        ...


S = TypeVar("S", bound=Story)
Deed: TypeAlias = Callable[[S, StatefulAgentLoop, str], Awaitable[None]]
"""Of a story, in a process with this loop, to the session with this id."""


async def client(story: S, deeds: Sequence[Deed[S]], count: int, pauses_s: Sequence[float]) -> None:
    """Do ``count`` of ``deeds``, whichever chance chooses; a process that dies is followed by one that does the next deed."""
    world, left = story.world, [count]
    while left[0]:
        process = world.process()
        await process.run(_live(story, process, deeds, left, pauses_s))
        await asyncio.sleep(world.chance.uniform(0.0, 0.5))


async def _live(story: S, process: Process, deeds: Sequence[Deed[S]], left: list[int], pauses_s: Sequence[float]) -> None:
    loop, world = story.agent(process), story.world
    while left[0]:
        left[0] -= 1
        session_id, deed = world.chance.choice(story.sessions), world.chance.choice(deeds)
        name = getattr(deed, "__name__", "deed")
        world.note(f"{process.name} {name} {session_id}")
        try:
            await deed(story, loop, session_id)
        except EXPECTED as error:
            world.note(f"{process.name} {name} got {type(error).__name__}: {error}")
        await asyncio.sleep(world.chance.choice(pauses_s))
    await loop.aclose(drain_timeout_s=1.0)
