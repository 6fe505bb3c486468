"""Run every suite of tests/prove whole: ``python scripts/prove.py [--suite WORDS] [--case N] [--sample N] [--seed N]``.

Prints for each suite: cases, violations, seconds; a violation names its case, and ``--suite ... --case N`` runs that one
alone. Ends with 1 when anything was violated. Suites whose server is not on this machine are named, not run.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

TESTS = Path(__file__).parent.parent / "tests"
sys.path[:0] = [str(TESTS / "prove"), str(TESTS / "support")]

import pytest  # noqa: E402
from proofs import all_suites  # noqa: E402
from proofs.suite import Missing, Suite  # noqa: E402

SHOWN = 10


def main(arguments: list[str]) -> int:
    """Run what is asked for; the exit code."""
    options = _options(arguments)
    logging.getLogger("power_loop").setLevel(logging.CRITICAL)
    warnings.simplefilter("error")
    began, cases, violations = time.perf_counter(), 0, 0
    for suite in all_suites.every():
        if options.suite in suite.name:
            ran, wrong = _prove(suite, options)
            cases, violations = cases + ran, violations + wrong
    print(f"\n{cases} cases, {violations} violations, {time.perf_counter() - began:.0f} s")
    return 1 if violations else 0


def _prove(suite: Suite, options: argparse.Namespace) -> tuple[int, int]:
    """Cases and violations of one suite."""
    began = time.perf_counter()
    try:
        with suite:
            cases = _chosen(suite, options)
            found = suite.violations(cases)
    except (Missing, pytest.skip.Exception, pytest.fail.Exception) as error:
        print(f"{suite.name}: NOT RUN, {error}")
        return 0, 0
    more = f" ({suite.done()})" if suite.done() else ""
    print(f"{suite.name}: {len(cases)} cases{more}, {len(found)} violations, {time.perf_counter() - began:.1f} s", flush=True)
    for text in found[:SHOWN]:
        print(f"  {text}", flush=True)
    return len(cases), len(found)


def _chosen(suite: Suite, options: argparse.Namespace) -> Sequence[object]:
    if options.case is not None:
        return [suite.cases()[options.case]]
    return suite.sample(options.sample, options.seed) if options.sample else suite.cases()


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Hurt the store in every way there is.")
    parser.add_argument("--suite", default="", help="only those with this in their name")
    parser.add_argument("--case", type=int, help="this case alone, by its place in the list")
    parser.add_argument("--sample", type=int, default=0, help="so many cases of each suite instead of all")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
