"""Run the simulation: ``python scripts/simulate.py --seeds 2000 [--story NAME] [--first 0] [--seed N]``.

Prints seeds, steps, crashes and violations; a violation says how to run its seed alone. Ends with 1 when there was one.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time

from power_loop.testing.errands import errands
from power_loop.testing.scenario import conversation
from power_loop.testing.simulation import Report, simulate
from power_loop.testing.sweep import STRIKES, at_every_gap
from power_loop.testing.talk import HOOK_POINTS

# Each with how many seeds of the conversation one of its own takes.
STORIES = {"conversation": (conversation, 1), "errands": (errands, 10)}


def main(arguments: list[str]) -> int:
    options = _options(arguments)
    logging.getLogger("power_loop").setLevel(logging.CRITICAL)
    began = time.perf_counter()
    seeds = range(options.first, options.first + options.seeds) if options.seed is None else [options.seed]
    chosen = STORIES if options.story is None else {options.story: STORIES[options.story]}
    reports = [(name, simulate(story, seeds[:: 1 if options.seed is not None else every])) for name, (story, every) in chosen.items()]
    if options.seed is None:
        reports += [(f"{strike.__name__} at every gap", at_every_gap(strike, HOOK_POINTS)) for strike in STRIKES]
    return _tell(reports, time.perf_counter() - began)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Simulate crashes and races.")
    parser.add_argument("--seeds", type=int, default=2000, help="how many seeds of the conversation; of longer stories fewer")
    parser.add_argument("--story", choices=sorted(STORIES), help="this one alone")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="this one alone, with its last steps when it fails")
    return parser.parse_args(arguments)


def _tell(reports: list[tuple[str, Report]], seconds: float) -> int:
    for name, report in reports:
        print(f"{name}: {report}")
    violations = [(name, violation) for name, report in reports for violation in report.violations]
    if violations:
        name, first = violations[0]
        print(f"\n{name}: {first}")
        print(f"\nagain: python scripts/simulate.py --story {name} --seed {first.seed}" if name in STORIES else "")
    seeds = sum(report.seeds for _, report in reports)
    print(f"\n{seeds} seeds, {sum(report.steps for _, report in reports)} steps, {len(violations)} violations, {seconds:.1f} s")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
