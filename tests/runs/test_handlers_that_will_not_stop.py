"""A handler on the event loop that will not be cancelled: the send leaves it after the grace, and keeps what it gives as evidence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from times import time_passes

from power_loop import AgentLoopConfig, RunPolicy, ToolPolicy, tool
from power_loop.context.pairing import check_pairs
from power_loop.testing import call, calls

NO_GRACE = AgentLoopConfig(running=RunPolicy(cancel_grace_s=0))


class Stubborn:
    """A handler that swallows each cancel until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go_on, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.cancels = 0

    def tools(self, kind: str, gives: Any = "moved after all") -> list[Any]:
        @tool(name="move", effects="once")
        async def in_the_loop(to: str) -> Any:
            """Move."""
            return await self.work(gives)

        @tool(name="move", effects="once")
        def gives_an_awaitable(to: str) -> Any:
            """Move."""
            return self.work(gives)

        return [in_the_loop if kind == "async" else gives_an_awaitable]

    async def work(self, gives: Any) -> Any:
        self.begun.set()
        while not self.go_on.is_set():
            try:
                await self.go_on.wait()
            except asyncio.CancelledError:
                self.cancels += 1
        self.ended.set()
        if isinstance(gives, BaseException):
            raise gives
        return gives


@pytest.fixture
async def stubborn() -> AsyncIterator[Stubborn]:
    place = Stubborn()
    yield place
    place.go_on.set()


async def begun(loop: Any, stubborn: Stubborn) -> tuple[str, asyncio.Task[Any]]:
    """A send whose handler runs."""
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await stubborn.begun.wait()
    return session, sending


@pytest.mark.parametrize("kind", ["async", "sync that gives an awaitable"])
async def test_a_cancel_of_the_send_leaves_it_behind_after_the_grace(house: Any, stubborn: Stubborn, kind: str) -> None:
    loop = house.loop(call("move", to="x"), "fine", tools=stubborn.tools(kind), config=NO_GRACE)
    session, sending = await begun(loop, stubborn)
    await loop.cancel(session)
    assert (await sending).status == "cancelled"
    assert stubborn.cancels == 1
    (told,) = house.told("tool_call_completed")
    assert (told["outcome"], "still running" in told["output"]) == ("unknown", True)
    check_pairs(await loop.get_messages(session))
    stubborn.go_on.set()
    [late] = await house.late_of(loop, session)
    assert (late.outcome, late.output, late.name, late.answered) == ("ok", "moved after all", "move", "unknown")
    assert (await loop.send("again", session)).final_text == "fine"


async def test_a_cancel_of_the_task_leaves_it_behind_after_the_grace(house: Any, stubborn: Stubborn) -> None:
    loop = house.loop(call("move", to="x"), tools=stubborn.tools("async"), config=NO_GRACE)
    session, sending = await begun(loop, stubborn)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert await house.holder(session) is None
    stubborn.go_on.set()
    [late] = await house.late_of(loop, session)
    assert (late.output, late.answered) == ("moved after all", None)
    cold = house.loop("so it was", tools=stubborn.tools("async"))
    assert (await cold.resume(session)).final_text == "so it was"
    assert [message["content"] for message in await cold.get_messages(session) if message["role"] == "tool"] == ["moved after all"]


class Odd(BaseException):
    """Not an `Exception`."""


@pytest.mark.parametrize("error", [OSError("no disk"), Odd("no")], ids=["OSError", "Odd"])
async def test_what_it_raises_in_the_end_is_evidence_too_and_no_hook_is_asked(house: Any, stubborn: Stubborn, error: BaseException) -> None:
    asked: list[Any] = []
    on = {"tool.error": asked.append, "tool.after": asked.append}
    loop = house.loop(call("move", to="x"), tools=stubborn.tools("async", error), config=NO_GRACE, on=on)
    session, sending = await begun(loop, stubborn)
    await loop.cancel(session)
    await sending
    stubborn.go_on.set()
    [late] = await house.late_of(loop, session)
    assert (late.outcome, late.output) == ("failed", f"Error: {type(error).__name__}: {error}")
    assert asked == []


@pytest.mark.parametrize("timeout_s", [None, 600], ids=["no limit", "a limit"])
async def test_one_that_ends_by_a_cancel_after_all_leaves_nothing(house: Any, stubborn: Stubborn, timeout_s: float | None) -> None:
    asked: list[Any] = []
    config = replace(NO_GRACE, tooling=ToolPolicy(timeout_s=timeout_s))
    tools = stubborn.tools("async", asyncio.CancelledError())
    loop = house.loop(call("move", to="x"), tools=tools, config=config, on={"tool.error": asked.append})
    session, sending = await begun(loop, stubborn)
    await loop.cancel(session)
    await sending
    if timeout_s is not None:
        time_passes(timeout_s)
        await house.until(lambda: stubborn.cancels == 2)
    stubborn.go_on.set()
    await stubborn.ended.wait()
    await loop.aclose()
    assert await house.look("SELECT COUNT(*) FROM pl_late_results") == [(0,)]
    assert asked == []


async def test_its_neighbours_results_are_kept(house: Any, stubborn: Stubborn) -> None:
    @tool(effects="once", parallel=True)
    async def quick() -> str:
        """Be quick when it has to be."""
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "saved"
        return "never"

    tools = [quick, *stubborn.tools("async")]
    loop = house.loop(calls(call("quick"), call("move", to="x")), tools=tools, config=NO_GRACE)
    session, sending = await begun(loop, stubborn)
    await loop.cancel(session)
    await sending
    outcomes = {told["name"]: (told["outcome"], told["output"]) for told in house.told("tool_call_completed")}
    assert outcomes["quick"] == ("ok", "saved")
    assert outcomes["move"][0] == "unknown"
    assert (await loop.get_messages(session))[-2]["content"] == "saved"
