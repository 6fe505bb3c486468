"""Real processes that send on one session at the same time, on one SQLite file."""

from __future__ import annotations

import itertools
import signal

import pytest

MANY = 30


def sends(case):
    """(send_index, kind, content) of what matters, in the order of the log."""
    kinds = "('user_said', 'model_replied', 'send_ended')"
    return case.rows(f"SELECT send_index, kind, content FROM pl_records WHERE kind IN {kinds} ORDER BY seq")


def check_that_nothing_interleaves(case):
    """Every send stands in one piece: the word, its answer, its end."""
    for number, rows in itertools.groupby(sends(case), key=lambda row: row[0]):
        whole = list(rows)
        if [kind for _, kind, _ in whole] == ["user_said", "model_replied", "send_ended"]:
            assert whole[1][2] == f"done: {whole[0][2]}", number
        else:  # its process was killed: the next one closed it
            assert [kind for _, kind, _ in whole][0 :: len(whole) - 1] == ["user_said", "send_ended"], (number, whole)


# acceptance: 115 (real processes), 114 (two drivers of one session)
@pytest.mark.parametrize("names", ["ab", "abcd"])
def test_processes_that_send_at_once_take_turns_and_lose_nothing(case, processes, names):
    count = MANY * 2 // len(names)
    together = case(f"together {names}")
    assert processes.run(*(together.job("send_many", name=name, count=count, rounds=0) for name in names)) == [0] * len(names)
    check_that_nothing_interleaves(together)
    said = [content for _, kind, content in sends(together) if kind == "user_said"]
    assert sorted(said) == sorted(f"{name}{n}" for name in names for n in range(count))
    for name in names:
        assert [text for text in said if text[0] == name] == [f"{name}{n}" for n in range(count)], "a client's own words keep their order"
    assert together.rows("SELECT sends, llm_calls, holder FROM pl_sessions") == [(len(said), len(said), None)]
    assert together.rows("SELECT count(*) FROM pl_waiters") == [(0,)]


def test_who_waits_is_served_before_who_comes_back(case, processes):
    """The holder sees the line and stands behind it: of two who always find each other there, neither speaks twice in a row."""
    together = case("in turn")
    jobs = [together.job("send_many", name=name, count=MANY, rounds=0, in_turn_with=other) for name, other in ("ab", "ba")]
    assert processes.run(*jobs) == [0, 0]
    said = "".join(content[0] for _, kind, content in sends(together) if kind == "user_said")
    assert said in ("ab" * MANY, "ba" * MANY)


# acceptance: 114 (one of them is killed)
def test_one_that_is_killed_in_the_middle_costs_the_others_nothing(case, processes):
    for at in (40, 41, 42, 43, 44):
        together = case(f"killed {at}")
        jobs = [together.job("send_many", name=name, count=8, rounds=0) for name in "ab"]
        dying = together.job("send_many", name="c", count=MANY, rounds=0, die_at=at)
        assert processes.run(*jobs, dying) == [0, 0, -signal.SIGKILL]
        assert processes.run(together.job("send_many", name="d", count=1, rounds=0)) == [0]
        check_that_nothing_interleaves(together)
        said = {content for _, kind, content in sends(together) if kind == "user_said"}
        assert {told["text"] for told in together.told("sent")} <= said, "what was acknowledged is there"
        assert together.rows("SELECT holder FROM pl_sessions") == [(None,)]
