"""What strikes a simulated process at a gap: by chance, or at one gap exactly."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextvars import Context
from itertools import count

from power_loop.contracts.errors import StoreUnavailable
from power_loop.contracts.store import CommitUnknown
from power_loop.testing.world import Process, World

Strike = Callable[[Process, str], Awaitable[None]]

# Longer than any lease of a scenario, and longer than a ticket in line counts.
LONG_PAUSE_S = 4.0
AN_HOUR_S = 3600.0
# A wrong clock is put right soon, or every lease would last for an hour.
CLOCK_IS_WRONG_S = 0.5


async def kill(process: Process, where: str) -> None:
    """`kill -9`, here and now."""
    await process.die()


async def pause(process: Process, where: str) -> None:
    """`SIGSTOP` for longer than a lease."""
    await process.stop(LONG_PAUSE_S)


async def lose_the_answer(process: Process, where: str) -> None:
    """COMMIT raises: before the work it was not written, after it it was."""
    if where.endswith("_write"):
        process.world.note(f"{process.name} COMMIT unknown {where}")
        raise CommitUnknown(where)


async def refuse(process: Process, where: str) -> None:
    """The database cannot be reached."""
    if where in ("before_write", "before_read"):
        process.world.note(f"{process.name} database unavailable {where}")
        process.world.disturbances += 1
        process.world.database_was_away = True
        raise StoreUnavailable("no route to the database")


async def jump(process: Process, where: str) -> None:
    """The machine's wall clock is an hour wrong for a while."""
    world = process.world
    if world.wall_jump_s:
        return
    # A lease that was taken in the future lasts until then, unless its holder gives it back or provably died.
    world.wall_jump_s = AN_HOUR_S * (world.chance.choice((-1, 1)) if world.clock_may_run_ahead else -1)
    world.disturbances += 1
    world.note(f"the clock jumps by {world.wall_jump_s:+.0f} s")

    def put_right() -> None:
        world.wall_jump_s = 0.0

    # In a context of no process: it happens whoever dies meanwhile.
    world.loop.call_later(CLOCK_IS_WRONG_S, put_right, context=Context())


async def delay(process: Process, where: str) -> None:
    """It takes its time."""
    await asyncio.sleep(process.world.chance.uniform(0.0, 0.02))


# How often each strikes, in one of so many gaps.
ONE_IN: dict[Strike, int] = {kill: 60, pause: 150, lose_the_answer: 25, refuse: 100, jump: 200, delay: 4}
MOST: dict[Strike, int] = {kill: 6, pause: 2, lose_the_answer: 8, refuse: 3, jump: 2, delay: 1000}


class RandomFaults:
    """Strikes by chance: each kind in one of so many gaps, and no more often than `MOST` says.

    Without ``one_in`` each seed has some of all kinds, so that no kind hides another.
    """

    def __init__(self, world: World, one_in: Mapping[Strike, int] | None = None) -> None:
        self._world = world
        self._one_in = one_in if one_in is not None else {kind: rate for kind, rate in ONE_IN.items() if world.chance.random() < 0.6}
        self._left = {kind: MOST.get(kind, 10) for kind in self._one_in}
        world.clock_may_run_ahead = world.one_machine and refuse not in self._left

    async def strike(self, process: Process, where: str) -> None:
        chance = self._world.chance
        for strike in list(self._left):
            if strike in self._left and chance.randrange(self._one_in[strike]) == 0:
                self._left[strike] -= 1
                if not self._left[strike]:
                    del self._left[strike]
                await strike(process, where)


class StrikeAt:
    """Strikes once, at the n-th gap (from 1) of one process."""

    def __init__(self, process: Process, n: int, strike: Strike) -> None:
        self._process, self._left, self._strike = process, n, strike

    @property
    def struck(self) -> bool:
        """There was such a gap."""
        return self._left <= 0

    async def strike(self, process: Process, where: str) -> None:
        if process is self._process:
            self._left -= 1
            if self._left == 0:
                await self._strike(process, where)


class EachGap:
    """A seed for each gap of one process, from 0, and the fault that strikes there; the seed behind the last gap ends them.

    gaps = EachGap(kill)
    simulate(scenario, gaps)      # a scenario that says ``world.faults = gaps.of(process)``
    """

    def __init__(self, strike: Strike) -> None:
        self._strike = strike
        self._faults: StrikeAt | None = None

    def __iter__(self) -> Iterator[int]:
        for seed in count():
            yield seed
            if self._faults is None or not self._faults.struck:
                return

    def of(self, process: Process) -> StrikeAt:
        """Strikes ``process`` at the gap that its world is the seed of."""
        self._faults = StrikeAt(process, process.world.seed + 1, self._strike)
        return self._faults
