"""`decide`, rule by rule, in the order in which the rules stand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from histories import MAIL, READ, SAVE, effects_of, parked, replied, returned, said

from power_loop.contracts.effects import (
    CallModel,
    Effect,
    EndSend,
    FoldContext,
    ReportCancelled,
    ReportDenied,
    ReportUnknown,
    Rest,
    RunTools,
)
from power_loop.contracts.limits import Limits
from power_loop.contracts.messages import ToolCall
from power_loop.contracts.records import (
    Answered,
    CallCharged,
    Decided,
    FoldSkipped,
    Record,
    RoundSkipped,
    SendEnded,
    SendRested,
    SendResumed,
    StopRequested,
    ToolStarted,
)
from power_loop.contracts.usage import CallUsage, UsageLimits
from power_loop.kernel.decide import EMPTY_REPLY_REMINDER, decide, over_budget, rounds_left
from power_loop.kernel.state import IDLE, replay

STOP = StopRequested("cancelled", "enough", "token")
LIMIT_SUMMARY = replied("so far …", purpose="limit_summary")
DEGRADED = replied("[degraded: …]", purpose="degraded")
TINY = Limits(rounds=1)
BROKE = Limits(usage=UsageLimits(total_tokens=15))


def follows(records: list[Record], limits: Limits = Limits(), *, too_long: bool = False) -> Effect:  # noqa: B008  # an immutable default
    return decide(replay(records), limits, effects_of=effects_of, too_long=lambda: too_long)


@pytest.mark.parametrize(
    ("records", "effect"),
    [
        ([], Rest()),
        ([said(), replied("yes"), SendEnded("completed")], Rest()),
        ([said()], CallModel()),
        ([said(), replied("yes")], EndSend("completed")),
        ([said(), replied("yes"), said("more", name="follow_up")], CallModel()),
        ([said(), replied("", READ)], RunTools((READ,))),
        ([said(), replied("", READ, SAVE, MAIL)], RunTools((READ, SAVE, MAIL))),
        ([said(), replied("", READ, SAVE), returned(READ)], RunTools((SAVE,))),
        ([said(), replied("", READ), returned(READ)], CallModel()),
        ([said(), replied("", READ), parked(READ)], Rest()),
        ([said(), replied("", READ, SAVE), parked(READ)], RunTools((SAVE,))),
        ([said(), replied("", READ, SAVE), parked(READ), returned(SAVE)], Rest()),
        ([said(), replied("", READ), parked(READ), Decided("q1", READ.id, True)], RunTools((READ,))),
        ([said(), replied("", READ), parked(READ), Answered("q1", READ.id, "yes")], RunTools((READ,))),
        ([said(), replied("", READ), parked(READ), Decided("q1", READ.id, False)], ReportDenied((READ,))),
        # What was approved, and is parked again with other arguments, waits again; and the last decision counts.
        ([said(), replied("", READ), parked(READ), Decided("q1", READ.id, True), parked(READ, "q2")], Rest()),
        ([said(), replied("", READ), parked(READ), Decided("q1", READ.id, False), parked(READ, "q2")], Rest()),
        (
            [said(), replied("", READ), parked(READ), Decided("q1", READ.id, True), parked(READ, "q2"), Decided("q2", READ.id, False)],
            ReportDenied((READ,)),
        ),
        ([said(), replied("", READ, SAVE), parked(READ), Decided("q1", READ.id, False)], ReportDenied((READ,))),
        ([said(), replied("", READ), parked(READ), Decided("q1", READ.id, False), returned(READ)], CallModel()),
        ([said(), replied("", READ), parked(READ), Decided("q1", READ.id, False), STOP], ReportCancelled((READ,))),
        ([said(), replied("", READ), parked(READ), SendRested("waiting_for_input")], Rest()),
        ([said(), replied("", READ), ToolStarted(READ.id, MAIL.name, "{}")], ReportUnknown((READ,))),
        ([said(), replied("", MAIL), ToolStarted(MAIL.id, READ.name, "{}")], RunTools((MAIL,))),
        ([said(), RoundSkipped()], CallModel()),
        ([said(), CallCharged("round", CallUsage(1, 0, calls=1), "LLMError")], CallModel()),
    ],
)
def test_what_follows_from_the_records(records: list[Record], effect: Effect) -> None:
    assert follows(records) == effect


@pytest.mark.parametrize(
    ("records", "effect"),
    [
        # A call that began and may not be repeated is in doubt; others simply run again.
        ([said(), replied("", MAIL), ToolStarted(MAIL.id)], ReportUnknown((MAIL,))),
        ([said(), replied("", READ), ToolStarted(READ.id, "read", "{}")], RunTools((READ,))),
        ([said(), replied("", SAVE), ToolStarted(SAVE.id, "save", "{}")], RunTools((SAVE,))),
        ([said(), replied("", MAIL), ToolStarted(MAIL.id), returned(MAIL)], CallModel()),
        ([said(), replied("", MAIL), ToolStarted(MAIL.id), parked(MAIL)], Rest()),
        # Doubt comes before everything else: before the neighbours run, and before a stop ends the send.
        ([said(), replied("", READ, MAIL), ToolStarted(MAIL.id)], ReportUnknown((MAIL,))),
        ([said(), replied("", READ, MAIL), ToolStarted(MAIL.id), STOP], ReportUnknown((MAIL,))),
        # "Run it again" is the caller's word; it takes the mark away.
        ([said(), replied("", MAIL), ToolStarted(MAIL.id), SendResumed(unknown="rerun")], RunTools((MAIL,))),
        ([said(), replied("", MAIL), ToolStarted(MAIL.id), SendResumed(unknown="ask")], ReportUnknown((MAIL,))),
    ],
)
def test_a_call_that_began_and_may_not_be_repeated_is_reported_not_run(records: list[Record], effect: Effect) -> None:
    assert follows(records) == effect


@pytest.mark.parametrize(
    ("records", "effect"),
    [
        ([said(), STOP], EndSend("cancelled", "enough")),
        ([said(), replied("", READ, SAVE), STOP], ReportCancelled((READ, SAVE))),
        ([said(), replied("", READ, SAVE), returned(READ), STOP], ReportCancelled((SAVE,))),
        ([said(), replied("", READ), parked(READ), STOP], ReportCancelled((READ,))),
        ([said(), replied("", READ), STOP, returned(READ)], EndSend("cancelled", "enough")),
        ([said(), replied("yes"), STOP], EndSend("cancelled", "enough")),
        ([said(), DEGRADED], EndSend("degraded")),
        ([said(), LIMIT_SUMMARY], EndSend("hit_round_limit")),
        ([said(), LIMIT_SUMMARY, STOP], EndSend("cancelled", "enough")),
        ([said(), LIMIT_SUMMARY, StopRequested("completed", "", "llm.after")], EndSend("hit_round_limit")),
        ([said(), STOP, StopRequested("completed", "", "round.end")], EndSend("cancelled", "enough")),
    ],
)
def test_a_stop_answers_what_is_open_and_then_ends_the_send(records: list[Record], effect: Effect) -> None:
    assert follows(records) == effect


def test_without_tools_on_offer_asked_calls_wait() -> None:
    asked: list[Record] = [said(), replied("", READ)]
    assert follows(asked, Limits(has_tools=False)) == Rest()
    assert follows([*asked, STOP], Limits(has_tools=False)) == ReportCancelled((READ,))


def test_of_calls_whose_tool_is_lacking_only_the_others_run() -> None:
    other = ToolCall("other", "other", "{}")
    asked: list[Record] = [said(), replied("", READ, other)]
    assert follows(asked, Limits(lacks=frozenset({"other"}))) == RunTools((READ,))
    assert follows(asked, Limits(lacks=frozenset({READ.name}))) == RunTools((other,))
    assert follows(asked, Limits(lacks=frozenset({READ.name, "other"}))) == Rest()


# acceptance: 168 (kernel side)
@pytest.mark.parametrize("nothing", ["", "  \n"])
def test_an_empty_reply_is_asked_again_as_often_as_allowed(nothing: str) -> None:
    once: list[Record] = [said(), replied(nothing)]
    assert follows(once, Limits(empty_retries=0)) == EndSend("completed")
    assert follows(once, Limits(empty_retries=1)) == CallModel(EMPTY_REPLY_REMINDER)
    assert follows([*once, replied(nothing)], Limits(empty_retries=1)) == EndSend("completed")
    assert follows([*once, replied("yes")], Limits(empty_retries=1)) == EndSend("completed")
    assert follows([*once, replied("", READ), returned(READ), replied(nothing)], Limits(empty_retries=1)) == CallModel(EMPTY_REPLY_REMINDER)


def test_a_new_word_needs_no_reminder() -> None:
    assert follows([said(), replied(""), said("hello?", name="follow_up")], Limits(empty_retries=1)) == CallModel()


# acceptance: 32 (kernel side)
def test_rounds_are_counted_and_the_limit_is_a_status() -> None:
    used: list[Record] = [said(), replied("", READ), returned(READ)]
    assert follows(used, Limits(rounds=2)) == CallModel()
    assert follows(used, TINY) == EndSend("hit_round_limit")
    assert follows([said(), RoundSkipped()], TINY) == EndSend("hit_round_limit")
    assert follows([said(), replied("", READ)], TINY) == RunTools((READ,)), "the last round's tools still run"
    assert follows([said(), replied("yes")], TINY) == EndSend("completed"), "an answer in the last round is an answer"
    assert follows([said(), replied("")], TINY) == EndSend("hit_round_limit"), "asking again is a round like any other"


def test_rounds_that_a_resume_adds_are_left() -> None:
    used = replay([said(), replied("", READ), returned(READ)])
    assert [rounds_left(used, TINY, more) for more in (0, 1, 2)] == [False, True, True]


# acceptance: 32 (kernel side)
def test_the_summary_of_the_limit_is_asked_for_once() -> None:
    ended: list[Record] = [said(), replied("", READ), returned(READ), LIMIT_SUMMARY]
    assert follows(ended, TINY) == EndSend("hit_round_limit")
    assert replay(ended).stop is not None, "a stop tells the performer that there is a summary already"
    assert replay(ended).rounds == 1, "the summary is no round"


def test_a_resume_with_more_rounds_goes_on() -> None:
    over: list[Record] = [said(), replied("", READ), returned(READ), LIMIT_SUMMARY, SendEnded("hit_round_limit")]
    assert follows(over, TINY) == Rest()
    assert follows([*over, SendResumed()], TINY) == EndSend("hit_round_limit")
    assert follows([*over, SendResumed(extra_rounds=1)], TINY) == CallModel()


# acceptance: 30 (kernel side)
def test_the_round_that_crosses_the_budget_finishes_and_no_further_call_is_made() -> None:
    asked: list[Record] = [said(), replied("", READ, MAIL)]
    assert follows(asked, BROKE) == RunTools((READ, MAIL))
    assert follows([*asked, returned(READ), returned(MAIL)], BROKE) == EndSend("budget_exceeded", "total_tokens")
    assert follows([said(), replied("yes")], BROKE) == EndSend("completed"), "an answer that crosses it is an answer"
    next_send: list[Record] = [*asked, returned(READ), returned(MAIL), SendEnded("budget_exceeded"), said()]
    assert follows(next_send, BROKE) == CallModel(), "the budget is one send's"


def test_the_round_limit_comes_before_the_budget_and_the_budget_before_a_fold() -> None:
    records: list[Record] = [said(), replied("", READ), returned(READ)]
    assert follows(records, replace(TINY, usage=BROKE.usage)) == EndSend("hit_round_limit")
    assert follows(records, BROKE, too_long=True) == EndSend("budget_exceeded", "total_tokens")


def test_a_window_that_is_too_long_is_folded_before_the_model_is_asked() -> None:
    assert follows([said()], too_long=True) == FoldContext()
    assert follows([said(), FoldSkipped("the summary failed")], too_long=True) == CallModel(), "not due again without new material"
    assert follows([said(), FoldSkipped("…"), said("more", name="follow_up")], too_long=True) == FoldContext()
    assert follows([said(), replied("", READ)], too_long=True) == RunTools((READ,)), "open calls are never folded"
    assert follows([said(), replied("yes")], too_long=True) == EndSend("completed")


SPENT = CallUsage(prompt=100, completion=20, calls=3, cost=0.5)


@pytest.mark.parametrize(
    ("name", "spent"),
    [("total_tokens", 120), ("input_tokens", 100), ("output_tokens", 20), ("requests", 3), ("tool_calls", 2), ("cost", 0.5)],
)
def test_a_limit_is_used_up_when_it_is_reached(name: str, spent: float) -> None:
    state = IDLE._replace(idle=False, usage=SPENT, tool_calls=2)
    more = spent + (0.01 if name == "cost" else 1)
    assert over_budget(state, Limits(usage=UsageLimits(**{name: spent}))) == name
    assert over_budget(state, Limits(usage=UsageLimits(**{name: more}))) is None


def test_no_limits_are_never_used_up_and_time_is_not_the_kernels_business() -> None:
    state = IDLE._replace(usage=SPENT)
    assert over_budget(state, Limits()) is None
    assert over_budget(state, Limits(usage=UsageLimits(seconds=0.001))) is None
    assert over_budget(state._replace(usage=CallUsage(calls=1)), Limits(usage=UsageLimits(cost=0.01))) is None
