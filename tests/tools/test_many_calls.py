"""Rounds of very many calls: what a call costs does not depend on how many stand beside it."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest

from power_loop.contracts.messages import ToolCall
from power_loop.contracts.records import ModelReplied, ToolReturned, UserSaid
from power_loop.kernel.state import replay
from power_loop.loop import StatefulAgentLoop
from power_loop.testing import ScriptedLLM, call, calls, say
from power_loop.tools.define import tool


@tool
async def ping(n: int) -> str:
    """Answer."""
    return str(n)


async def steps_of_a_round(number: int, effects: Any) -> int:
    """How many functions are entered, and generators gone on with, until a send with ``number`` calls is over, and read again."""
    steps = 0

    def count(frame: FrameType, event: str, _: Any) -> None:
        nonlocal steps
        steps += event == "call"

    asked = calls(*[call("ping", n=n) for n in range(number)])
    model = ScriptedLLM([asked, say("done"), say("again")])
    async with StatefulAgentLoop(llm=model, dsn=":memory:", tools=[tool(effects=effects)(ping)]) as loop:
        session = await loop.new_session()
        sys.setprofile(count)
        try:
            result = await loop.send("go", session)
        finally:
            sys.setprofile(None)
        assert result.status == "completed"
        assert [message["content"] for message in await loop.get_messages(session) if message["role"] == "tool"] == [
            str(n) for n in range(number)
        ]
    return steps


@pytest.mark.parametrize("effects", ["pure", "once"])
async def test_twice_as_many_calls_in_a_round_are_about_twice_the_work(effects: str):
    await steps_of_a_round(1, effects)  # what is loaded at first use
    none, few, many = [await steps_of_a_round(number, effects) for number in (1, 200, 400)]
    assert many - none < 2.3 * (few - none)


def test_results_in_any_order_leave_the_calls_without_one_in_theirs():
    asked = tuple(ToolCall(name, "ping", "{}") for name in "abcde")
    records = [UserSaid("go"), ModelReplied("", asked), *(ToolReturned(name, "ok", "ok", "ping") for name in "daxd")]
    state = replay(records)
    assert [call.id for call in state.open_calls] == ["b", "c", "e"]
    assert state.asked == asked


def test_calls_that_share_an_id_are_answered_once():
    asked = tuple(ToolCall(name, "ping", "{}") for name in "aab")
    state = replay([UserSaid("go"), ModelReplied("", asked), ToolReturned("a", "ok", "ok", "ping")])
    assert [call.id for call in state.open_calls] == ["b"]
