"""What one call sets holds for its send, over the session's and the configuration's; and for nothing after it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from power_loop import AgentLoopConfig, HumanInputRequired, StatefulAgentLoop, ToolDefinition, ToolNotFound, ToolRegistry, ToolRun, tool
from power_loop.testing import call, calls, say


def one() -> str:
    """Be one."""
    return "1"


def two() -> str:
    """Be two."""
    return "2"


def three() -> str:
    """Be three."""
    return "3"


def offered(loop: Any) -> list[list[str]]:
    """The names of the tools in each request so far."""
    return [[each["function"]["name"] for each in request.tools or []] for request in loop.llm.requests]


# acceptance: 23
async def test_tools_by_name_are_offered_in_that_send_only(home: Any) -> None:
    loop = home.loop(call("two"), "a", "b", tools=[one, two])
    session = await loop.new_session()
    await loop.send("x", session, tools=["two"])
    await loop.send("y", session)
    assert offered(loop) == [["two"], ["two"], ["one", "two"]]


async def finished(work: Any) -> Any:
    """What an awaitable gives, or all events of a stream."""
    return [event async for event in work] if hasattr(work, "__aiter__") else await work


# acceptance: 23 (an unknown name)
@pytest.mark.parametrize("how", ["send", "follow_up", "resume", "stream"])
async def test_an_unknown_tool_name_is_refused_before_anything_is_written(home: Any, how: str) -> None:
    loop = home.loop(tools=[one])
    session = await loop.new_session()
    before = await home.contents()
    said = () if how == "resume" else ("x",)
    with pytest.raises(ToolNotFound, match="'three'") as refused:
        await finished(getattr(loop, how)(*said, session, tools=["one", "three"]))
    assert refused.value.tool_name == "three"
    assert loop.llm.requests == []
    assert await home.contents() == before


@pytest.mark.parametrize("wrong", ["one", 7, [ToolDefinition("bare")], [42]])
async def test_what_is_no_list_of_tools_is_refused_before_anything_is_written(home: Any, wrong: Any) -> None:
    loop = home.loop(tools=[one])
    session = await loop.new_session()
    before = await home.contents()
    with pytest.raises((TypeError, ToolNotFound)):
        await loop.send("x", session, tools=wrong)
    assert await home.contents() == before


async def test_functions_definitions_and_registries_may_be_given_for_one_send(home: Any) -> None:
    registry = ToolRegistry([three])
    bare = (ToolDefinition("four", "Be four."), lambda: "4")
    loop = home.loop(calls(call("one"), call("three"), call("four")), "a", call("three"), "b", "c", tools=[one, two])
    session = await loop.new_session()
    await loop.send("x", session, tools=["one", three, bare])
    await loop.send("y", session, tools=registry)
    await loop.send("z", session)
    assert offered(loop) == [["four", "one", "three"]] * 2 + [["three"]] * 2 + [["one", "two"]]
    assert [m["content"] for m in await loop.get_messages(session) if m["role"] == "tool"] == ["1", "3", "4", "3"]


async def test_an_empty_list_offers_none(home: Any) -> None:
    loop = home.loop("a", tools=[one])
    await loop.run("x", tools=[])
    assert loop.llm.requests[0].tools is None
    assert loop.llm.requests[0].tool_choice is None


async def test_a_tool_that_is_not_on_offer_in_this_send_is_not_run(home: Any) -> None:
    ran: list[int] = []

    def secret() -> str:
        """Do not call me."""
        ran.append(1)
        return ""

    loop = home.loop(call("secret"), "a", tools=[secret, one])
    session = await loop.new_session()
    await loop.send("x", session, tools=["one"])
    assert ran == []
    assert "no tool named 'secret'" in (await loop.get_messages(session))[2]["content"]


# acceptance: 24
async def test_the_prompt_of_a_call_comes_before_the_sessions_before_the_configurations(home: Any) -> None:
    loop = home.loop("a", "b", "c", "d", config=AgentLoopConfig(system_prompt="config"))
    own, bare = await loop.new_session(system_prompt="session"), await loop.new_session()
    await loop.send("x", own, system_prompt="call")
    await loop.send("y", own)
    await loop.send("z", bare, system_prompt="call")
    await loop.send("w", bare)
    assert [request.system_prompt for request in loop.llm.requests] == ["call", "session", "call", "config"]
    assert await loop.resolve_system_prompt(session_id=own) == "session"
    assert await loop.resolve_system_prompt(session_id=bare) == await loop.resolve_system_prompt() == "config"


async def test_without_any_prompt_there_is_a_built_in_one_and_an_empty_one_counts(home: Any) -> None:
    loop = home.loop("a", "b", "c")
    session = await loop.new_session()
    empty = await loop.new_session(system_prompt="")
    await loop.send("x", session)
    await loop.send("y", session, system_prompt="")
    await loop.send("z", empty)
    built_in, by_call, by_session = (request.system_prompt for request in loop.llm.requests)
    assert built_in == await loop.resolve_system_prompt(session_id=session)
    assert built_in
    assert (by_call, by_session) == ("", "")


# acceptance: 25 (send_sync)
async def test_send_sync_takes_the_same_overrides(home: Any) -> None:
    def in_a_thread(loop: StatefulAgentLoop) -> None:
        session = loop.new_session_sync(system_prompt="session")
        loop.send_sync("x", session, tools=["two"], system_prompt="call")
        loop.send_sync("y", session)

    loop = home.loop("a", "b", tools=[one, two])
    await asyncio.to_thread(in_a_thread, loop)
    assert offered(loop) == [["two"], ["one", "two"]]
    assert [request.system_prompt for request in loop.llm.requests] == ["call", "session"]


# acceptance: 25 (an idle follow_up)
async def test_an_idle_follow_up_takes_the_same_overrides(home: Any) -> None:
    loop = home.loop("a", "b", tools=[one, two])
    session = await loop.new_session(system_prompt="session")
    first = await loop.follow_up("x", session, tools=["two"], system_prompt="call")
    await loop.follow_up("y", session)
    assert (first.status, first.final_text) == ("completed", "a")
    assert offered(loop) == [["two"], ["one", "two"]]
    assert [request.system_prompt for request in loop.llm.requests] == ["call", "session"]
    assert loop.llm.requests[0].messages == [{"role": "user", "content": "x"}]


async def test_a_resume_goes_on_under_the_overrides_of_its_send(home: Any) -> None:
    first = home.loop(call("one"), say("used up"), tools=[one, two])
    session = await first.new_session()
    await first.send("x", session, tools=["one"], system_prompt="call", max_rounds=1)
    again = home.loop(say("done"), tools=[one, two])
    result = await again.resume(session, extra_rounds=1)
    assert result.final_text == "done"
    assert (again.llm.requests[0].system_prompt, offered(again)) == ("call", [["one"]])


async def test_what_a_resume_is_given_comes_before_what_its_send_was_given(home: Any) -> None:
    loop = home.loop(call("one"), say("used up"), call("two"), say("done"), tools=[one, two])
    session = await loop.new_session()
    await loop.send("x", session, tools=["one"], system_prompt="call", max_rounds=1)
    await loop.resume(session, extra_rounds=2, tools=["two"], system_prompt="resume")
    assert offered(loop)[2:] == [["two"], ["two"]]
    assert [request.system_prompt for request in loop.llm.requests[2:]] == ["resume", "resume"]


async def test_a_tool_that_the_resuming_loop_lacks_ends_it_as_pending_tools(home: Any) -> None:
    first = home.loop(calls(call("one")), tools=[])
    session = await first.new_session()
    await first.send("x", session, tools=[])
    without = home.loop()
    result = await without.resume(session)
    assert (result.status, len(result.pending_tool_calls)) == ("pending_tools", 1)
    assert without.llm.requests == []


async def test_a_call_of_the_one_tool_that_the_resuming_loop_lacks_waits_for_a_loop_that_has_it(home: Any) -> None:
    first = home.loop(calls(call("one"), call("two")), tools=[one, two])
    session = await first.new_session()
    first.hooks.register("tools.batch.before", refuse)
    with pytest.raises(RuntimeError):
        await first.send("x", session, tools=["one", "two"])
    without = home.loop(tools=[two])
    result = await without.resume(session)
    assert (result.status, [each["function"]["name"] for each in result.pending_tool_calls]) == ("pending_tools", ["one"])
    assert without.llm.requests == []
    assert (await home.loop("done", tools=[one, two]).resume(session)).final_text == "done"


def refuse(_: Any) -> None:
    raise RuntimeError("no more of this")


async def test_deps_of_a_call_come_before_those_of_the_loop(home: Any) -> None:
    seen: list[Any] = []

    def look(run: ToolRun) -> str:
        """Look around."""
        seen.append(run.deps)
        return ""

    loop = home.loop(call("look"), "a", call("look"), "b", tools=[look], deps="loop's")
    session = await loop.new_session()
    await loop.send("x", session, deps="call's")
    await loop.send("y", session)
    assert seen == ["call's", "loop's"]


@dataclass
class Refund:
    """A type of the host's own."""

    euros: int


