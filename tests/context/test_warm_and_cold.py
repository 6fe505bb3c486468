"""A loop that is made anew before every send asks what a long-lived one asks, to the byte, in every combination of the axes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from power_loop import AgentEventBus, AgenticFold, LLMSummaryFold, NeverFold, ProjectedRepresentation, VerbatimRepresentation, tool
from power_loop.testing import FunctionLLM, call, calls, say

AXES = [VerbatimRepresentation(), ProjectedRepresentation(max_chars=50)]
FOLDS = [LLMSummaryFold(keep_last_sends=2), AgenticFold(keep_last_sends=1), NeverFold()]


@tool(effects="pure")
def read(part: int) -> str:
    """Read a part."""
    return f"part {part} " + "x" * 3000


async def talked(desk: Any, *, cold: bool, switches: bool, **config: Any) -> list[str]:
    """Twelve sends, with tool rounds, a resume and a long one among them; every request as text."""
    count = iter(range(1000))
    desk.model = FunctionLLM(desk._answer)  # it numbers its calls from one
    desk.requests.clear()
    desk.folds.clear()
    left = {"rounds": 0}

    def answer(request: Any) -> Any:
        n = next(count)
        if left["rounds"]:
            left["rounds"] -= 1
            return calls(call("read", part=n), call("read", part=n + 1000))
        return say(f"answer {n} " + "word " * 100)

    desk.answers(answer)
    numbers = iter(range(1, 1000))
    desk.summary = lambda _: say(f"<summary>summary {next(numbers)}</summary>")
    loop = desk.loop(tools=[read], **config)
    session = await loop.new_session()
    for n in range(12):
        if cold and n:
            await loop.aclose()
            loop = desk.loop(tools=[read], **config)
        if switches and n in (4, 8):
            config["representation"] = AXES[n == 4]
            loop.config.representation = config["representation"]
        left["rounds"] = {2: 2, 5: 8, 7: 1}.get(n, 0)
        result = await loop.send(f"question {n} " + "word " * 60, session, max_rounds=1 if n == 7 else None)
        if n == 7:
            assert result.status == "hit_round_limit"
            await loop.resume(session, extra_rounds=2)
    await loop.aclose()
    asked = [*desk.requests, *desk.folds]
    return [json.dumps([request.system_prompt, request.messages, request.tools]) for request in asked]


# acceptance: 18 (every combination), 95
@pytest.mark.parametrize("switches", [False, True])
@pytest.mark.parametrize("axis", AXES, ids=repr)
@pytest.mark.parametrize("fold", FOLDS, ids=lambda fold: fold.fold_id)
async def test_warm_and_cold_ask_the_same_in_every_combination(desk: Any, axis: Any, fold: Any, switches: bool) -> None:
    config = {"context_tokens": 9000, "representation": axis, "fold_strategy": fold, "switches": switches}
    warm = await talked(desk, cold=False, **config)
    cold = await talked(desk, cold=True, **config)
    assert [one == other for one, other in zip(warm, cold, strict=True)] == [True] * len(warm)
    assert any("compact_note" in request for request in warm) is not isinstance(fold, NeverFold)


async def test_results_that_land_one_by_one_are_folded_where_those_are_that_land_together(desk: Any) -> None:
    """What is written of an open round by the time of the question must not matter."""
    landed, folds = asyncio.Event(), []

    @tool(effects="pure")
    async def long(apart: bool, last: bool) -> str:
        """Give a long result; the last one, where they come apart, when another one is stored."""
        if apart and last:
            await landed.wait()
        return "x" * 6000

    def told(event: Any) -> None:
        if event.payload["role"] == "tool":
            landed.set()

    bus = AgentEventBus()
    bus.subscribe("message_appended", told)
    for apart in (False, True):
        answers = iter([say("word " * 100), calls(*(call("long", apart=apart, last=last) for last in (False, False, True))), say("done")])
        desk.answers(lambda _, answers=answers: next(answers))
        desk.folds.clear()
        landed.clear()
        loop = desk.loop(tools=[long], event_bus=bus, context_tokens=4600, fold_strategy=LLMSummaryFold(keep_last_sends=1))
        session = await loop.new_session()
        await loop.send("first " + "word " * 60, session)
        await loop.send("second", session)
        folds.append(len(desk.folds))
    assert folds == [1, 1]


# acceptance: 95
async def test_from_one_send_to_the_next_a_request_begins_with_the_bytes_of_the_one_before(desk: Any) -> None:
    loop = desk.loop(tools=[read], context_tokens=100_000)
    session = await loop.new_session()
    for n in range(6):
        await loop.send(f"question {n}", session)
    for early, late in zip(desk.requests, desk.requests[1:], strict=False):
        assert late.messages[: len(early.messages)] == early.messages
        assert (late.system_prompt, late.tools) == (early.system_prompt, early.tools)
