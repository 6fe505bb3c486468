"""Running a scenario under many seeds: each seed is one world, one order of steps, one set of faults.

    report = simulate(scenario, seeds=range(1000))
    report.check()          # AssertionError with the seed, the violation and the last steps

A failing seed fails again: `simulate(scenario, seeds=[seed])`. What a scenario may use is in `world`, what may strike
it in `faults`.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from power_loop.testing.faults import RandomFaults
from power_loop.testing.virtual_loop import Stuck, VirtualLoop
from power_loop.testing.world import Scenario, World

SHOWN_STEPS = 60


@dataclass(frozen=True)
class Violation:
    """One broken promise, and the way to it."""

    seed: int
    text: str
    trace: tuple[str, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        steps = "\n".join(f"    {step}" for step in self.trace[-SHOWN_STEPS:])
        return f"seed {self.seed}: {self.text}\n  run it alone with simulate(scenario, seeds=[{self.seed}]); the last steps:\n{steps}"


@dataclass
class Report:
    """What many seeds amounted to."""

    seeds: int = 0
    steps: int = 0
    """Steps of the event loop."""
    gaps: int = 0
    """Places where a fault could have struck."""
    commits: int = 0
    crashes: int = 0
    virtual_s: float = 0.0
    violations: list[Violation] = field(default_factory=list[Violation])

    def check(self) -> Report:
        """Itself when nothing was violated, else AssertionError with the first violation."""
        if self.violations:
            failing = sorted({violation.seed for violation in self.violations})
            raise AssertionError(f"{len(failing)} of {self.seeds} seeds failed, {failing[:20]}; the first:\n{self.violations[0]}")
        return self

    def __str__(self) -> str:
        return (
            f"seeds {self.seeds}, steps {self.steps}, gaps {self.gaps}, commits {self.commits}, crashes {self.crashes}, "
            f"virtual hours {self.virtual_s / 3600:.1f}, violations {len(self.violations)}"
        )


def simulate(scenario: Scenario, seeds: int | Iterable[int], *, max_failures: int = 20, max_steps: int = 200_000) -> Report:
    """Run ``scenario(world)`` once for each seed (a number: so many, from 0). Stops after ``max_failures`` failing seeds.

    Whatever the scenario raises, whatever it reports by `World.violated`, and a world that does not come to rest are
    violations. `RandomFaults` strike unless the scenario puts something else in `World.faults`.
    """
    chosen = range(seeds) if isinstance(seeds, int) else seeds
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _simulate(scenario, chosen, max_failures, max_steps)
    # A thread can run one event loop at a time, so a caller who has one lends another thread.
    with ThreadPoolExecutor(1, "power-loop-simulation") as thread:
        return thread.submit(_simulate, scenario, chosen, max_failures, max_steps).result()


def _simulate(scenario: Scenario, seeds: Iterable[int], max_failures: int, max_steps: int) -> Report:
    report, failing = Report(), 0
    for seed in seeds:
        found = run_seed(scenario, seed, report, max_steps)
        report.violations += found
        failing += bool(found)
        if failing >= max_failures:
            break
    return report


def run_seed(scenario: Scenario, seed: int, report: Report, max_steps: int) -> list[Violation]:
    """One seed; its figures are added to ``report``."""
    loop = VirtualLoop(seed, max_steps=max_steps)
    # The collector would choose its own moment to finalise what a dead process left behind.
    collecting = gc.isenabled()
    gc.disable()
    world = World(seed, loop)
    try:
        world.faults = RandomFaults(world)
        try:
            loop.run_until_complete(scenario(world))
        except (Exception, Stuck) as error:  # the scenario's code: whatever it raises is what the seed shows
            world.violated(f"{type(error).__name__}: {error}")
        for failure in loop.failures:
            world.violated(failure)
    finally:
        loop.close()
        world.core.discard()
        if collecting:
            gc.enable()
    report.seeds += 1
    report.steps += loop.steps
    report.gaps += world.gaps
    report.commits += world.commits
    report.crashes += world.crashes
    report.virtual_s += loop.time()
    return [Violation(seed, text, tuple(world.trace)) for text in world.violations]
