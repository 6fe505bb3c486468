"""What the caller gets back, read from the state that the send left."""

from __future__ import annotations

import pytest
from histories import MAIL, READ, SAVE, USED, parked, replied, returned, said

from power_loop.contracts.outcome import RunStatus
from power_loop.contracts.records import Record, SendEnded, SendRested, StopRequested, ToolStarted
from power_loop.contracts.store import Head
from power_loop.contracts.usage import Usage
from power_loop.kernel.state import replay
from power_loop.runtime.outcome import final_text, pending, result_of
from power_loop.runtime.session import Session


def session(*records: Record) -> Session:
    made = Session(Head("s1", send_index=3))
    made.state, made.asked_at = replay(records), 7
    return made


@pytest.mark.parametrize(
    ("status", "reason", "text"),
    [
        ("completed", "", "so far"),
        ("completed", "good enough", "so far"),
        ("waiting_for_input", "", "so far"),
        ("pending_tools", "", "so far"),
        ("degraded", "", "so far"),
        ("invalid_output", "", "so far"),
        ("cancelled", "", "[cancelled by user]"),
        ("cancelled", "cancelled", "[cancelled by user]"),
        ("cancelled", "time to go", "[cancelled: time to go]"),
        ("hit_round_limit", "", "[hit_round_limit]\nso far"),
        ("budget_exceeded", "total_tokens", "[budget_exceeded]"),
    ],
)
def test_the_text_that_stands_for_an_ending(status: str, reason: str, text: str) -> None:
    assert final_text(status, reason, "so far") == text
    assert RunStatus(status) == status


def test_a_result_says_what_the_send_came_to() -> None:
    ended = session(said(), replied("let me see", READ), returned(READ), replied("yes"), SendEnded("completed"))
    result = result_of(ended, rounds=2, partial_text="ye")
    assert (result.session_id, result.send_index, result.send_id) == ("s1", 3, "s1/3")
    assert (result.status, result.final_text, result.finish_reason, result.error) == ("completed", "yes", "stop", None)
    assert (result.rounds, result.tool_calls, result.partial_text) == (2, 1, "ye")
    assert result.usage == result.usage_own == Usage.of(USED.plus(USED))
    assert (result.pending_tool_calls, result.pending_interactions) == ([], [])


def test_a_resting_send_shows_its_calls_and_the_questions_that_still_wait() -> None:
    asked = session(said(), replied("", READ, SAVE, MAIL), parked(READ, "q1"), parked(SAVE, "q2"), ToolStarted(MAIL.id), returned(SAVE))
    result = result_of(asked, rounds=1)
    assert result.pending_tool_calls == [READ.to_message(), MAIL.to_message()]
    assert [question["interaction_id"] for question in result.pending_interactions] == ["q1"]
    waiting = pending(asked)
    assert waiting is not None
    assert (waiting["assistant_seq"], waiting["send_index"], waiting["round_index"]) == (7, 3, 0)
    assert waiting["tool_call_ids"] == [READ.id, MAIL.id]
    assert waiting["unknown_call_ids"] == [MAIL.id]
    assert waiting["pending_interactions"] == result.pending_interactions


@pytest.mark.parametrize(
    "records", [[], [said()], [said(), replied("", READ), returned(READ)], [said(), replied("yes"), SendEnded("completed")]]
)
def test_nothing_is_pending_when_every_call_has_its_result(records: list[Record]) -> None:
    assert pending(session(*records)) is None


def test_an_error_is_the_results_own_copy() -> None:
    failed = session(said(), SendEnded("failed", "", {"code": "x"}))
    result = result_of(failed, rounds=0)
    assert result.error == {"code": "x"}
    assert result.error is not failed.state.error


def test_a_stop_before_the_model_spoke_leaves_no_text() -> None:
    stopped = session(said(), StopRequested("completed", "", "session.start"), SendEnded("completed"))
    assert result_of(stopped, rounds=0).final_text == ""
    resting = session(said(), replied("let me see", READ), SendRested("pending_tools"))
    assert result_of(resting, rounds=1).final_text == "let me see"
