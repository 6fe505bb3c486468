"""Folding: when it is due, where it cuts, and what the summariser reads."""

from __future__ import annotations

from typing import Any

import pytest
from histories import READ, Life, lives, replied, returned, rows_of, said, window_of
from hypothesis import given
from hypothesis import strategies as st

from power_loop.context.fold import cut, due, exceeds
from power_loop.context.pairing import pairing_problem
from power_loop.context.strategy import FoldStrategy, LLMSummaryFold, NeverFold
from power_loop.context.summary import as_text, summary_in
from power_loop.context.window import SUMMARY_NAME, Window
from power_loop.contracts.messages import estimate_tokens
from power_loop.contracts.records import ContextFolded, FoldSkipped, Record, SendEnded, UserSaid
from power_loop.contracts.usage import NO_USAGE

LETTERS = "x" * 384  # 96 tokens, and 4 for the frame
ENDED = SendEnded("completed")


def sends(count: int) -> list[Record]:
    """As many sends of 200 tokens each."""
    return [record for _ in range(count) for record in (said(LETTERS), replied(LETTERS, usage=NO_USAGE), ENDED)]


def window(count: int, *more: Record) -> Window:
    return window_of(rows_of(*sends(count), *more))


# --- when -----------------------------------------------------------------------------------------


def test_a_fold_is_due_from_the_trigger_on() -> None:
    two_sends = window(2)
    assert two_sends.tokens == 400
    assert due(two_sends, 0, 400, 500)
    assert not due(two_sends, 0, 401, 500)
    assert due(two_sends, 1, 401, 500), "system and tools are part of the request"
    assert not due(two_sends, 10_000, None, 500)


def test_a_request_exceeds_what_it_may_have_from_the_next_token_on() -> None:
    assert exceeds(window(2), 0, 399)
    assert not exceeds(window(2), 0, 400)
    assert exceeds(window(2), 1, 400), "system and tools are part of the request"
    assert not exceeds(window(2), 10_000, None)


@pytest.mark.parametrize("last", [ContextFolded(6, LETTERS), FoldSkipped("the summary failed")])
def test_after_a_fold_or_an_attempt_it_is_due_again_only_when_a_tenth_was_added(last: Record) -> None:
    folded = window(3, said(LETTERS), last)
    assert folded.growth() == 0
    assert folded.tokens > 300
    assert not due(folded, 0, 225, 300), "it is over the trigger still, but nothing was added"
    grown = window(3, said(LETTERS), last, replied("x" * 100, usage=NO_USAGE))
    assert grown.growth() == 29
    assert not due(grown, 0, 225, 300)
    grown = window(3, said(LETTERS), last, replied("x" * 104, usage=NO_USAGE))
    assert grown.growth() == 30
    assert due(grown, 0, 225, 300)


# --- where ----------------------------------------------------------------------------------------


def test_it_folds_whole_sends_oldest_first_until_the_rest_fits() -> None:
    five = window(5)
    assert [message["content"] for message in five.messages] == [LETTERS] * 10
    for target, kept in [(1000, 4), (800, 4), (799, 3), (600, 3), (599, 2), (0, 1)]:
        part = cut(five, 1, target)
        assert part is not None
        assert len(part.messages) == 10 - 2 * kept, target
        assert (part.through, part.through_send) == (3 * (5 - kept), 5 - kept)


@pytest.mark.parametrize(("count", "keep", "folded"), [(1, 1, None), (2, 1, 1), (2, 2, None), (5, 4, 1), (5, 2, 3), (0, 1, None)])
def test_the_last_sends_stay(count: int, keep: int, folded: int | None) -> None:
    part = cut(window(count), keep, 0)
    assert (part.through_send if part else None) == folded


def test_the_send_under_way_stays_whatever_its_length() -> None:
    running = window(1, said(LETTERS), replied("", READ), returned(READ, LETTERS * 50))
    part = cut(running, 1, 0)
    assert part is not None
    assert part.through_send == 1


def test_a_summary_alone_is_not_folded_again() -> None:
    assert cut(window(2, said(LETTERS), ContextFolded(6, LETTERS)), 1, 0) is None


def test_the_earlier_summary_goes_into_the_next_one() -> None:
    part = cut(window(2, said("two"), ContextFolded(6, "one"), replied("yes"), ENDED, said("three")), 1, 0)
    assert part is not None
    assert part.messages[0]["name"] == SUMMARY_NAME


