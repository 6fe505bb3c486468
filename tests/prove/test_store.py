"""The verbs of the session store, in any history and in every order of two."""

from __future__ import annotations

import engines
import pytest
from proofs.interleavings import Interleavings
from proofs.mutations import mutated
from proofs.store_machine import Histories

# Each with words of a case that shows it.
OF_THE_LOG = {
    "no_epoch_in_the_fence": {"expired", "seize"},
    "look_then_write": {"expired", "seize"},
    "release_ignores_wake_no": {"waiting", "end"},
    "post_in_two_batches": {"expired", "post", "delete"},
}
# How much of each suite a server is held against here; `scripts/prove.py` has it all.
ON_A_SERVER = 3


# acceptance: 185 (a second writer at every commit, on real engines)
@pytest.mark.parametrize("engine", engines.ALL)
def test_two_deeds_in_any_order_leave_what_one_after_the_other_would(opened, engine):
    with opened(Interleavings(engine)) as suite:
        assert not suite.violations(suite.sample(40 if engine == "memory" else ON_A_SERVER))
        assert suite.orders > ON_A_SERVER


@pytest.mark.parametrize("engine", engines.ALL)
def test_the_store_agrees_with_a_model_of_it_in_any_history(opened, engine):
    with opened(Histories(engine, seeds=1, histories=100 if engine == "memory" else ON_A_SERVER)) as suite:
        assert not suite.violations(suite.cases())


@pytest.mark.parametrize("mutation", OF_THE_LOG)
def test_the_orders_show_a_store_that_is_broken(opened, mutation):
    with mutated(mutation), opened(Interleavings("memory")) as suite:
        assert suite.notices(case for case in suite.cases() if OF_THE_LOG[mutation] <= set(case))


@pytest.mark.parametrize("mutation", [*OF_THE_LOG, "unknown_commit_known_by_its_place"])
def test_the_model_shows_a_store_that_is_broken(opened, mutation):
    with mutated(mutation), opened(Histories("memory", seeds=5, shrink=False)) as suite:
        assert suite.notices(suite.cases())
