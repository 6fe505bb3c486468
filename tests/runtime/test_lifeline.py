"""The lifeline: a dead holder is known at once, and nobody alive is ever taken for dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from power_loop.runtime.lifeline import SWEPT_AFTER_S, Lifeline

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="such locks are a matter of Unix kernels")

HOLD = "import sys, pathlib; from power_loop.runtime.lifeline import Lifeline; line = Lifeline(sys.argv[1], pathlib.Path(sys.argv[2]))"
AND_WAIT = "; print('held', flush=True); sys.stdin.read(); line.release()"
HOLDS = HOLD + "; line.hold()" + AND_WAIT
# Its child process ends like one that closes its own loop.
FORKS = HOLD + "; line.hold(); import os; child = os.fork(); child or (line.release(), os._exit(0)); os.waitpid(child, 0)" + AND_WAIT


@pytest.fixture
def room(tmp_path: Path) -> Path:
    return tmp_path / "lifelines"


@contextmanager
def process(holder: str, room: Path, does: str = HOLDS) -> Iterator[subprocess.Popen[str]]:
    """Another process that shows its sign of life, until its standard input ends."""
    child = subprocess.Popen([sys.executable, "-c", does, holder, str(room)], stdin=-1, stdout=-1, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        yield child
    finally:
        child.communicate()


def files(room: Path) -> list[str]:
    return sorted(path.name for path in room.glob("*.alive"))


def test_a_killed_process_is_known_to_be_dead_and_stays_so_for_everyone(room: Path) -> None:
    us, others = Lifeline("us", room), Lifeline("others", room)
    with process("child", room) as child:
        assert not us.is_dead("child")
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        assert us.is_dead("child")
        assert us.is_dead("child"), "it may have held more than one session"
        assert others.is_dead("child"), "and we need not be the ones who take over"


def test_a_process_that_is_stopped_is_alive(room: Path) -> None:
    with process("child", room) as child:
        os.kill(child.pid, signal.SIGSTOP)
        try:
            assert not Lifeline("us", room).is_dead("child")
        finally:
            os.kill(child.pid, signal.SIGCONT)


def test_a_process_that_left_in_order_proves_nothing(room: Path) -> None:
    with process("child", room):
        pass
    assert files(room) == []
    assert not Lifeline("us", room).is_dead("child")


def test_holders_in_one_process_see_each_other_alive(room: Path) -> None:
    one, two = Lifeline("one", room), Lifeline("two", room)
    one.hold()
    two.hold()
    assert not one.is_dead("two")
    assert not two.is_dead("one")
    one.release()
    assert not two.is_dead("one")
    assert files(room) == ["two.alive"]
    two.release()


def test_nobody_is_dead_to_itself_or_unheard_of(room: Path) -> None:
    line = Lifeline("us", room)
    assert not line.is_dead("us")
    assert not line.is_dead("who?")
    line.hold()
    assert not line.is_dead("us")
    line.release()


def test_a_sign_of_life_begins_again_after_it_was_given_up(room: Path) -> None:
    line = Lifeline("us", room)
    for _ in range(2):
        line.hold()
        line.hold()
        assert files(room) == ["us.alive"]
        assert not Lifeline("other", room).is_dead("us")
        line.release()
        line.release()
    assert files(room) == []


def test_a_forked_child_does_not_give_up_its_parents_sign_of_life(room: Path) -> None:
    with process("parent", room, FORKS):
        assert files(room) == ["parent.alive"]
        assert not Lifeline("us", room).is_dead("parent")
    assert files(room) == []


def test_without_a_place_for_it_nothing_is_proved_and_nothing_fails(tmp_path: Path) -> None:
    taken = tmp_path / "a file"
    taken.write_text("no folder")
    line = Lifeline("us", taken)
    line.hold()
    assert not line.is_dead("other")
    line.release()


def test_what_the_dead_left_is_swept_up_after_a_day_and_nothing_else(room: Path) -> None:
    room.mkdir()
    for name, age_s in [("old", SWEPT_AFTER_S + 60), ("new", SWEPT_AFTER_S - 60)]:
        (room / f"{name}.alive").touch()
        then = (room / f"{name}.alive").stat().st_mtime - age_s
        os.utime(room / f"{name}.alive", (then, then))
    living = Lifeline("living", room)
    living.hold()
    for name in ("living.alive", "swept"):
        os.utime(room / name, (0, 0))
    us = Lifeline("us", room)
    us.hold()
    assert files(room) == ["living.alive", "new.alive", "us.alive"]
    living.release()
    us.release()


def test_one_process_an_hour_sweeps_for_all(room: Path) -> None:
    first, second = Lifeline("first", room), Lifeline("second", room)
    first.hold()
    (room / "old.alive").touch()
    os.utime(room / "old.alive", (0, 0))
    second.hold()
    assert "old.alive" in files(room)
    first.release()
    second.release()


def test_a_holders_name_is_no_path(room: Path) -> None:
    line = Lifeline("../host:1/é", room)
    line.hold()
    assert files(room) == [".._host_1_é.alive"]
    line.release()


def test_who_leaves_a_lease_behind_leaves_the_proof_that_nobody_holds_it(tmp_path):
    line = Lifeline("owes", tmp_path)
    line.hold()
    line.release(owes=True)
    assert Lifeline("other", tmp_path).is_dead("owes")
