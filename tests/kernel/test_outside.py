"""Messages that others kept, as records of ours: sound at the door, whatever they were."""

from __future__ import annotations

from typing import Any

import pytest

from power_loop.contracts.codec import from_cells
from power_loop.contracts.messages import MISSING, ToolCall
from power_loop.contracts.records import ModelReplied, Record, SendEnded, ToolReturned, ToolStarted, UserSaid
from power_loop.kernel.outside import EMPTY, NO_BEGINNING, Arrivals, OutsideMessage, distinct, says_something

ONE, TWO = ToolCall("a", "read", "{}"), ToolCall("b", "mail", "{}")


def user(text: Any = "hi", **more: Any) -> OutsideMessage:
    return OutsideMessage("user", text, **more)


def reply(text: str = "", *calls: ToolCall, **more: Any) -> OutsideMessage:
    return OutsideMessage("assistant", text, calls=calls, **more)


def result(call_id: str | None, text: str = "done", **more: Any) -> OutsideMessage:
    return OutsideMessage("tool", text, call_id=call_id, **more)


def arrived(*messages: OutsideMessage) -> tuple[list[Record], dict[str, int]]:
    arrivals = Arrivals()
    for message in messages:
        arrivals.hear(message)
    arrivals.end()
    return [from_cells(row.cells) for row in arrivals.rows], arrivals.repairs


DONE, CUT = SendEnded("completed"), SendEnded("interrupted")


@pytest.mark.parametrize(
    ("messages", "records"),
    [
        ([], []),
        ([user(), reply("yes")], [UserSaid("hi"), ModelReplied("yes"), DONE]),
        ([user()], [UserSaid("hi")]),
        ([user(), user("more")], [UserSaid("hi"), CUT, UserSaid("more")]),
        ([user(), reply("yes"), user("more")], [UserSaid("hi"), ModelReplied("yes"), DONE, UserSaid("more")]),
        ([user(name="bob")], [UserSaid("hi", "bob")]),
        # Words of one send of theirs stay in one of ours.
        ([user(send_index=1), user("more", send_index=1)], [UserSaid("hi"), UserSaid("more")]),
        ([user(send_index=1), user("more", send_index=2)], [UserSaid("hi"), CUT, UserSaid("more")]),
        ([user(send_index=0), user("more", send_index=0)], [UserSaid("hi"), UserSaid("more")]),
        (
            [user(), reply("", ONE), result("a", name="Read"), reply("yes")],
            [UserSaid("hi"), ModelReplied("", (ONE,)), ToolReturned("a", "done", name="Read"), ModelReplied("yes"), DONE],
        ),
        (
            [user(), reply("", ONE), result("a")],
            [UserSaid("hi"), ModelReplied("", (ONE,)), ToolReturned("a", "done", name="read")],
        ),
        # A call that nothing answered may have begun: nobody runs it again unasked.
        (
            [user(), reply("", ONE, TWO), result("b")],
            [UserSaid("hi"), ModelReplied("", (ONE, TWO)), ToolReturned("b", "done", name="mail"), ToolStarted("a")],
        ),
        ([OutsideMessage("system", "be kind"), user()], [UserSaid("hi")]),
    ],
)
def test_a_sound_history_comes_in_as_it_was(messages: list[OutsideMessage], records: list[Record]) -> None:
    assert arrived(*messages) == (records, {})


