"""SQLite and its disk: killed at any write, refused at any, cut off from power after any."""

from __future__ import annotations

import pytest
from proofs.io_faults import IoFaults
from proofs.power_loss import PowerLoss

# The boundaries before it belong to the creation of the file.
THE_TALK_BEGINS = 150


# acceptance: 186 (disk errors and a full disk: not written, or resolved)
def test_a_killed_process_or_a_refusing_disk_loses_nothing_that_was_confirmed(opened):
    with opened(IoFaults()) as suite:
        assert not suite.violations(suite.sample(25))


def test_without_commits_before_confirmations_the_sweep_fails(opened):
    with opened(IoFaults("acknowledged_before_commit")) as suite:
        assert suite.notices(suite.sample(60))


# acceptance: 186 (power loss)
def test_after_a_power_cut_at_any_write_everything_that_was_confirmed_is_there(opened):
    with opened(PowerLoss("full")) as suite:
        assert not suite.violations(suite.sample(200))


def test_with_normal_the_last_words_may_be_missing_and_what_is_there_is_whole(opened):
    with opened(PowerLoss("normal")) as suite:
        assert not suite.violations(suite.sample(100))


def test_with_normal_words_are_indeed_missing_so_the_replayer_tells_it_from_full(opened):
    with opened(PowerLoss("normal", promises="full")) as suite:
        assert suite.notices(suite.sample(200))


@pytest.mark.parametrize("mutation", ["no_sync", "acknowledged_before_commit"])
def test_a_power_cut_shows_what_was_never_on_the_disk(opened, mutation):
    with opened(PowerLoss("full", mutation=mutation)) as suite:
        assert suite.notices(suite.sample(200))


def test_an_unknown_commit_that_is_told_as_not_written_makes_the_sweep_fail(opened):
    with opened(IoFaults("unknown_commit_told_as_not_written")) as suite:
        assert suite.notices(case for case in suite.cases() if case[1] == "EIO_EVER" and case[0] > THE_TALK_BEGINS)
