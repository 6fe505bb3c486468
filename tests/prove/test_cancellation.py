"""A verb that is cancelled at any of its awaits leaves a store that works and no open transaction."""

from __future__ import annotations

import inspect

import engines
import pytest
from proofs.cancellation import VERBS, Cancellation
from proofs.mutations import mutated

from power_loop import StatefulAgentLoop

# Without awaits of their own, or another verb under another name.
NOT_SWEPT = {"follow_up_sync", "new_session_sync", "run_sync", "send_sync", "close"}


# How many verbs are drawn there; `scripts/prove.py` has them all.
ON_A_SERVER = 6


# acceptance: 39
@pytest.mark.parametrize("engine", engines.ALL)
def test_a_verb_cut_off_at_any_await_leaves_a_store_that_works(opened, engine):
    with opened(Cancellation(engine)) as suite:
        assert not suite.violations(suite.sample(ON_A_SERVER) if engine in engines.SERVERS else suite.cases())
        assert suite.cuts > (10 if engine == "memory" else 2 * ON_A_SERVER)


def test_every_verb_of_the_loop_is_cut_off():
    public = {name for name, _ in inspect.getmembers(StatefulAgentLoop, inspect.isfunction) if not name.startswith("_")}
    assert public - NOT_SWEPT == {name.partition(",")[0] for name in VERBS if not name.startswith("store.")}


def test_a_lease_that_a_cancelled_task_took_and_forgot_makes_the_sweep_fail(opened):
    with mutated("a_take_that_was_cancelled_is_forgotten"), opened(Cancellation("sqlite")) as suite:
        assert suite.notices(["send"])