@pytest.mark.parametrize(
    ("messages", "records", "repaired"),
    [
        ([user(" ")], [UserSaid(EMPTY)], {"an empty word has a text that says so": 1}),
        ([user([])], [UserSaid(EMPTY)], {"an empty word has a text that says so": 1}),
        ([reply("yes")], [UserSaid(NO_BEGINNING), ModelReplied("yes"), DONE], {"a reply that nothing led to has a beginning": 1}),
        ([user(), reply(" ")], [UserSaid("hi"), ModelReplied(" "), DONE], {"an empty reply is not shown": 1}),
        ([user(), result("z"), result(None)], [UserSaid("hi")], {"a result without a call was left out": 2}),
        (
            [user(), reply("", ONE), user("well?")],
            [
                UserSaid("hi"),
                ModelReplied("", (ONE,)),
                ToolReturned("a", MISSING, "unknown", "read", ran=False),
                CUT,
                UserSaid("well?"),
            ],
            {"a call without a result was answered": 1},
        ),
        (
            [user(), reply("", ONE), reply("yes")],
            [
                UserSaid("hi"),
                ModelReplied("", (ONE,)),
                ToolReturned("a", MISSING, "unknown", "read", ran=False),
                ModelReplied("yes"),
                DONE,
            ],
            {"a call without a result was answered": 1},
        ),
        (
            [user(), reply("", ONE, ONE, TWO, ONE)],
            [UserSaid("hi"), ModelReplied("", (ONE, TWO)), ToolStarted("a"), ToolStarted("b")],
            {"a second call of one id in a reply was left out": 2},
        ),
    ],
)
def test_what_does_not_fit_together_is_put_right_and_told(
    messages: list[OutsideMessage], records: list[Record], repaired: dict[str, int]
) -> None:
    assert arrived(*messages) == (records, repaired)


def test_an_id_is_given_to_one_call_of_the_session_only() -> None:
    again = [reply("", ONE), result("a")]
    taken = ToolCall("a_3", "read", "{}")
    records, repairs = arrived(user(), *again, *again, reply("", taken), result("a_3"), *again, reply("", TWO))
    calls = [call for record in records if isinstance(record, ModelReplied) for call in record.calls]
    assert [(call.id, call.name) for call in calls] == [("a", "read"), ("a_2", "read"), ("a_3", "read"), ("a_4", "read"), ("b", "mail")]
    assert [record.call_id for record in records if isinstance(record, ToolReturned)] == ["a", "a_2", "a_3", "a_4"]
    assert repairs == {"a call whose id an earlier one has got another id": 2}


def test_ids_are_counted_on_from_two() -> None:
    again = [reply("", ONE), result("a")]
    records, _ = arrived(user(), *again, *again, *again, *again)
    assert [record.call_id for record in records if isinstance(record, ToolReturned)] == ["a", "a_2", "a_3", "a_4"]


def test_a_new_id_is_not_that_of_a_call_beside_it() -> None:
    records, _ = arrived(user(), reply("", ONE), result("a"), reply("", ONE, ToolCall("a_2", "mail", "{}")))
    last = records[-3]
    assert isinstance(last, ModelReplied)
    assert len({call.id for call in last.calls} | {"a"}) == 3


def test_each_message_is_told_where_it_went_and_keeps_its_time() -> None:
    arrivals = Arrivals()
    heard = [user(created_at=5), reply("", ONE, created_at=6), result("a", created_at=7), result("z"), OutsideMessage("system", "x")]
    assert [arrivals.hear(message) for message in heard] == [1, 2, 3, None, None]
    assert arrivals.hear(user("next", created_at=9)) == 5
    assert [row.created_at for row in arrivals.rows] == [5, 6, 7, 9, 9]


def test_a_send_that_goes_on_is_not_ended() -> None:
    assert arrived(user(), reply("yes"), user("x"), reply("", ONE), result("a"))[0][-1] == ToolReturned("a", "done", name="read")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("hi", True),
        ("", False),
        (" \n", False),
        ([], False),
        ([{"type": "text", "text": ""}], False),
        ([{"type": "text", "text": "hi"}], True),
        ([{"type": "text", "text": ""}, {"type": "image"}], True),
    ],
)
def test_what_a_provider_takes_as_a_message(content: Any, says: bool) -> None:
    assert says_something(content) is says


def test_of_calls_with_one_id_the_first_counts() -> None:
    assert list(distinct((ONE, TWO, ToolCall("a", "mail", "{}")))) == [ONE, TWO]
