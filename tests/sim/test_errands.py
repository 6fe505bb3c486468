"""Eighty seeds of timers, workflows and ledgers: clients in several processes, and everything that can go wrong.

`make simulate` has more.
"""

from __future__ import annotations

import pytest

from power_loop.testing.errands import errands
from power_loop.testing.simulation import simulate

PARTS, SEEDS_A_PART = 2, 40


# acceptance: 104, 109, 144 (in simulated processes)
@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_strikes_every_timer_run_and_ledger_comes_out_right(part: int) -> None:
    report = simulate(errands, range(part * SEEDS_A_PART, (part + 1) * SEEDS_A_PART)).check()
    assert report.seeds == SEEDS_A_PART
    assert report.crashes > SEEDS_A_PART, "the faults must really strike"
