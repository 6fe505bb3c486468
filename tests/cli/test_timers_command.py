"""`power-loop timers`: what is armed, and firing it from a scheduler of the system's own."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest


@pytest.fixture
def session(commands: Any) -> str:
    return commands.json("run", "hello")["session_id"]


# acceptance: 179 (timers), 110 (from the command line)
def test_timers_are_added_listed_fired_and_cancelled(commands: Any, session: str) -> None:
    soon = commands.json("timers", session, "--add", "look at the oven", "--in", "0")
    daily = commands.json("timers", session, "--add", "report", "--cron", "0 7 * * 1-5", "--tz", "Europe/Berlin")
    later = commands.json("timers", session, "--add", "later", "--at", "2099-01-31T08:30+01:00", "--every", "3600")
    assert (later["due_at"], later["interval_s"]) == (4_073_527_800_000, 3600.0)
    listed = commands.json("timers")
    assert [timer["timer_id"] for timer in listed] == [soon["timer_id"], daily["timer_id"], later["timer_id"]]
    code, out, _ = commands("timers", session)
    assert (code, len(out.splitlines())) == (0, 3)
    assert "cron 0 7 * * 1-5 Europe/Berlin  report" in out
    assert commands.json("timers", "--fire") == {"fired": 1}
    assert commands.json("timers", "--fire") == {"fired": 0}
    assert commands.json("timers", session, "--cancel", str(daily["timer_id"]))["status"] == "cancelled"
    assert [timer["status"] for timer in commands.json("timers", "--all")] == ["fired", "cancelled", "armed"]
    heard = commands.json("run", "and now?", "--session", session)
    assert "look at the oven" in str(commands.json("show", heard["session_id"])["messages"])


def test_a_time_that_stands_in_no_calendar_is_listed_as_it_is_kept(commands: Any, session: str) -> None:
    timer = commands.json("timers", session, "--add", "x", "--in", "5")
    with sqlite3.connect(commands.dsn) as database:
        database.execute("UPDATE pl_timers SET due_at = ? WHERE timer_id = ?", (2**62, timer["timer_id"]))
    database.close()
    code, out, err = commands("timers")
    assert (code, err) == (0, "")
    assert f"{2**62} ms" in out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--add", "x"), 2, "--in"),
        (("--add", "x", "--in", "-5"), 2, "--in is -5.0"),
        (("--add", " ", "--in", "5"), 2, "note"),
        (("--add", "x", "--at", "tomorrow"), 2, "--at 'tomorrow'"),
        (("--add", "x", "--cron", "nonsense"), 2, "five fields"),
        (("--add", "x", "--in", "5", "--cron", "* * * * *"), 2, "not allowed"),
        (("--cancel", "99"), 3, "no armed timer 99"),
    ],
)
def test_what_is_no_timer_is_wrong_usage(commands: Any, session: str, words: tuple[str, ...], code: int, said: str) -> None:
    found, _, err = commands("timers", session, *words)
    assert (found, said in err) == (code, True), err


def test_unknown_sessions_and_databases_are_not_found(commands: Any) -> None:
    assert commands("timers")[0] == 3
    commands.json("run", "x")
    assert commands("timers", "gone")[0] == 3
    assert commands("timers", "--add", "x", "--in", "5")[0] == 2
    assert commands("timers")[:2] == (0, "no timers\n")
