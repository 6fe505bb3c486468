"""Whatever a handler gives, raises or fails to finish becomes one result that the model can read."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from times import time_passes

from power_loop import AgentLoopConfig, ToolHandlerResult, ToolPolicy, tool
from power_loop.testing import call, calls

# --- what a handler gives ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Error: just a string", "Error: just a string"),
        (None, ""),
        ({"a": [1, "ü"]}, '{"a": [1, "ü"]}'),
        (3.5, "3.5"),
        (True, "true"),
        (ToolHandlerResult(True, "fine", {"rows": 3}), "fine"),
        (ToolHandlerResult(False, "no such file"), "no such file"),
        ("nul \0 and \ud800", "nul \0 and \ud800"),
    ],
    ids=lambda value: None,
)
async def test_values_are_told_as_documented(home: Any, value: Any, text: str) -> None:
    def give() -> Any:
        """Give."""
        return value

    assert await home.told(give, call("give")) == [text]


SELF: list[Any] = []
SELF.append(SELF)
DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "value",
    [
        object(),
        b"bytes",
        SELF,
        DEEP,
        {"key": object()},
        {("tuple",): 1},
        [{"type": "text", "text": "x", "more": object()}],
        [{"type": "attachment", "attachment": {"data": b"bytes"}}],
        ToolHandlerResult(True, object()),
    ],
    ids=["object", "bytes", "itself", "deep", "inside", "key", "block", "attachment", "in a result"],
)
async def test_a_result_that_is_no_json_is_a_readable_failure(home: Any, value: Any) -> None:
    def give() -> Any:
        """Give."""
        return value

    loop = home.loop(call("give"), "done", tools=[give])
    heard: list[Any] = []
    loop.event_bus.subscribe("tool_call_completed", heard.append)
    result = await loop.run("go")
    content = loop.llm.requests[1].messages[-1]["content"]
    assert (result.status, heard[0].payload["outcome"]) == ("completed", "failed")
    assert content.startswith("Error: the tool ran, but")
    assert len(content) < 1000


class TellsNothing(Exception):
    def __str__(self) -> str:
        raise ValueError("I do not say")


class Outside(BaseException):
    """Not an `Exception`."""


RAISED = {
    "ValueError": ValueError("bad value"),
    "SystemExit": SystemExit(3),
    "Outside": Outside("out"),
    "StopIteration": StopIteration("stop"),
    "StopAsyncIteration": StopAsyncIteration("stop"),
    "GeneratorExit": GeneratorExit("gone"),
    "CancelledError": asyncio.CancelledError("mine"),
    "TimeoutError": TimeoutError("elsewhere"),
    "TellsNothing": TellsNothing(),
    "ExceptionGroup": ExceptionGroup("several", [ValueError("one")]),
    "RecursionError": RecursionError("too deep"),
}


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("kind", RAISED)
async def test_whatever_a_handler_raises_becomes_a_failed_result(home: Any, kind: str, is_async: bool) -> None:
    called: list[int] = []

    def explode() -> str:
        """Explode."""
        called.append(1)
        raise RAISED[kind]

    async def explode_later() -> str:
        """Explode."""
        called.append(1)
        raise RAISED[kind]

    def fine() -> str:
        """Be fine."""
        return "fine"

    handler = explode_later if is_async else explode
    loop = home.loop(calls(call(handler.__name__), call("fine")), "done", "next", tools=[handler, fine])
    heard: list[Any] = []
    loop.event_bus.subscribe("tool_call_failed", heard.append)
    session = await loop.new_session()
    result = await loop.send("go", session)
    first, second = (m for m in loop.llm.requests[1].messages if m["role"] == "tool")
    assert (result.status, second["content"], called) == ("completed", "fine", [1])
    assert first["content"].startswith("Error: the handler cancelled itself" if kind == "CancelledError" else f"Error: {kind}")
    assert "Traceback" not in first["content"]
    assert first["is_error"] is True
    assert len(heard) == 1
    assert (await loop.send("and now?", session)).final_text == "next"


async def _waits() -> None:
    await asyncio.Event().wait()


async def _returns() -> None:
    return


@pytest.mark.parametrize("then", [_waits, _returns])
@pytest.mark.parametrize("times", [1, 2])
async def test_an_async_handler_that_cancels_its_own_task_fails_and_nobody_else_is_cancelled(home: Any, then: Any, times: int) -> None:
    async def quits() -> None:
        """Quit."""
        task = asyncio.current_task()
        assert task is not None
        for _ in range(times):
            task.cancel()
        await then()

    def fine() -> str:
        """Be fine."""
        return "fine"

    loop = home.loop(calls(call("quits"), call("fine")), "done", tools=[quits, fine])
    heard: list[Any] = []
    loop.event_bus.subscribe("tool_call_failed", heard.append)
    assert (await loop.run("go")).final_text == "done"
    told = [message["content"] for message in loop.llm.requests[1].messages if message["role"] == "tool"]
    assert told == ["Error: the handler cancelled itself", "fine"]
    assert [event.payload["name"] for event in heard] == ["quits"]


# --- how long it may take ---------------------------------------------------------------------------------------


# acceptance: 128 (async)
@pytest.mark.parametrize("set_by", ["tool", "configuration"])
async def test_an_async_handler_over_its_time_is_cancelled_and_the_send_goes_on(home: Any, set_by: str) -> None:
    cancelled: list[int] = []

    @tool(timeout_s=600 if set_by == "tool" else None, effects="pure")
    async def slow() -> str:
        """Never end."""
        time_passes(600)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise
        return ""

    config = AgentLoopConfig(tooling=ToolPolicy(timeout_s=None if set_by == "tool" else 600))
    loop = home.loop(call("slow"), "done", tools=[slow], config=config)
    result = await loop.run("go")
    assert (result.status, cancelled) == ("completed", [1])
    assert "slow did not finish within 600 s" in loop.llm.requests[1].messages[-1]["content"]


# acceptance: 128 (sync)
async def test_a_sync_handler_over_its_time_is_told_as_still_running_and_the_send_goes_on(home: Any) -> None:
    go_on, ended = threading.Event(), threading.Event()

    here = asyncio.get_running_loop()

    @tool(timeout_s=600, effects="pure")
    def slow() -> str:
        """Take its time."""
        here.call_soon_threadsafe(time_passes, 600)
        go_on.wait(100)
        ended.set()
        return "too late"

    loop = home.loop(call("slow"), "done", "next", tools=[slow])
    session = await loop.new_session()
    try:
        result = await loop.send("go", session)
        assert result.status == "completed"
        assert not ended.is_set()
        assert "still running" in loop.llm.requests[1].messages[-1]["content"]
        assert (await loop.send("and?", session)).final_text == "next"
    finally:
        go_on.set()
    await asyncio.to_thread(ended.wait, 100)
    assert "too late" not in str(await loop.get_messages(session))


# acceptance: 128 (the outcome)
@pytest.mark.parametrize("is_rewritten", [False, True])
@pytest.mark.parametrize(("effects", "outcome"), [("pure", "failed"), ("idempotent", "failed"), ("once", "unknown")])
async def test_a_once_tool_over_its_time_is_unknown_and_others_failed(home: Any, effects: Any, outcome: str, is_rewritten: bool) -> None:
    def rewrite(ctx: Any) -> None:
        ctx.tool_args["n"] += is_rewritten

    @tool(timeout_s=600, effects=effects)
    async def slow(n: int) -> str:
        """Never end."""
        time_passes(600)
        await asyncio.Event().wait()
        return ""

    loop = home.loop(call("slow", n=1), "done", tools=[slow])
    loop.hooks.register("tool.before", rewrite)
    heard: list[Any] = []
    loop.event_bus.subscribe("tool_call_completed", heard.append)
    await loop.run("go")
    assert heard[0].payload["outcome"] == outcome
    assert ("may or may not" in heard[0].payload["output"]) == (outcome == "unknown")


async def test_a_timeout_of_the_tools_own_making_is_an_ordinary_failure(home: Any) -> None:
    @tool(timeout_s=30)
    async def slow() -> str:
        """Give up early."""
        async with asyncio.timeout(0):
            await asyncio.Event().wait()
        return ""

    (text,) = await home.told(slow, call("slow"))
    assert text.startswith("Error: TimeoutError")