@tool(needs_approval=True)
def refund(run: ToolRun) -> str:
    """Pay it back."""
    return f"paid by {run.deps}"


def ask_boss(run: ToolRun) -> str:
    """Ask somebody."""
    raise HumanInputRequired(f"May {run.deps}?", kind="confirm")


async def test_what_no_store_keeps_is_given_again_to_a_resume(home: Any) -> None:
    loop = home.loop(call("refund"), say('{"euros": 5}'), tools=[refund], deps="the loop")
    session = await loop.new_session()
    await loop.send("x", session, deps="Ada", output_type=Refund)
    [asked] = await loop.list_approvals(session)
    await loop.approve(session, asked.interaction_id, digest=asked.digest)
    result = await loop.resume(session, deps="Ada", output_type=Refund)
    assert result.output == Refund(5)
    assert [row["content"] for row in await loop.get_messages(session) if row["role"] == "tool"] == ["paid by Ada"]


async def test_what_no_store_keeps_is_given_again_with_an_answer(home: Any) -> None:
    def look(run: ToolRun) -> str:
        """Look around."""
        return f"{run.deps} looks"

    loop = home.loop(call("ask_boss"), call("look"), say('{"euros": 5}'), deps="the loop")
    session = await loop.new_session()
    waiting = await loop.send("x", session, deps="Ada", tools=[ask_boss, look], output_type=Refund)
    [question] = waiting.pending_interactions
    result = await loop.submit_input(session, question["interaction_id"], True, deps="Ada", tools=[ask_boss, look], output_type=Refund)
    assert result.output == Refund(5)
    assert [row["content"] for row in await loop.get_messages(session) if row["role"] == "tool"][1:] == ["Ada looks"]
