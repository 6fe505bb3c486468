"""What a record leaves as it was: each rule of `apply` against a state in which no field is empty, and the answers it asks again."""

from __future__ import annotations

from typing import Any, cast, get_args

import pytest
from histories import MAIL, READ, SAVE, USED, parked, replied, returned, said

from power_loop.contracts.effects import CallModel, CheckOutput, EndSend
from power_loop.contracts.limits import Limits
from power_loop.contracts.messages import ToolCall
from power_loop.contracts.records import (
    Answered,
    CallCharged,
    ContextFolded,
    Decided,
    FoldSkipped,
    Record,
    RoundSkipped,
    SendEnded,
    SendRested,
    SendResumed,
    StepChanged,
    StopRequested,
    ToolParked,
    ToolReturned,
    ToolStarted,
    UserSaid,
)
from power_loop.contracts.store import NO_TALLY
from power_loop.contracts.usage import CallUsage
from power_loop.kernel.decide import after_check, decide
from power_loop.kernel.hears import hears, says_nothing
from power_loop.kernel.state import CHANGES, IDLE, NONE, State, Stop, apply, replay, round_of
from power_loop.kernel.tally import counts

DECIDED = Decided("q1", READ.id, True)
# No field has the value that a new state gives it, so that one that is dropped, or swapped with another, shows.
FULL = State(
    idle=False, answered=True, rounds=3, extra_rounds=2, usage=CallUsage(100, 50, calls=4), tool_calls=5, asked=(READ, SAVE),
    open_calls=(READ, SAVE), rewritten=(SAVE,), started=frozenset({READ.id}), parked=frozenset({SAVE.id}),
    questions=((SAVE.id, {"interaction_id": "q1"}),), stop=Stop("cancelled", "enough"), fold_due=False, empties=1, vetoes=2, text="so far",
    finish_reason="length", unknown="ask", overrides={"a": 1}, status="waiting_for_input", reason="why", error={"code": "x"}, counted=True,
    answers=((READ.id, "q0", "yes"),), decisions=(DECIDED,), retried=("mail",), reasks=6, purpose="output_retry",
)  # fmt: skip
ASKED = {"interaction_id": "q9", "tool_name": "save", "rewritten": '{"a":1}'}


def test_the_full_state_has_no_field_of_a_new_one() -> None:
    assert [field for field, value in FULL._asdict().items() if value == getattr(IDLE, field)] == []