# acceptance: 90
@given(lives(folds=True, min_steps=10), st.integers(1, 3), st.integers(0, 200))
def test_a_fold_keeps_whole_sends_and_parts_no_call_from_its_result(life: Life, keep: int, target: int) -> None:
    part = cut(life.window, keep, target)
    if part is None:
        assert len(life.window.borders) <= keep
        return
    assert pairing_problem(part.messages) is None
    first_kept = life.rows[part.through]
    assert isinstance(life.records[part.through], UserSaid)
    assert first_kept.send_index == part.through_send + 1
    assert all(row.send_index <= part.through_send for row in life.rows[: part.through])
    assert all(row.send_index > part.through_send for row in life.rows[part.through :])
    assert first_kept.send_index <= life.send_index - keep + 1
    before = life.window.messages[len(part.messages) :]
    life.note(ContextFolded(part.through, "in short", part.through_send))
    assert life.window.messages[1:] == before
    assert life.window.messages[0]["name"] == SUMMARY_NAME


# acceptance: 90
@given(lives(folds=True, min_steps=10), st.integers(0, 200))
def test_a_fold_takes_no_more_than_it_must(life: Life, target: int) -> None:
    part = cut(life.window, 1, target)
    if part is None:
        return
    rest = life.window.messages[len(part.messages) :]
    starts = [border.at for border in life.window.borders]
    here = starts.index(len(part.messages))
    earlier = life.window.messages[starts[here - 1] :]
    assert here == 1 or estimate_tokens(earlier) > target, "the border before would have done"
    assert estimate_tokens(rest) <= target or here == len(starts) - 1


# --- what the summariser reads and writes ------------------------------------------------------------


def test_the_summariser_reads_who_said_what() -> None:
    messages = window(0, said("hi"), replied("let me see", READ), returned(READ, "data")).messages
    assert as_text(messages, 1000) == "user: hi\nassistant: let me see [calls read({})]\ntool: data"
    folded = window(1, said("go on"), ContextFolded(3, "they said hi"))
    assert as_text(folded.messages, 1000).startswith("earlier summary: [Summary of the conversation so far;")


def test_what_is_no_text_leaves_a_trace_for_the_summariser() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    asked = {"role": "user", "content": [picture, {"type": "text", "text": "what is it?"}]}
    shown = {"role": "tool", "tool_call_id": "c", "content": [picture]}
    assert as_text([asked, shown], 100) == "user: [image_url]\nwhat is it?\ntool: [image_url]"


def test_long_arguments_and_results_are_cut_for_the_summariser_words_of_people_are_not() -> None:
    call = READ.__class__("c1", "read", "a" * 5000)
    text = as_text(window(0, said("u" * 5000), replied("", call), returned(call, "h" * 900 + "t" * 900)).messages, 100_000)
    user, asked, result = text.splitlines()
    assert user.count("u") == 5001
    assert asked.count("a") < 310
    assert result.count("h") == 700
    assert result.count("t") == 300 + len("t")


@given(st.integers(40, 300), st.text(st.characters(categories=["L", "N"]), max_size=400))
def test_what_the_summariser_reads_is_bounded_and_has_both_ends(max_chars: int, text: str) -> None:
    whole = as_text([{"role": "user", "content": text}], 10_000)
    bounded = as_text([{"role": "user", "content": text}], max_chars)
    assert len(bounded) <= max_chars
    assert bounded == whole if len(whole) <= max_chars else "left out" in bounded
    assert bounded[:4] == whole[:4]
    assert bounded[-4:] == whole[-4:]


@pytest.mark.parametrize(
    ("reply", "summary"),
    [
        ("plain", "plain"),
        ("<summary>\nin short\n</summary>", "in short"),
        ("thinking … <summary>in short</summary> bye", "in short"),
        ("<summary>cut off", "cut off"),
        ("<summary> </summary>", ""),
        ("", ""),
    ],
)
def test_the_summary_is_what_stands_between_the_tags(reply: str, summary: str) -> None:
    assert summary_in(reply) == summary


@pytest.mark.parametrize("wrong", [{"keep_last_sends": 0}, {"trigger_ratio": 0}, {"trigger_ratio": 1.01}, {"summary_max_tokens": 0}])
def test_a_strategy_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="LLMSummaryFold needs"):
        LLMSummaryFold(**wrong)


def test_both_strategies_keep_the_protocol() -> None:
    assert isinstance(LLMSummaryFold(), FoldStrategy)
    assert isinstance(NeverFold(), FoldStrategy)
    assert LLMSummaryFold().keep_last_sends == 4
    assert LLMSummaryFold().trigger_ratio == 0.75
