"""Two thousand seeds of the conversation: clients in several processes, and everything that can go wrong. `make simulate` has more."""

from __future__ import annotations

import pytest

from power_loop.testing.scenario import conversation
from power_loop.testing.simulation import simulate

# In parts, so that two test processes share them.
PARTS, SEEDS_A_PART = 4, 500


# acceptance: 185 (random faults, many processes)
# acceptance: 16, 19, 115 (in simulated processes)
@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_strikes_nothing_acknowledged_is_lost_or_repeated(part):
    report = simulate(conversation, range(part * SEEDS_A_PART, (part + 1) * SEEDS_A_PART)).check()
    assert report.seeds == SEEDS_A_PART
    assert report.crashes > SEEDS_A_PART / 4, "the faults must really strike"
