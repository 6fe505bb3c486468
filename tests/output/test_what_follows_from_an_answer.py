"""The kernel's part: what follows from an answer, decided from the records."""

from __future__ import annotations

import pytest

from power_loop.contracts.effects import CallModel, CheckOutput, EndSend
from power_loop.contracts.limits import Limits
from power_loop.contracts.messages import ToolCall
from power_loop.contracts.records import ModelReplied, Record, SendEnded, SendResumed, ToolReturned, UserSaid
from power_loop.kernel.decide import after_check, decide
from power_loop.kernel.state import replay

SAID, ANSWER, AGAIN = UserSaid("go"), ModelReplied("{}"), UserSaid("wrong", "schema")
RETRY = ModelReplied("{}", purpose="output_retry")
CALL = ToolCall("c1", "look", "{}")
ASKED, DONE = ModelReplied("", (CALL,), purpose="output_retry"), ToolReturned("c1", "fog")
LIMITS = Limits(rounds=1, output_retries=2)


@pytest.mark.parametrize(
    ("records", "effect"),
    [
        ([SAID], CallModel()),
        ([SAID, ANSWER], CheckOutput()),
        ([SAID, ANSWER, AGAIN], CallModel(purpose="output_retry")),
        ([SAID, ANSWER, AGAIN, RETRY], CheckOutput()),
        ([SAID, ANSWER, AGAIN, RETRY, AGAIN], CallModel(purpose="output_retry")),
        ([SAID, ANSWER, AGAIN, UserSaid("wait", "follow_up")], CallModel()),
        ([SAID, ANSWER, AGAIN, ASKED, DONE], EndSend("hit_round_limit")),
        ([SAID, ANSWER, AGAIN, SendEnded("failed"), SendResumed()], CallModel(purpose="output_retry")),
        ([SAID, ANSWER, UserSaid("no", "hook")], EndSend("hit_round_limit")),
    ],
)
def test_what_follows_from_the_records(records: list[Record], effect: object) -> None:
    assert decide(replay(records), LIMITS, effects_of=lambda _: "once") == effect


def test_without_a_form_an_answer_ends_the_send() -> None:
    assert decide(replay([SAID, ANSWER]), Limits(), effects_of=lambda _: "once") == EndSend("completed")


@pytest.mark.parametrize(
    ("records", "wrong", "follows"),
    [
        ([SAID, ANSWER], None, EndSend("completed")),
        ([SAID, ANSWER], "no", UserSaid("no", "schema")),
        ([SAID, ANSWER, AGAIN, RETRY], "no", UserSaid("no", "schema")),
        ([SAID, ANSWER, AGAIN, RETRY, AGAIN, RETRY], "no", EndSend("invalid_output", "why")),
        ([SAID, ANSWER, AGAIN, RETRY, AGAIN, RETRY], None, EndSend("completed")),
    ],
)
def test_what_follows_from_a_look_at_an_answer(records: list[Record], wrong: str | None, follows: object) -> None:
    assert after_check(replay(records), LIMITS, wrong, "why") == follows
