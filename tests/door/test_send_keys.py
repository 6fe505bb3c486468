"""`send(key=…)`: the same key is one send, one bill, one outcome."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from power_loop import HumanInputRequired, LLMError, StatefulAgentLoop, ToolRun, tool
from power_loop.testing import ScriptedLLM, call, fail, respond, say


@pytest.fixture
def dsn(tmp_path: Path) -> str:
    return str(tmp_path / "app.db")


# acceptance: 138 (one process and two loops)
async def test_a_key_that_was_used_gives_the_stored_outcome_and_pays_nothing(dsn: str) -> None:
    async with StatefulAgentLoop(llm=ScriptedLLM([say("first"), say("second")]), dsn=dsn) as loop:
        session = await loop.new_session()
        first = await loop.send("Hello.", session, key="a")
        await loop.send("More.", session, key="b")
        again = await loop.send("Hello.", session, key="a")
    assert (first.final_text, again.final_text, again.send_index, again.rounds) == ("first", "first", 1, 0)


# acceptance: 138 (concurrently)
async def test_two_callers_with_one_key_share_one_send(dsn: str) -> None:
    async with StatefulAgentLoop(llm=ScriptedLLM([say("once")]), dsn=dsn) as one:
        session = await one.new_session()
        async with StatefulAgentLoop(llm=ScriptedLLM([]), dsn=dsn) as other:
            results = await asyncio.gather(one.send("Hello.", session, key="k"), one.send("Hello.", session, key="k"))
            late = await other.send("Hello.", session, key="k")
        rows = [message["role"] for message in await one.get_messages(session)]
    assert {result.final_text for result in [*results, late]} == {"once"}
    assert rows == ["user", "assistant"]


@tool(effects="pure")
async def ask(run: ToolRun) -> str:
    """Ask, with another word already waiting behind the question."""
    await run.enqueue("More.", run.session_id or "")
    raise HumanInputRequired("Which one?")


@pytest.mark.parametrize("posted", [False, True])
async def test_callers_who_stood_in_line_with_one_key_are_all_told_that_its_send_waits(posted: bool) -> None:
    async def held(_: Any) -> str:
        if posted:
            await loop.enqueue("Go.", session, key="k", not_before_ms=1)
        callers.extend(asyncio.create_task(loop.send("Go.", session, key="k")) for _ in range(2))
        await asyncio.sleep(0)  # the store is in memory: both stand in line now
        return "held"

    callers: list[asyncio.Task[Any]] = []
    async with StatefulAgentLoop(llm=ScriptedLLM([respond(held), call("ask")]), tools=[ask], dsn=":memory:") as loop:
        session = await loop.new_session()
        await loop.send("First.", session)
        results = await asyncio.gather(*callers)
    assert {(result.status, result.send_index) for result in results} == {("waiting_for_input", 1 if posted else 2)}


# acceptance: 138 (after a failure)
async def test_a_send_that_failed_goes_on_under_its_key(dsn: str) -> None:
    async with StatefulAgentLoop(llm=ScriptedLLM([fail(LLMError("down")), say("up again")]), dsn=dsn) as loop:
        session = await loop.new_session()
        with pytest.raises(LLMError):
            await loop.send("Hello.", session, key="k")
        result = await loop.send("Hello.", session, key="k")
        rows = [message["role"] for message in await loop.get_messages(session)]
    assert (result.final_text, rows) == ("up again", ["user", "assistant"])


async def test_a_follow_up_on_a_session_at_rest_is_said_once_for_its_key(dsn: str) -> None:
    async with StatefulAgentLoop(llm=ScriptedLLM([say("heard")]), dsn=dsn) as loop:
        session = await loop.new_session()
        first = await loop.follow_up("Well?", session, key="k")
        again = await loop.follow_up("Well?", session, key="k")
        rows = [message["role"] for message in await loop.get_messages(session)]
    assert (first.final_text, again.final_text, rows) == ("heard", "heard", ["user", "assistant"])


# acceptance: 135 (a follow-up)
async def test_a_follow_up_that_was_queued_is_not_said_again_for_its_key(dsn: str) -> None:
    async with StatefulAgentLoop(llm=ScriptedLLM([say("heard")]), dsn=dsn) as loop:
        session = await loop.new_session()
        await loop.enqueue("Well?", session, key="k")
        again = await loop.follow_up("Well?", session, key="k")
    assert again.duplicate
