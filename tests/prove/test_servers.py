"""A server that cannot be trusted to be there: its lines are cut, its processes killed, itself restarted."""

from __future__ import annotations

import engines
import pytest
from proofs.mutations import mutated
from proofs.network import Network
from proofs.server_kills import ServerKills


# acceptance: 186 (cut connections: not written, or resolved)
@pytest.mark.parametrize("engine", engines.SERVERS)
def test_a_line_that_is_cut_at_any_piece_loses_nothing_that_was_confirmed(opened, engine):
    with opened(Network(engine)) as suite:
        assert not suite.violations(suite.sample(6))


def test_an_unknown_commit_that_is_told_as_not_written_makes_the_cuts_fail(opened):
    with mutated("unknown_commit_told_as_not_written"), opened(Network("postgresql")) as suite:
        assert suite.notices(case for case in suite.cases() if case[1] == "reply")


@pytest.mark.parametrize("engine", ["postgresql", "mariadb"])
def test_a_server_that_is_killed_at_any_batch_loses_nothing_that_was_confirmed(opened, engine):
    with opened(ServerKills(engine)) as suite:
        assert not suite.violations(suite.sample(4))


@pytest.mark.parametrize("engine", ["postgresql", "mariadb"])
def test_a_server_that_confirms_before_it_keeps_makes_the_kills_fail(opened, engine):
    with opened(ServerKills(engine, careless=True)) as suite:
        assert suite.notices(case for case in reversed(suite.cases()) if case[1:] == ("before", "restart"))
