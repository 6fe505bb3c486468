"""Servers that hang, die, answer garbage or change their tools: what a caller sees, and that nothing is done twice."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from peers import RUDE

from power_loop import StatefulAgentLoop, ToolRegistry
from power_loop.contracts.errors import ToolTimeout
from power_loop.contracts.tool import ToolRun
from power_loop.contrib.mcp import HttpMCPClient, StdioMCPClient, register_mcp_tools
from power_loop.testing import ScriptedLLM, call, say


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


def rude(how: str, notes: Path, **options: Any) -> StdioMCPClient:
    return StdioMCPClient(sys.executable, [RUDE, how, str(notes)], **{"timeout_s": 100, "protocol": "legacy", **options})


def did(notes: Path) -> list[str]:
    return notes.read_text().split()


async def test_a_server_that_never_answers_is_given_up_after_the_timeout(notes: Path) -> None:
    with pytest.raises(ConnectionError, match=r"no connection to MCP server .*: TimeoutError: it did not answer within 0\.5 s"):
        await rude("silent", notes, timeout_s=0.5).connect()


async def test_a_server_that_dies_at_its_start_is_named_with_what_it_said(notes: Path) -> None:
    with pytest.raises(ConnectionError, match=r"no connection to MCP server .*; it said: licence missing"):
        await rude("no-start", notes).connect()


# acceptance: 178 (error texts)
async def test_what_a_server_said_at_its_end_is_repeated_without_secrets() -> None:
    code = "import sys; sys.exit('no access to postgres://me:hunter2@db with API_KEY=abc')"
    with pytest.raises(ConnectionError, match=r"it said: no access to postgres://me:\*\*\*@db with API_KEY=\*\*\*"):
        await StdioMCPClient(sys.executable, ["-c", code], timeout_s=100).connect()


async def test_a_command_or_an_address_that_is_not_there_is_a_connection_error() -> None:
    with pytest.raises(ConnectionError, match="no connection to MCP server 'no-such-command-here': FileNotFoundError"):
        await StdioMCPClient("no-such-command-here").connect()
    with pytest.raises(ConnectionError, match="ConnectError"):
        await HttpMCPClient("http://127.0.0.1:9/mcp").list_tools()


async def test_a_client_may_be_closed_while_it_connects(notes: Path) -> None:
    client = rude("silent", notes)
    connecting = asyncio.create_task(client.connect())
    while not notes.exists():  # noqa: ASYNC240  # a look at a local file
        await asyncio.sleep(0.01)
    await client.aclose()
    with pytest.raises(ConnectionError, match="it was closed while it was being opened"):
        await connecting


async def test_connecting_may_be_cancelled(notes: Path) -> None:
    client = rude("silent", notes)
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.connect(), 0.5)
    await client.aclose()
    gc.collect()  # what nobody asked for is complained of when it goes
    assert complaints == []


async def test_who_calls_beside_a_connect_that_is_cancelled_gets_a_connection_of_use(notes: Path) -> None:
    client = rude("fine", notes)
    connecting = asyncio.create_task(client.connect())
    while not notes.exists():  # noqa: ASYNC240  # a look at a local file
        await asyncio.sleep(0.01)
    connecting.cancel()
    results = await asyncio.gather(*(client.call_tool("work", {}) for _ in range(3)))
    await client.aclose()
    assert [result.content for result in results] == ["work done"] * 3


async def test_lines_that_are_no_messages_are_passed_over(notes: Path) -> None:
    async with rude("garbage", notes) as client:
        assert (await client.call_tool("work", {})).content == "work done"


async def test_an_answer_to_nobody_is_passed_over(notes: Path) -> None:
    async with rude("lies", notes) as client:
        assert (await client.call_tool("work", {})).content == "work done"


async def test_an_answer_of_the_wrong_shape_is_a_failed_result(notes: Path) -> None:
    registry = ToolRegistry()
    async with rude("wrong", notes) as client:
        await register_mcp_tools(registry, client)
        assert "Error: ValidationError" in await said_by_the_loop(registry)


async def test_a_call_that_hangs_times_out_as_unknown_and_the_server_is_told(notes: Path) -> None:
    registry = ToolRegistry()
    async with rude("hangs", notes) as client:
        await register_mcp_tools(registry, client, timeout_s=0.3)
        text = await said_by_the_loop(registry)
        await client._request(lambda connection: connection.list_tools())  # answered after the cancellation was heard
    assert "did not finish within 0.3 s" in text
    assert "may or may not have taken effect" in text
    assert did(notes).count("work") == 1
    assert "cancelled" in did(notes)


async def test_a_call_that_was_cut_off_is_unknown_and_not_made_again(notes: Path) -> None:
    registry = ToolRegistry()
    async with rude("dies", notes) as client:
        await register_mcp_tools(registry, client)
        text = await said_by_the_loop(registry)
    assert "was lost while work ran" in text
    assert "may or may not have taken effect" in text
    assert did(notes) == ["started", "listed", "work"]


async def test_a_call_that_may_be_repeated_is_made_once_more_on_a_new_connection(notes: Path) -> None:
    async with rude("dies-once", notes) as client:
        result = await client.call_for_run(ToolRun(), "work", {}, repeatable=True)
    assert result.content == "work done"
    assert [word for word in did(notes) if word != "listed"] == ["started", "work", "started", "work"]


async def test_a_result_that_came_is_kept_when_the_server_dies_right_behind_it(notes: Path) -> None:
    async with rude("dies-after", notes) as client:
        assert (await client.call_tool("work", {})).content == "work done"
    assert did(notes) == ["started", "work"]  # nothing is asked behind a result


async def test_a_connection_is_made_again_once_for_a_call(notes: Path) -> None:
    async with rude("dies", notes) as client:
        with pytest.raises(ToolTimeout, match="was lost while work ran"):
            await client.call_for_run(ToolRun(), "work", {}, repeatable=True)
    assert did(notes).count("started") == did(notes).count("work") == 2


async def test_many_calls_on_a_lost_connection_share_the_new_one(notes: Path) -> None:
    async with rude("fine", notes) as client:
        assert client._connection is not None
        await client._connection.close()
        results = await asyncio.gather(*(client.call_tool("work", {}) for _ in range(5)))
    assert [result.content for result in results] == ["work done"] * 5
    assert did(notes).count("started") == 2


async def test_many_calls_that_were_cut_off_together_are_repeated_on_one_new_connection(notes: Path) -> None:
    async with rude("dies-at-third", notes) as client:
        results = await asyncio.gather(*(client.call_for_run(ToolRun(), "work", {}, repeatable=True) for _ in range(3)))
    assert [result.content for result in results] == ["work done"] * 3
    assert did(notes).count("started") == 2


async def test_a_changed_tool_list_is_heard_and_taken_over_when_the_host_says_so(notes: Path) -> None:
    heard, registry = asyncio.Event(), ToolRegistry()
    async with rude("fine", notes, on_tools_changed=heard.set) as client:
        await register_mcp_tools(registry, client)
        await client.call_tool("grow", {})
        await heard.wait()
        assert registry.names() == ["grow", "work"]
        await register_mcp_tools(registry, client, overwrite=True)
    assert registry.names() == ["grow", "work", "more"]
    assert did(notes).count("listed") == 2


async def test_malformed_tools_of_a_real_server_are_left_out_with_a_warning(notes: Path, caplog: pytest.LogCaptureFixture) -> None:
    registry = ToolRegistry()
    with caplog.at_level(logging.WARNING, "power_loop.mcp"):
        async with rude("odd", notes) as client:
            assert await register_mcp_tools(registry, client) == ["fine"]
    assert len([record for record in caplog.records if record.name == "power_loop.mcp"]) == 4


async def test_tools_that_the_sdk_would_not_take_cost_no_others_and_an_unfit_promise_costs_no_tool(
    notes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry = ToolRegistry()
    with caplog.at_level(logging.WARNING, "power_loop.mcp"):
        async with rude("unfit", notes) as client:
            assert await register_mcp_tools(registry, client) == ["fine", "promises_a_list"]
    left_out = [record.getMessage() for record in caplog.records if record.name == "power_loop.mcp"]
    assert len(left_out) == 6
    assert any("'a list': inputSchema.properties: " in line for line in left_out)


async def test_a_list_of_tools_that_is_none_is_named(notes: Path) -> None:
    async with rude("no-list", notes) as client:
        with pytest.raises(RuntimeError, match="the server's list of tools is malformed: "):
            await register_mcp_tools(ToolRegistry(), client)


async def said_by_the_loop(registry: ToolRegistry) -> str:
    """What the model reads of one call of ``work``."""
    async with StatefulAgentLoop(llm=ScriptedLLM([call("work"), say("ok")]), dsn=":memory:", tool_registry=registry) as loop:
        session = await loop.new_session()
        assert (await loop.send("go", session)).status == "completed"
        return (await loop.get_messages(session))[2]["content"]
