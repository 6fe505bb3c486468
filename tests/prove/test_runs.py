"""A process that drives a workflow dies at any commit: the run comes to its end, and is told and paid once."""

from __future__ import annotations

import engines
import pytest
from proofs.mutations import mutated
from proofs.runs import Runs


# acceptance: 104 (every engine), 109, 159
@pytest.mark.parametrize("engine", engines.FILES_AND_SERVERS)
def test_a_run_and_a_timer_whose_process_dies_at_any_commit_come_to_their_end_once(opened, engine):
    with opened(Runs(engine)) as suite:
        assert not suite.violations(suite.sample(6 if engine == "sqlite" else 3))


def test_a_spawn_that_does_not_find_its_child_makes_the_sweep_fail(opened):
    with mutated("a_spawn_finds_no_child"), opened(Runs("memory")) as suite:
        assert suite.notices(case for case in suite.cases() if case[1] == "after")