@pytest.mark.parametrize(
    ("record", "changed"),
    [
        (
            replied("sure", finish_reason="stop"),
            {
                "usage": FULL.usage.plus(USED), "rounds": 4, "text": "sure", "finish_reason": "stop", "asked": (), "open_calls": (),
                "rewritten": (), "started": NONE, "parked": NONE, "questions": (), "fold_due": True, "empties": 0, "status": "",
                "answers": (), "decisions": (), "purpose": "round",
            },
        ),
        (
            replied("", MAIL),
            {
                "usage": FULL.usage.plus(USED), "rounds": 4, "text": "", "finish_reason": "tool_calls", "asked": (MAIL,),
                "open_calls": (MAIL,), "rewritten": (), "started": NONE, "parked": NONE, "questions": (), "fold_due": True, "empties": 0,
                "status": "", "answers": (), "decisions": (), "purpose": "round", "answered": False,
            },
        ),
        (replied("?", purpose="degraded"), {"usage": FULL.usage.plus(USED), "text": "?", "stop": Stop("degraded")}),
        (
            replied("?", purpose="limit_summary", finish_reason="stop"),
            {"usage": FULL.usage.plus(USED), "text": "?", "finish_reason": "stop", "stop": Stop("hit_round_limit")},
        ),
        (
            SendEnded("failed", "broken", {"code": "y"}),
            {"idle": True, "stop": None, "status": "failed", "reason": "broken", "error": {"code": "y"}},
        ),
        (
            SendResumed(3, "report", {"b": 2}),
            {
                "stop": None, "status": "", "reason": "", "error": None, "empties": 0, "fold_due": True, "extra_rounds": 5,
                "unknown": "report", "overrides": {"a": 1, "b": 2},
            },
        ),
        (
            SendResumed(0, "rerun"),
            {
                "stop": None, "status": "", "reason": "", "error": None, "empties": 0, "fold_due": True, "unknown": "rerun",
                "started": NONE,
            },
        ),
        (
            said("more", name="follow_up"),
            {"answered": False, "empties": 0, "fold_due": True, "status": "", "purpose": "round"},
        ),
        (
            said("more", name="follow_up", overrides={"b": 2}),
            {"answered": False, "empties": 0, "fold_due": True, "status": "", "purpose": "round", "overrides": {"b": 2}},
        ),
        (said("no", name="hook"), {"answered": False, "empties": 0, "fold_due": True, "status": "", "purpose": "round", "vetoes": 3}),
        (said("no", name="schema"), {"answered": False, "empties": 0, "fold_due": True, "status": "", "reasks": 7}),
        (SendRested("waiting", {"code": "z"}), {"status": "waiting", "error": {"code": "z"}}),
        (StopRequested("failed", "other", "token"), {}),
        (RoundSkipped(), {"rounds": 4}),
        (CallCharged("fold", USED), {"usage": FULL.usage.plus(USED)}),
        (ContextFolded(1, "sum", 1), {"fold_due": False}),
        (FoldSkipped("no", 1), {"fold_due": False}),
        (ToolStarted(SAVE.id), {"started": frozenset({READ.id, SAVE.id})}),
        (
            ToolStarted(SAVE.id, "save", ""),
            {"started": frozenset({READ.id, SAVE.id}), "rewritten": (SAVE, ToolCall(SAVE.id, "save", "{}"))},
        ),
        (
            ToolParked(READ.id, ASKED),
            {
                "started": NONE, "parked": frozenset({READ.id, SAVE.id}), "questions": (*FULL.questions, (READ.id, ASKED)),
                "rewritten": (SAVE, ToolCall(READ.id, "save", '{"a":1}')),
            },
        ),
        (Decided("q1", SAVE.id, False), {"parked": NONE, "decisions": (DECIDED, Decided("q1", SAVE.id, False)), "status": ""}),
        (Answered("q1", SAVE.id, 7), {"parked": NONE, "answers": (*FULL.answers, (SAVE.id, "q1", 7)), "status": ""}),
        (returned(READ, ran=False), {"open_calls": (SAVE,), "started": NONE, "status": ""}),
        (returned(SAVE, retry=True), {"open_calls": (READ,), "parked": NONE, "tool_calls": 6, "retried": ("mail", "save"), "status": ""}),
        (
            ToolReturned(SAVE.id, "?", retry=True),
            {"open_calls": (READ,), "parked": NONE, "tool_calls": 6, "retried": ("mail", ""), "status": ""},
        ),
        (returned(MAIL), {"tool_calls": 6, "status": ""}),
        (
            StepChanged("s1", {"state": "waiting", "interaction": {"tool_name": "human"}}),
            {
                "open_calls": (READ, SAVE, ToolCall("s1", "human", "{}")), "parked": frozenset({SAVE.id, "s1"}),
                "questions": (*FULL.questions, ("s1", {"tool_name": "human"})), "status": "",
            },
        ),
        (
            StepChanged("s1", {"state": "waiting"}),
            {
                "open_calls": (READ, SAVE, ToolCall("s1", "step", "{}")), "parked": frozenset({SAVE.id, "s1"}),
                "questions": (*FULL.questions, ("s1", {})), "status": "",
            },
        ),
        (StepChanged(SAVE.id, {"state": "done"}), {"open_calls": (READ,), "parked": NONE, "status": ""}),
        (StepChanged("s1", {"state": "done"}), {"status": ""}),
    ],
)  # fmt: skip
def test_a_record_changes_these_fields_and_no_other(record: Record, changed: dict[str, Any]) -> None:
    after = apply(FULL, record)
    assert {field: value for field, value in after._asdict().items() if value != getattr(FULL, field)} == {
        field: value for field, value in changed.items() if value != getattr(FULL, field)
    }


def test_a_hook_that_parks_a_call_without_its_name_leaves_it_empty() -> None:
    asked = {"rewritten": "{}"}
    assert apply(FULL, ToolParked(READ.id, asked)).rewritten[-1] == ToolCall(READ.id, "", "{}")


def test_what_is_no_record_is_refused() -> None:
    with pytest.raises(KeyError):
        apply(FULL, cast(Record, object()))


def test_every_record_changes_a_state_in_a_way_of_its_own() -> None:
    assert set(CHANGES) == set(get_args(Record))


def test_of_calls_that_share_an_id_the_first_one_waits() -> None:
    twin = ToolCall(READ.id, "save", "{}")
    state = replay([said(), replied("", READ, twin)])
    assert (state.asked, state.open_calls) == ((READ, twin), (READ,))
    assert replay([said(), replied("", READ, SAVE, twin, MAIL)]).open_calls == (READ, SAVE, MAIL)


def test_what_is_not_open_and_was_not_asked_is_nothing() -> None:
    state = replay([said(), replied("", READ)])
    assert (state.call(READ.id), state.call(SAVE.id), state.question(READ.id), state.asking()) == (READ, None, None, [])


