"""Real processes on one session: killed at any boundary, killed again while they recover, stopped in the middle of each other's way."""

from __future__ import annotations

import engines
import pytest
from proofs.kills import Kills
from proofs.races import Races


# acceptance: 185 (real processes, every engine)
@pytest.mark.parametrize("engine", engines.FILES_AND_SERVERS)
def test_a_process_that_is_killed_at_any_boundary_loses_nothing_that_was_confirmed(opened, engine):
    with opened(Kills(engine)) as suite:
        assert not suite.violations(suite.sample(5))


# acceptance: 114 (zombies), 115 (processes that stop for longer than their lease)
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_processes_that_stop_and_die_in_each_others_way_write_nothing_as_zombies(opened, engine):
    with opened(Races(engine, seeds=4)) as suite:
        assert not suite.violations([3])
        assert suite.stops


@pytest.mark.parametrize("suite", [Kills("sqlite", "acknowledged_before_commit"), Races("sqlite", 3, "acknowledged_before_commit")])
def test_confirmations_before_their_commit_make_the_suites_fail(opened, suite):
    with opened(suite):
        assert suite.notices(suite.cases())
