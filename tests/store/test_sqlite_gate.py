"""The writer gate: one at a time, in order, with a limit to the wait, and no place lost by who gives up."""

from __future__ import annotations

import os
import queue
import threading

import pytest

from power_loop.store.gate import WriterGate


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "app.db.writer")


@pytest.fixture
def gates(path):
    """Three ways through one gate, as three processes have them: each with a file description of its own."""
    gates = [WriterGate(path) for _ in range(3)]
    yield gates
    for gate in gates:
        gate.close()


def test_only_one_is_inside(gates):
    first, second, _ = gates
    first.enter(5)
    with pytest.raises(TimeoutError):
        second.enter(0.02)
    first.leave()
    second.enter(5)
    with pytest.raises(TimeoutError):
        first.enter(0.02)
    second.leave()


def test_a_place_that_was_given_up_blocks_nobody_when_its_turn_comes(gates):
    first, second, third = gates
    first.enter(5)
    with pytest.raises(TimeoutError):
        second.enter(0.02)
    first.leave()
    third.enter(5)
    third.leave()


def test_who_gave_up_and_comes_again_takes_the_place_that_still_stands(gates):
    first, second, third = gates
    first.enter(5)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            second.enter(0.02)
    first.leave()
    for gate in (second, third, second):
        gate.enter(5)
        gate.leave()


def test_many_go_through_one_after_the_other(path):
    inside, most, lock, rounds = [0], [0], threading.Lock(), 30

    def walk() -> None:
        gate = WriterGate(path)
        for _ in range(rounds):
            gate.enter(30)
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            with lock:
                inside[0] -= 1
            gate.leave()
        gate.close()
        done.put(None)

    done: queue.SimpleQueue[None] = queue.SimpleQueue()
    for _ in range(6):
        threading.Thread(target=walk, daemon=True).start()
    for _ in range(6):
        done.get(timeout=30)
    assert most == [1]


def test_closing_while_a_place_still_stands_gives_its_file_back_later(gates, path):
    first, second, third = gates
    first.enter(5)
    with pytest.raises(TimeoutError):
        second.enter(0.02)
    second.close()
    first.leave()
    third.enter(5)
    third.leave()


def test_a_gate_that_cannot_be_made_says_so(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        WriterGate(str(tmp_path / "nowhere" / "gate")).enter(1)
    with pytest.raises(IsADirectoryError):
        WriterGate(str(tmp_path)).enter(1)


def test_the_gate_leaves_its_file(gates, path):
    gates[0].enter(1)
    gates[0].leave()
    gates[0].close()
    assert os.path.getsize(path) == 0
