"""`hears`: what of the inbox may enter. `counts`: what a record adds to its session's counters."""

from __future__ import annotations

import pytest
from histories import MAIL, READ, USED, Life, lives, parked, replied, returned, said
from hypothesis import given

from power_loop.contracts.records import (
    ROUNDS,
    Answered,
    CallCharged,
    Decided,
    ModelReplied,
    Record,
    RoundSkipped,
    SendEnded,
    SendRested,
    SendResumed,
    StopRequested,
    ToolReturned,
)
from power_loop.contracts.store import NO_TALLY, Tally
from power_loop.contracts.usage import NO_USAGE, CallUsage
from power_loop.kernel.hears import hears
from power_loop.kernel.state import IDLE, apply, finishes, replay
from power_loop.kernel.tally import counts, joined

ASKING: list[Record] = [said(), replied("", READ, MAIL)]
STOP = StopRequested("cancelled", "enough", "cancel")


@pytest.mark.parametrize(
    ("records", "word", "enters"),
    [
        ([], said(), True),
        ([said()], said("more"), True),
        ([said(), replied("yes")], said("more"), True),
        # No provider takes a word between a call and its result.
        (ASKING, said("more"), None),
        ([*ASKING, parked(READ), returned(MAIL)], said("more"), None),
        ([*ASKING, returned(READ), returned(MAIL)], said("more"), True),
        ([said(), STOP], said("more"), None),
        ([said(), STOP, SendEnded("cancelled")], said("more"), True),
        # An answer needs an open call; the second one comes too late.
        (ASKING, returned(READ), True),
        ([*ASKING, parked(READ)], returned(READ), True),
        ([*ASKING, returned(READ)], returned(READ), False),
        ([said()], returned(READ), False),
        ([], returned(READ), False),
        # A decision needs the very question that waits.
        ([*ASKING, parked(READ, "q1")], Decided("q1", READ.id, True), True),
        ([*ASKING, parked(READ, "q1")], Decided("q1", MAIL.id, True), False),
        ([*ASKING, parked(READ, "q1")], Decided("other", READ.id, True), False),
        ([*ASKING, parked(READ, "q1"), Decided("q1", READ.id, True)], Decided("q1", READ.id, False), False),
        ([*ASKING, parked(READ, "q1"), Decided("q1", READ.id, True), parked(READ, "q2")], Decided("q1", READ.id, True), False),
        ([*ASKING, parked(READ, "q1"), Decided("q1", READ.id, True), parked(READ, "q2")], Decided("q2", READ.id, True), True),
        # So does an answer that the call goes on with.
        ([*ASKING, parked(READ, "q1")], Answered("q1", READ.id, "yes"), True),
        ([*ASKING, parked(READ, "q1")], Answered("other", READ.id, "yes"), False),
        ([*ASKING, parked(READ, "q1"), Answered("q1", READ.id, "yes")], Answered("q1", READ.id, "no"), False),
        # A stop needs something to stop.
        (ASKING, STOP, True),
        ([], STOP, False),
        ([said(), SendEnded("completed")], STOP, False),
        # Nothing else comes through the inbox.
        ([said()], SendRested("failed"), False),
    ],
)
def test_what_may_enter(records: list[Record], word: Record, enters: bool | None) -> None:
    assert hears(replay(records), word) is enters


@given(lives(folds=True))
def test_what_enters_leaves_every_call_with_one_answer(life: Life) -> None:
    answered = [record.call_id for record in life.records if isinstance(record, ToolReturned)]
    assert len(answered) == len(set(answered))
    for call_id in answered:
        assert hears(life.state, ToolReturned(call_id, "again")) is False


USAGE = CallUsage(10, 5, 3, 2, 1, 1, 0.5, True)
CHARGED = Tally(llm_calls=1, prompt_tokens=10, completion_tokens=5, cost=0.5)


@pytest.mark.parametrize(
    ("record", "tally"),
    [
        (said(), NO_TALLY),
        (replied("yes", usage=USAGE), CHARGED._replace(rounds=1)),
        (replied("so far", purpose="limit_summary", usage=USAGE), CHARGED),
        (replied("[degraded]", purpose="degraded", usage=NO_USAGE), NO_TALLY),
        (CallCharged("fold", USAGE), CHARGED),
        (CallCharged("round", USAGE, "LLMError"), CHARGED),
        (RoundSkipped(), Tally(rounds=1)),
        (returned(READ), Tally(tool_calls=1)),
        (returned(READ, ran=False), NO_TALLY),
        (SendEnded("completed"), Tally(sends=1)),
        (SendEnded("degraded"), Tally(sends=1)),
        (SendEnded("budget_exceeded"), Tally(sends=1)),
        (SendEnded("failed"), NO_TALLY),
        (SendEnded("cancelled"), NO_TALLY),
        (SendEnded("interrupted"), NO_TALLY),
        (SendRested("waiting_for_input"), NO_TALLY),
        (SendResumed(), NO_TALLY),
        (STOP, NO_TALLY),
    ],
)
def test_what_a_record_adds(record: Record, tally: Tally) -> None:
    assert counts(replay(ASKING), record) == tally


def test_a_send_that_was_counted_is_not_counted_again() -> None:
    again: list[Record] = [said(), SendEnded("hit_round_limit"), SendResumed(1)]
    assert counts(replay(again), SendEnded("completed")) == NO_TALLY
    assert counts(replay([*again, SendEnded("cancelled"), SendResumed()]), SendEnded("completed")) == NO_TALLY
    assert counts(replay([said(), SendEnded("failed"), SendResumed()]), SendEnded("completed")) == Tally(sends=1)


def test_an_unpriced_call_costs_nothing_in_the_counters() -> None:
    assert counts(IDLE, CallCharged("fold", USED)).cost == 0.0


def test_tallies_of_one_batch_are_one_tally() -> None:
    assert joined([]) == NO_TALLY
    assert joined([NO_TALLY, CHARGED, NO_TALLY]) == CHARGED
    assert joined([CHARGED, Tally(sends=1), CHARGED]) == Tally(1, 0, 2, 0, 20, 10, 1.0)


# acceptance: 21, 28 (counters and sums)
@given(lives(folds=True))
def test_the_counters_are_the_sums_over_the_records(life: Life) -> None:
    tallies, state, finished = [], IDLE, set[int]()
    for row, record in zip(life.rows, life.records, strict=True):
        tallies.append(counts(state, record))
        state = apply(state, record)
        if isinstance(record, SendEnded) and finishes(record.status):
            finished.add(row.send_index)
    usages = [record.usage for record in life.records if isinstance(record, (ModelReplied, CallCharged))]
    rounds = sum(isinstance(r, RoundSkipped) or (isinstance(r, ModelReplied) and r.purpose in ROUNDS) for r in life.records)
    ran = sum(isinstance(record, ToolReturned) and record.ran for record in life.records)
    assert joined(tallies) == Tally(
        len(finished), rounds, sum(u.calls for u in usages), ran, sum(u.prompt for u in usages), sum(u.completion for u in usages)
    )
