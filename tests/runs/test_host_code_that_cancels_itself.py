"""Code of the host that raises a cancel nobody asked for has failed: the send goes on, as after any other failure of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from power_loop import AgentLoopConfig, ContextPolicy, tool
from power_loop.testing import call


async def cancels_itself(*_: Any, **__: Any) -> Any:
    work = asyncio.create_task(asyncio.sleep(60))
    work.cancel()
    await work


class Memory:
    recall = remember = staticmethod(cancels_itself)


class Projector:
    project = staticmethod(cancels_itself)


class Fold:
    """Wants to fold whatever is there."""

    fold_id, keep_last_sends, trigger_ratio = "mine", 1, 0.01
    fold = staticmethod(cancels_itself)


CODE = {
    "a memory": AgentLoopConfig(memory=Memory()),
    "a projector": AgentLoopConfig(runtime_projectors=[Projector()]),
    "a fold": AgentLoopConfig(context=ContextPolicy(fold_strategy=Fold()), context_tokens=1000),
}


@pytest.mark.parametrize("what", CODE)
async def test_a_send_goes_on_without_what_cancelled_itself(house: Any, what: str) -> None:
    loop = house.loop("one", "two", config=CODE[what])
    session = await loop.new_session()
    assert [(await loop.send("go on and on " * 20, session)).status for _ in range(2)] == ["completed", "completed"]
    assert (await loop.doctor(session)).state == "idle"
    if what == "a memory":
        await house.until_told("memory_failed", 4)
        assert {told["phase"] for told in house.told("memory_failed")} == {"recall", "remember"}
    elif what == "a fold":
        await house.until(lambda: "it cancelled itself" in str(house.told("status_changed")))


async def test_a_rule_that_cancels_itself_wants_an_approval(house: Any) -> None:
    @tool(needs_approval=cancels_itself)
    def pay(amount: int) -> str:
        """Pay."""
        return "paid"

    result = await house.loop(call("pay", amount=1), tools=[pay]).run("go")
    assert (result.status, len(result.pending_interactions)) == ("waiting_for_input", 1)