def test_what_the_parked_calls_wait_with_stands_in_the_order_of_the_calls() -> None:
    state = replay([said(), replied("", READ, SAVE, MAIL), parked(SAVE, "q2"), parked(READ, "q1")])
    assert [asked["interaction_id"] for asked in state.asking()] == ["q1", "q2"]
    answered = apply(state, Answered("q1", READ.id, "yes"))
    assert [asked["interaction_id"] for asked in answered.asking()] == ["q2"], "its question is known, and it waits no longer"
    assert state._replace(questions=()).asking() == []


@pytest.mark.parametrize(
    ("before", "record", "round_index"),
    [
        (IDLE, said(), 0),
        (FULL._replace(idle=True), said(), 0),
        (FULL, said("more"), 2),
        (FULL, returned(READ), 2),
        (FULL._replace(open_calls=()), returned(READ), 2),
        (FULL._replace(open_calls=()), ToolStarted(READ.id), 2),
        (FULL._replace(open_calls=()), replied("yes"), 3),
        (FULL._replace(open_calls=(), rounds=0), returned(READ), 0),
        (FULL._replace(open_calls=(), rounds=1), returned(READ), 0),
    ],
)
def test_a_reply_opens_a_round_and_what_answers_its_calls_stays_in_it(before: State, record: Record, round_index: int) -> None:
    assert round_of(before, record) == round_index


@pytest.mark.parametrize(
    ("record", "enters"), [(ContextFolded(1, "s", 1), True), (FoldSkipped("no", 1), True), (CallCharged("fold", USED), True)]
)
def test_what_was_done_beside_a_send_enters_where_no_call_waits_for_its_result(record: Record, enters: bool) -> None:
    assert hears(IDLE, record) is enters
    assert hears(replay([said(), replied("", READ)]), record) is None
    assert says_nothing(record)
    assert not says_nothing(said())


def test_an_answer_that_stands_in_for_a_failed_model_counts_nothing() -> None:
    assert counts(replay([said()]), replied("sorry", purpose="degraded")) == NO_TALLY


# --- answers that are looked at, and asked for again ------------------------------------------------


FORM = Limits(output_retries=1, rounds=2)
WRONG: list[Record] = [said(), replied("no"), said("that is no JSON", name="schema")]


def follows(records: list[Record], limits: Limits = FORM) -> Any:
    return decide(replay(records), limits, effects_of=lambda _: "once")


@pytest.mark.parametrize(
    ("records", "effect"),
    [
        ([said()], CallModel()),
        ([said(), replied("no")], CheckOutput()),
        (WRONG, CallModel(None, "output_retry")),
        ([*WRONG, replied("", READ)], None),
        ([*WRONG, replied("", READ), returned(READ)], CallModel()),
        ([*WRONG, replied("", READ), returned(READ), replied("", READ), returned(READ)], EndSend("hit_round_limit")),
        ([*WRONG, replied("still no", purpose="output_retry")], CheckOutput()),
    ],
)
def test_an_answer_of_a_form_is_looked_at_and_its_repetition_has_a_round_of_its_own(records: list[Record], effect: Any) -> None:
    assert effect is None or follows(records) == effect


def test_without_a_form_an_answer_ends_the_send() -> None:
    assert follows([said(), replied("yes")], Limits()) == EndSend("completed")


@pytest.mark.parametrize(
    ("records", "retries", "wrong", "effect"),
    [
        ([said(), replied("{}")], 1, None, EndSend("completed")),
        ([said(), replied("no")], 1, "that is no JSON", UserSaid("that is no JSON", "schema")),
        ([said(), replied("no")], 0, "that is no JSON", EndSend("invalid_output", "no JSON")),
        ([said(), replied("no")], None, "that is no JSON", EndSend("invalid_output", "no JSON")),
        ([*WRONG, replied("no")], 1, "that is no JSON", EndSend("invalid_output", "no JSON")),
        ([*WRONG, replied("no")], 2, "that is no JSON", UserSaid("that is no JSON", "schema")),
    ],
)
def test_a_wrong_answer_is_asked_for_again_as_often_as_allowed(
    records: list[Record], retries: int | None, wrong: str | None, effect: Any
) -> None:
    assert after_check(replay(records), Limits(output_retries=retries), wrong, "no JSON") == effect


def test_the_reason_of_a_wrong_answer_may_be_empty() -> None:
    assert after_check(replay([said(), replied("no")]), Limits(), "no") == EndSend("invalid_output", "")


def test_a_window_is_not_too_long_unless_somebody_says_so() -> None:
    assert replay([said()]).fold_due
    assert follows([said()], Limits()) == CallModel()
