"""The window: what of the records a model sees, and that it sees the same whoever looks."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from histories import MAIL, READ, SAVE, Drawn, Life, lives, parked, replied, returned, rows_of, said, window_of
from hypothesis import given
from hypothesis import strategies as st

from power_loop.context.pairing import check_pairs, pairing_problem
from power_loop.context.window import SUMMARY_NAME, Window
from power_loop.contracts.digest import RequestDigest
from power_loop.contracts.effects import CallModel
from power_loop.contracts.limits import Limits
from power_loop.contracts.messages import Message, estimate_tokens
from power_loop.contracts.records import ContextFolded, FoldSkipped, Record, SendEnded, SendResumed, StopRequested, ToolStarted

ENDED = SendEnded("completed")
OUT_OF_ROUNDS: list[Record] = [said("go"), replied("so far", purpose="limit_summary"), SendEnded("hit_round_limit")]


def shown(*records: Record) -> list[Message]:
    return window_of(rows_of(*records)).messages


def roles(messages: list[Message]) -> list[str]:
    return [message.get("tool_call_id") or message["role"] for message in messages]


def facts(window: Window) -> dict[str, Any]:
    """All that anybody can ask a window."""
    return {
        "messages": window.messages,
        "open": window.with_open_round(),
        "tokens": window.tokens,
        "growth": window.growth(),
        "borders": window.borders,
        "note": window.note,
        "digest": window.digest().text(),
    }


def chained(messages: list[Message]) -> str:
    return RequestDigest().text(messages)


# --- what is shown ------------------------------------------------------------------------------


def test_a_result_that_has_landed_counts_although_its_round_is_open() -> None:
    rows = rows_of(said("go"), replied("", READ, MAIL), returned(READ, "data " * 50), returned(MAIL, "sent"))
    still_open, closed = window_of(rows[:-1]), window_of(rows)
    (result,) = still_open.with_open_round()[len(still_open.messages) :]
    assert still_open.landed() == estimate_tokens([result]) > 50
    assert closed.landed() == 0
    assert closed.tokens == still_open.tokens + still_open.landed() + estimate_tokens(closed.messages[-1:])


def test_what_is_said_is_shown_as_it_was_said() -> None:
    assert shown(said("hi", name="ann"), replied("let me see", READ), returned(READ, "data"), replied("yes"), ENDED) == [
        {"role": "user", "content": "hi", "name": "ann"},
        {"role": "assistant", "content": "let me see", "tool_calls": [READ.to_message()]},
        {"role": "tool", "tool_call_id": READ.id, "content": "data", "name": "read"},
        {"role": "assistant", "content": "yes"},
    ]


def test_only_a_failed_result_is_marked_as_an_error() -> None:
    asked = [said(), replied("", READ, SAVE, MAIL)]
    results = [returned(READ, outcome="failed"), returned(SAVE, outcome="unknown"), returned(MAIL, outcome="denied")]
    assert [message.get("is_error") for message in shown(*asked, *results)[2:]] == [True, None, None]


@pytest.mark.parametrize("landed", [(READ, SAVE, MAIL), (MAIL, SAVE, READ), (SAVE, MAIL, READ)])
def test_results_stand_in_call_order_however_they_land(landed: tuple[Any, ...]) -> None:
    messages = shown(said(), replied("", READ, SAVE, MAIL), *(returned(call) for call in landed))
    assert roles(messages) == ["user", "assistant", READ.id, SAVE.id, MAIL.id]


def test_an_open_round_shows_its_results_when_it_is_complete() -> None:
    window = window_of(rows_of(said(), replied("", READ, SAVE), parked(READ), returned(SAVE)))
    assert roles(window.messages) == ["user", "assistant"]
    assert roles(window.with_open_round()) == ["user", "assistant", SAVE.id]


def test_a_result_nobody_asked_for_and_a_second_one_are_not_shown() -> None:
    messages = shown(said(), replied("", READ, SAVE), returned(MAIL), returned(READ, "first"), returned(READ, "second"), returned(SAVE))
    assert roles(messages) == ["user", "assistant", READ.id, SAVE.id]
    assert messages[2]["content"] == "first"
    assert roles(shown(said(), replied("", READ), returned(READ), returned(READ), replied("yes"))) == [
        "user",
        "assistant",
        READ.id,
        "assistant",
    ]


def test_a_row_that_reports_a_failing_model_is_left_out() -> None:
    degraded = replied("[degraded: …]", purpose="degraded")
    assert roles(shown(said(), degraded, SendEnded("degraded"), said(), replied("yes"))) == ["user", "user", "assistant"]


# acceptance: 168 (context side)
@pytest.mark.parametrize("nothing", ["", " ", "\n\t"])
def test_an_empty_row_is_never_shown(nothing: str) -> None:
    assert roles(shown(said(), replied(nothing), replied("yes"))) == ["user", "assistant"]
    assert roles(shown(said(), replied(nothing, READ), returned(READ))) == ["user", "assistant", READ.id], "beside calls it is"


def test_what_is_no_message_shows_nothing() -> None:
    silent = [ToolStarted(READ.id), StopRequested("cancelled"), FoldSkipped("…"), SendEnded("cancelled")]
    window = window_of(rows_of(said(), replied("", READ), *silent))
    assert roles(window.messages) == ["user", "assistant"]
    assert window.tokens == estimate_tokens(window.messages)


def test_a_limit_summary_is_shown_to_later_sends_and_left_out_when_its_own_goes_on() -> None:
    assert [message["content"] for message in shown(*OUT_OF_ROUNDS, said("and now?"))] == ["go", "so far", "and now?"]
    resumed = window_of(rows_of(*OUT_OF_ROUNDS, SendResumed(extra_rounds=1), replied("done")))
    assert [message["content"] for message in resumed.messages] == ["go", "done"]
    assert facts(resumed)["digest"] == chained(resumed.messages)
    assert resumed.tokens == estimate_tokens(resumed.messages)


def test_a_resume_of_a_later_send_leaves_an_earlier_summary_alone() -> None:
    again = shown(*OUT_OF_ROUNDS, said("more"), SendEnded("failed"), SendResumed())
    assert [message["content"] for message in again] == ["go", "so far", "more"]


def test_a_fold_between_a_summary_and_its_resume_takes_nothing_else_away() -> None:
    history = [said("old"), replied("yes"), ENDED, *OUT_OF_ROUNDS]
    kept = window_of(rows_of(*history, ContextFolded(3, "…"), SendResumed(extra_rounds=1)))
    assert roles(kept.messages) == ["user", "user"]
    gone = window_of(rows_of(*history, ContextFolded(6, "…"), SendResumed(extra_rounds=1)))
    assert [message.get("name") for message in gone.messages] == [SUMMARY_NAME]


def test_a_call_is_known_until_it_is_folded_away() -> None:
    rows = rows_of(said(), replied("", READ), returned(READ), replied("yes"), ENDED, said(), replied("", SAVE), ContextFolded(5, "…"))
    window = window_of(rows[:-1])
    assert window.knows_call(READ.id)
    assert window.knows_call(SAVE.id)
    window.add(rows[-1])
    assert not window.knows_call(READ.id)
    assert window.knows_call(SAVE.id)
    assert not window.knows_call(MAIL.id)


# --- blocks that a provider wants back ------------------------------------------------------------

SIGNED = [{"type": "thinking", "signature": "x"}]


def blocks(window: Window) -> list[Any]:
    return [message.get("provider_blocks") for message in window.messages if message["role"] == "assistant"]


def test_provider_blocks_are_shown_while_their_send_is_under_way() -> None:
    first: list[Record] = [said(), replied("", READ, provider_blocks=SIGNED), returned(READ), replied("yes", provider_blocks=SIGNED), ENDED]
    assert blocks(window_of(rows_of(*first[:3]))) == [SIGNED]
    assert blocks(window_of(rows_of(*first))) == [SIGNED, SIGNED]
    assert blocks(window_of(rows_of(*first, SendResumed()))) == [SIGNED, SIGNED]
    assert blocks(window_of(rows_of(*first, said(), replied("ok", provider_blocks=SIGNED)))) == [None, None, SIGNED]


def test_a_request_that_was_sent_keeps_the_blocks_it_was_sent_with() -> None:
    window = window_of(rows_of(said(), replied("yes", provider_blocks=SIGNED), ENDED))
    sent = list(window.messages)
    window.add(rows_of(said(), replied("yes"), ENDED, said())[-1])
    assert sent[1]["provider_blocks"] == SIGNED
    assert blocks(window) == [None]


def test_blocks_are_told_from_text_that_looks_like_them() -> None:
    assert blocks(window_of(rows_of(said(), replied("yes", think='"blocks":[1]')))) == [None]


# --- folds --------------------------------------------------------------------------------------------

TWO_SENDS: list[Record] = [said("one"), replied("1"), ENDED, said("two"), replied("2"), ENDED]


def test_a_fold_shows_its_summary_in_place_of_what_it_covers() -> None:
    note, *rest = shown(*TWO_SENDS, said("three"), ContextFolded(3, "they said one", 1))
    assert (note["role"], note["name"]) == ("user", "compact_note")
    assert note["content"].startswith("[Summary of sends 1 to 1;")
    assert "recall_compacted" in note["content"]
    assert note["content"].endswith("they said one")
    assert [message["content"] for message in rest] == ["two", "2", "three"]


def test_a_later_fold_replaces_the_earlier_summary() -> None:
    messages = shown(*TWO_SENDS, said("three"), ContextFolded(3, "first"), replied("3"), ENDED, said("four"), ContextFolded(6, "second"))
    assert [message.get("name") for message in messages] == [SUMMARY_NAME, None, None, None]
    assert messages[0]["content"].endswith("second")


def test_a_summary_may_hold_whatever_a_model_writes() -> None:
    assert shown(said(), ContextFolded(0, "a\0b \ud800"))[0]["content"].endswith("a\0b \ud800")


def test_messages_that_a_handler_put_in_place_survive_what_comes_after() -> None:
    window = window_of(rows_of(*TWO_SENDS, said("three")))
    view = window.showing([{"role": "user", "content": "only this"}])
    for row in rows_of(*TWO_SENDS, said("three"), replied("3"), ContextFolded(3, "…"))[-2:]:
        view.add(row)
    assert [message["content"] for message in view.messages][-2:] == ["only this", "3"]
    assert roles(window.messages) == ["user", "assistant"] * 2 + ["user"], "the window itself is untouched"


# --- the same for everybody -------------------------------------------------------------------------------


def cold(life: Life) -> Window:
    """As a new process reads it: from the last fold on."""
    folds = [record.through for record in life.records if isinstance(record, ContextFolded)]
    return window_of([row for row in life.rows if row.seq > (folds[-1] if folds else 0)])


@given(lives(folds=True))
def test_a_cold_window_is_the_warm_one(life: Life) -> None:
    assert facts(cold(life)) == facts(life.window)
    asked = [call.id for record in life.records for call in getattr(record, "calls", ())]
    assert [cold(life).knows_call(call) for call in asked] == [life.window.knows_call(call) for call in asked]


@given(lives(folds=True))
def test_tokens_and_digest_are_those_of_the_messages(life: Life) -> None:
    assert life.window.tokens == estimate_tokens(life.window.messages)
    assert life.window.digest().text() == chained(life.window.messages)
    assert life.window.digest().text() == chained(life.window.messages), "asking does not change it"


@given(lives(folds=True))
def test_asking_for_the_digest_on_the_way_changes_nothing(life: Life) -> None:
    window = Window()
    for row in life.rows:
        window.add(row)
        window.digest()
    assert window.digest().text() == life.window.digest().text()


@given(st.data(), st.integers(1, 6))
def test_whenever_the_model_is_asked_its_provider_would_take_the_messages(data: st.DataObject, rounds: int) -> None:
    life = Life(Drawn(data.draw), Limits(rounds=rounds), folds=True)
    for _ in range(30):
        if isinstance(life.next(), CallModel):
            check_pairs(life.window.messages)
        life.lead(1)


@given(st.data(), st.integers(1, 6))
def test_the_messages_of_one_request_begin_the_next_one(data: st.DataObject, rounds: int) -> None:
    """Unless something says why not: a fold, a resume, or the blocks of a send that is over."""
    life = Life(Drawn(data.draw), Limits(rounds=rounds), folds=True)
    sent: list[Message] = []
    for _ in range(30):
        life.lead(1)
        noted = life.deeds[-1].noted if life.deeds else 1
        if any(isinstance(record, (ContextFolded, SendResumed)) for record in life.records[-max(noted, 2) :]):
            sent = []
        if isinstance(life.next(), CallModel):
            now = [{key: message[key] for key in message if key != "provider_blocks"} for message in copy.deepcopy(life.window.messages)]
            assert now[: len(sent)] == sent
            sent = now


# --- what no provider would take ----------------------------------------------------------------------------

ASKED: Message = {"role": "assistant", "content": "", "tool_calls": [READ.to_message(), SAVE.to_message()]}
USER: Message = {"role": "user", "content": "hi"}


def answer(call_id: str) -> Message:
    return {"role": "tool", "tool_call_id": call_id, "content": ""}


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ([], None),
        ([USER, ASKED, answer(READ.id), answer(SAVE.id), USER], None),
        ([answer(READ.id)], "message 0 answers the call 'c1', expected 'no result'"),
        ([ASKED, answer(SAVE.id)], "message 1 answers the call 'c2', expected 'c1'"),
        ([ASKED, answer(READ.id), answer(READ.id)], "message 2 answers the call 'c1', expected 'c2'"),
        ([ASKED, answer(READ.id), USER, answer(SAVE.id)], "message 2 stands before the result of the call 'c2'"),
        ([ASKED, ASKED], "message 1 stands before the result of the call 'c1'"),
        ([ASKED, answer(READ.id)], "the call 'c2' has no result"),
        ([ASKED, answer(READ.id), answer(SAVE.id), answer(SAVE.id)], "message 3 answers the call 'c2', expected 'no result'"),
    ],
)
def test_each_call_is_answered_once_in_order_with_nothing_in_between(messages: list[Message], problem: str | None) -> None:
    assert pairing_problem(messages) == problem
    if problem is not None:
        with pytest.raises(ValueError, match="these messages cannot be sent: "):
            check_pairs(messages)
