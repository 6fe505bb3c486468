"""A history walked from its first record: where it leads, what is wrong with it, and one write that holds nothing."""

from __future__ import annotations

import pytest
from histories import MAIL, READ, parked, replied, returned, rows_of, said

from power_loop.contracts.messages import ToolCall
from power_loop.contracts.records import (
    Answered,
    ContextFolded,
    Decided,
    FoldSkipped,
    Record,
    SendEnded,
    SendResumed,
    ToolStarted,
)
from power_loop.contracts.store import FAR, Head, Tally
from power_loop.kernel.history import History, Standing, alone
from power_loop.kernel.state import IDLE, replay

FIRST: list[Record] = [said(), replied("", READ), returned(READ), replied("yes"), SendEnded("completed")]
FOLDED: list[Record] = [*FIRST, ContextFolded(3, "so far", 1), said("again")]


def walked(*records: Record) -> History:
    """Rows as the store has them, added one by one; each is sound before it is added."""
    history = History()
    for row, record in zip(rows_of(*records), records, strict=True):
        assert list(history.misplaced(row, record)) == []
        assert history.numbered(record) == row
        history.add(row, record)
    return history


@pytest.mark.parametrize(
    ("records", "seq", "send_index", "send_seq", "fold"),
    [
        ([], 0, 0, 0, (0, 0)),
        ([said()], 1, 1, 1, (0, 0)),
        ([said(), said("more", name="follow_up")], 2, 1, 1, (0, 0)),
        (FIRST, 5, 1, 1, (0, 0)),
        (FOLDED, 7, 2, 7, (6, 3)),
        ([*FOLDED, FoldSkipped("it failed", 3)], 8, 2, 7, (6, 3)),
    ],
)
def test_a_history_knows_where_it_leads(records: list[Record], seq: int, send_index: int, send_seq: int, fold: tuple[int, int]) -> None:
    history = walked(*records)
    assert (history.seq, history.send_index, history.send_seq) == (seq, send_index, send_seq)
    assert (history.fold_seq, history.fold_through) == fold
    assert history.state == replay(records)


def test_a_history_counts_what_its_records_count() -> None:
    assert walked(*FIRST).tally == Tally(1, 2, 2, 1, 20, 10)


@pytest.mark.parametrize(
    ("seq", "send_index", "wrong"),
    [
        (6, 2, []),
        (7, 2, ["follows seq 5"]),
        (5, 2, ["follows seq 5"]),
        (6, 1, ["belongs to send 1 after send 1"]),
        (6, 3, ["belongs to send 3 after send 1"]),
        (9, 9, ["follows seq 5", "belongs to send 9 after send 1"]),
    ],
)
def test_wrong_numbers_of_a_row_are_named(seq: int, send_index: int, wrong: list[str]) -> None:
    row = rows_of(*FIRST, said("next"))[-1]._replace(seq=seq, send_index=send_index)
    assert list(walked(*FIRST).misplaced(row, said("next"))) == wrong


def test_a_word_within_a_send_begins_no_other() -> None:
    history, word = walked(said(), replied("yes")), said("more", name="follow_up")
    row = history.numbered(word)
    assert (row.seq, row.send_index) == (3, 1)
    assert list(history.misplaced(row._replace(send_index=2), word)) == ["belongs to send 2 after send 1"]


TWICE = (READ, ToolCall(READ.id, "save", "{}"))


@pytest.mark.parametrize(
    ("before", "record", "wrong"),
    [
        ([], said(), []),
        ([said(), replied("", READ)], said(), ["a word stands between a call and its result"]),
        ([], replied("yes"), ["a reply outside of any send"]),
        ([said(), replied("", READ)], replied("yes"), ["a reply before the calls of the last one were answered"]),
        ([said()], replied("", *TWICE), ["two calls of a reply share an id"]),
        ([said()], replied("", READ, MAIL), []),
        (
            FIRST,
            replied("", *TWICE),
            ["a reply outside of any send", "two calls of a reply share an id"],
        ),
        ([said(), replied("", READ)], returned(READ), []),
        ([said(), replied("", READ)], returned(MAIL), [f"the call {MAIL.id} is not open"]),
        ([said(), replied("", READ)], ToolStarted(MAIL.id), [f"the call {MAIL.id} is not open"]),
        ([said(), replied("", READ)], parked(MAIL), [f"the call {MAIL.id} is not open"]),
        ([said(), replied("", READ)], Decided("q1", MAIL.id, True), [f"the call {MAIL.id} is not open"]),
        ([said(), replied("", READ)], Answered("q1", MAIL.id, "yes"), [f"the call {MAIL.id} is not open"]),
        ([said(), replied("", READ)], SendEnded("cancelled"), ["the send ends while calls are open"]),
        ([said()], SendEnded("completed"), []),
        ([], SendResumed(), ["a send is resumed before the first one began"]),
        (FIRST, SendResumed(), []),
        ([said(), replied("", READ)], FoldSkipped("not now", 1), []),
    ],
)
def test_what_no_provider_takes_next_is_named(before: list[Record], record: Record, wrong: list[str]) -> None:
    assert list(walked(*before).out_of_order(record)) == wrong


def test_one_write_takes_adds_and_gives_back() -> None:
    head = Head(
        "s", head=5, epoch=3, holder="bob", lease_until=9, wake_no=4, send_index=1, send_seq=1, fold_seq=2, fold_through=1, takeovers=2
    )
    batch = alone(Standing(head, replay(FIRST)), [said("next"), replied("sure")], now=70, take_id=8)
    assert batch.seen == head
    assert batch.next == head._replace(head=7, epoch=4, holder=None, lease_until=0, takeovers=0, send_index=2, send_seq=6)
    assert [(row.seq, row.send_index, row.round_index, row.cells.kind) for row in batch.rows] == [
        (6, 2, 0, "user_said"),
        (7, 2, 0, "model_replied"),
    ]
    assert (batch.tally, batch.now, batch.take_id, batch.bound) == (Tally(0, 1, 1, 0, 10, 5), 70, 8, FAR)


def test_one_write_moves_the_fold_and_keeps_to_its_bound() -> None:
    batch = alone(
        Standing(Head("s", head=5, send_index=1, send_seq=1), replay(FIRST)), [ContextFolded(4, "so far", 1)], now=1, take_id=2, bound=3
    )
    assert (batch.next.fold_seq, batch.next.fold_through, batch.next.send_seq, batch.bound) == (6, 4, 1, 3)
    assert alone(Standing(Head("s"), IDLE), [], now=1, take_id=2).next == Head("s", epoch=1)
