"""`apply`, record by record: what each changes, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest
from histories import MAIL, READ, RECORDS, SAVE, USED, parked, replied, returned, said

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
    SendProjected,
    SendRested,
    SendResumed,
    StepChanged,
    StopRequested,
    ToolParked,
    ToolReturned,
    ToolStarted,
)
from power_loop.contracts.usage import CallUsage
from power_loop.kernel.state import IDLE, SILENCING, State, Stop, apply, replay

ASKING: list[Record] = [said(), replied("let me see", READ, MAIL)]
ASKED_BACK = parked(MAIL)
APPROVED = Decided("q1", MAIL.id, True, "ann", None, "d1", 5)
REWRITTEN = ToolParked(MAIL.id, {"interaction_id": "q1", "kind": "approval", "tool_name": "post", "rewritten": '{"to": "ann"}'})
RETRY = ToolReturned(READ.id, "no such file", "failed", "read", retry=True)
WAITS = StepChanged("ask", {"state": "waiting", "interaction": {"interaction_id": "q1", "tool_name": "human"}})
OVER: list[Record] = [said(), replied("yes"), SendEnded("failed", "", {"code": "x"})]


def changes(records: list[Record], record: Record) -> dict[str, Any]:
    """What ``record`` changes in the state that ``records`` left, by field."""
    before = replay(records)
    after = apply(before, record)
    return {name: new for name, old, new in zip(State._fields, before, after, strict=True) if old != new}


CASES: list[tuple[list[Record], Record, dict[str, Any]]] = [
    ([], said(overrides={"max_rounds": 2}), {"idle": False, "overrides": {"max_rounds": 2}}),
    ([said(), replied("yes")], said("more", name="follow_up"), {"answered": False}),
    ([said(), replied("yes")], said("not yet", name="hook"), {"answered": False, "vetoes": 1}),
    ([said(), replied("")], said("hello?", name="follow_up"), {"answered": False, "empties": 0}),
    ([said(), FoldSkipped("…")], said("more", name="follow_up"), {"fold_due": True}),
    ([said()], replied("yes"), {"answered": True, "rounds": 1, "usage": USED, "text": "yes", "finish_reason": "stop"}),
    (
        [said()],
        replied("let me see", READ, MAIL),
        {
            "rounds": 1, "usage": USED, "text": "let me see", "finish_reason": "tool_calls",
            "asked": (READ, MAIL), "open_calls": (READ, MAIL),
        },
    ),
    ([said(), replied("")], replied(" "), {"rounds": 2, "usage": USED.plus(USED), "empties": 2, "text": " "}),
    ([said()], replied("[degraded]", purpose="degraded", usage=CallUsage()), {"text": "[degraded]", "stop": Stop("degraded")}),
    (
        [said()],
        replied("so far", purpose="limit_summary"),
        {"usage": USED, "text": "so far", "finish_reason": "stop", "stop": Stop("hit_round_limit")},
    ),
    ([said()], CallCharged("fold", USED), {"usage": USED}),
    ([said()], RoundSkipped("busy"), {"rounds": 1}),
    (ASKING, ToolStarted(MAIL.id), {"started": {MAIL.id}}),
    (
        ASKING,
        ToolStarted(READ.id, "save", '{"x":1}'),
        {"started": {READ.id}, "rewritten": (ToolCall(READ.id, "save", '{"x":1}'),)},
    ),
    (
        [*ASKING, ToolStarted(MAIL.id)],
        ASKED_BACK,
        {"started": set(), "parked": {MAIL.id}, "questions": ((MAIL.id, ASKED_BACK.interaction),)},
    ),
    ([*ASKING, parked(MAIL)], APPROVED, {"parked": set(), "decisions": (APPROVED,)}),
    (
        ASKING,
        REWRITTEN,
        {
            "parked": {MAIL.id},
            "questions": ((MAIL.id, REWRITTEN.interaction),),
            "rewritten": (ToolCall(MAIL.id, "post", '{"to": "ann"}'),),
        },
    ),
    (ASKING, RETRY, {"open_calls": (MAIL,), "tool_calls": 1, "retried": ("read",)}),
    ([*ASKING, parked(MAIL)], Answered("q1", MAIL.id, 7), {"parked": set(), "answers": ((MAIL.id, "q1", 7),)}),
    (ASKING, returned(READ), {"open_calls": (MAIL,), "tool_calls": 1}),
    (ASKING, returned(READ, ran=False), {"open_calls": (MAIL,)}),
    ([*ASKING, ToolStarted(MAIL.id)], returned(MAIL), {"open_calls": (READ,), "tool_calls": 1, "started": set()}),
    ([*ASKING, parked(MAIL)], returned(MAIL, ran=False), {"open_calls": (READ,), "parked": set()}),
    ([said()], StopRequested("cancelled", "enough", "token"), {"stop": Stop("cancelled", "enough")}),
    ([said(), replied("yes")], StopRequested("completed", "", "round.end"), {"stop": Stop("completed")}),
    ([said(), StopRequested("cancelled")], StopRequested("completed"), {}),
    ([said()], ContextFolded(3, "…"), {"fold_due": False}),
    ([said()], FoldSkipped("…"), {"fold_due": False}),
    ([said()], SendProjected(1, "compact", 1, ()), {}),
    ([said()], SendRested("interrupted"), {"status": "interrupted"}),
    ([said()], StepChanged("a", {"state": "completed"}), {}),
    ([said(), SendRested("interrupted")], StepChanged("a", {"state": "completed"}), {"status": ""}),
    (
        [said()],
        WAITS,
        {"open_calls": (ToolCall("ask", "human", "{}"),), "parked": {"ask"}, "questions": (("ask", WAITS.change["interaction"]),)},
    ),
    ([said(), WAITS], WAITS, {}),
    ([said(), WAITS], StepChanged("ask", {"state": "completed"}), {"open_calls": (), "parked": set()}),
    ([said(), WAITS, Answered("q1", "ask", 7)], StepChanged("ask", {"state": "completed"}), {"open_calls": ()}),
    ([said(), replied("yes")], SendEnded("completed"), {"idle": True, "status": "completed", "counted": True}),
    ([said()], SendEnded("failed", "r", {"code": "x"}), {"idle": True, "status": "failed", "reason": "r", "error": {"code": "x"}}),
    ([said(), StopRequested("cancelled")], SendEnded("cancelled"), {"idle": True, "status": "cancelled", "stop": None}),
    (OVER, SendResumed(2), {"idle": False, "extra_rounds": 2, "status": "", "error": None}),
    ([*ASKING, ToolStarted(MAIL.id)], SendResumed(unknown="rerun"), {"unknown": "rerun", "started": set()}),
    ([*ASKING, ToolStarted(MAIL.id)], SendResumed(unknown="ask"), {"unknown": "ask"}),
    ([said(overrides={"a": 1, "b": 1})], SendResumed(overrides={"b": 2}), {"overrides": {"a": 1, "b": 2}}),
]  # fmt: skip


@pytest.mark.parametrize(("records", "record", "changed"), CASES)
def test_what_a_record_changes(records: list[Record], record: Record, changed: dict[str, Any]) -> None:
    assert changes(records, record) == changed


def test_the_table_above_has_every_record() -> None:
    assert {type(record) for _, record, _ in CASES} == set(RECORDS)


def test_a_new_round_forgets_the_calls_of_the_last_one() -> None:
    state = replay([*ASKING, ToolStarted(READ.id, "save", "{}"), parked(MAIL), returned(READ), returned(MAIL), replied("", SAVE)])
    assert (state.asked, state.open_calls, state.rewritten, state.questions) == ((SAVE,), (SAVE,), (), ())
    assert not state.started
    assert not state.parked


@pytest.mark.parametrize("status", ["waiting_for_input", "interrupted", "pending_tools"])
@pytest.mark.parametrize(
    "word", [said("more", name="follow_up"), replied("yes"), returned(READ), Decided("q1", MAIL.id, True), SendResumed()]
)
def test_a_send_that_goes_on_rests_no_longer(status: str, word: Record) -> None:
    assert replay([*ASKING, parked(MAIL), SendRested(status), word]).status == ""


@pytest.mark.parametrize("point", SILENCING)
def test_a_hook_that_stops_a_send_before_the_model_spoke_leaves_no_answer(point: str) -> None:
    assert replay([said(), replied("first", READ), returned(READ), StopRequested("completed", "", point)]).text == ""
    assert replay([said(), replied("first", READ), returned(READ), StopRequested("completed", "", "round.end")]).text == "first"


def test_a_send_counts_once_however_often_it_is_resumed() -> None:
    ended: list[Record] = [said(), SendEnded("hit_round_limit"), SendResumed(1)]
    assert replay(ended).counted
    assert not replay([*ended, SendEnded("completed"), said()]).counted
    assert not replay([said(), SendEnded("failed")]).counted


# acceptance: 28 (kernel side)
def test_usage_is_the_sum_over_every_call_of_the_send() -> None:
    numbers = [CallUsage(n, 2 * n, n, n, n, 1, 0.25 * n, n == 3) for n in (1, 2, 3, 4)]
    state = replay(
        [
            *(said(), replied("old", usage=CallUsage(999, 999, calls=9)), SendEnded("completed"), said()),
            replied("", READ, usage=numbers[0]),
            CallCharged("fold", numbers[1]),
            CallCharged("round", numbers[2], "LLMError"),
            replied("so far", purpose="limit_summary", usage=numbers[3]),
        ]
    )
    assert state.usage == CallUsage(10, 20, 10, 10, 10, 4, 2.5, True)


def test_nothing_is_idle_before_the_first_word() -> None:
    assert replay([]) is IDLE
