"""A process in which many write at once is killed while some are told and others are written."""

from __future__ import annotations

import signal
from collections import Counter

import pytest

from power_loop.store.sqlite_worker import CROWD

COUNT = 3
# A commit has three boundaries, and each of three times as many sessions as make a crowd is made by one.
MADE = 3 * 3 * CROWD


@pytest.mark.parametrize("at", range(MADE + 1, MADE + 34))
def test_a_crowd_that_is_killed_has_lost_nothing_that_it_was_told(case, processes, at):
    crowd = case(f"crowd {at}")
    assert processes.run(crowd.job("crowd", count=COUNT, rounds=0, die_at=at)) == [-signal.SIGKILL]
    sent = crowd.told("sent")
    ended = dict(crowd.rows("SELECT session_id, count(*) FROM pl_records WHERE kind = 'send_ended' GROUP BY session_id"))
    told = Counter(each["session"] for each in sent)
    assert told.items() <= {(session, min(told[session], number)) for session, number in ended.items()}
    assert processes.run(crowd.job("after_the_crowd", rounds=0, sent=sent)) == [0]
    assert crowd.told("violations") == [{"found": []}]


def test_a_crowd_that_is_left_alone_is_told_everything(case, processes):
    crowd = case("crowd")
    assert processes.run(crowd.job("crowd", count=COUNT, rounds=0)) == [0]
    sends = crowd.rows("SELECT session_id, sends FROM pl_sessions WHERE session_id <> 's'")
    told = Counter(each["session"] for each in crowd.told("sent"))
    assert dict(sends) == told
    assert set(told.values()) == {COUNT}
