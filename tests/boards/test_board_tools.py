"""The board as agents see it: what one writes, the others read."""

from __future__ import annotations

from typing import Any

import pytest

from power_loop import (
    RuntimeEnv,
    SqliteBlackboard,
    ToolRegistry,
    open_store,
    register_blackboard_tools,
    register_spawn_agent,
    runtime_env_context,
)
from power_loop.loop import StatefulAgentLoop
from power_loop.testing import ScriptedLLM, call, say

NAMES = ["board_read", "board_post", "board_update", "board_remove"]


def with_board(**settings: Any) -> ToolRegistry:
    registry = ToolRegistry()
    register_blackboard_tools(registry, **settings)
    return registry


def results(messages: list[dict[str, Any]]) -> list[str]:
    return [message["content"] for message in messages if message["role"] == "tool"]


# acceptance: 112
async def test_agents_with_one_board_see_each_others_entries() -> None:
    store = await open_store(":memory:")
    env = RuntimeEnv(blackboard=SqliteBlackboard(store), blackboard_id="team")
    script = [
        [call("board_post", text="look at the logs", kind="task"), say("posted")],
        [call("board_read"), call("board_update", entry_id=1, status="doing"), call("board_remove", entry_id=1), say("done")],
    ]
    said = []
    for steps, name in zip(script, ("ann", "bob"), strict=True):
        loop = StatefulAgentLoop(llm=ScriptedLLM(steps), store=store, tool_registry=with_board())
        session = await loop.new_session(metadata={"name": name})
        with runtime_env_context(env):
            assert (await loop.send("go", session)).status == "completed"
        said += results(await loop.get_messages(session))
        await loop.aclose()
    assert said == [
        "Entry 1 is on the board.\nThe board has 1 entry:\n#1 [task, open] ann: look at the logs",
        "The board has 1 entry:\n#1 [task, open] ann: look at the logs",
        "Entry 1 is changed.\nThe board has 1 entry:\n#1 [task, doing] ann: look at the logs",
        "Entry 1 is not on the board any more.\nThe board is empty.",
    ]
    await store.close()


# acceptance: 112 (without a board)
@pytest.mark.parametrize("env", [RuntimeEnv(), RuntimeEnv(blackboard_id="team"), RuntimeEnv(blackboard=object())])
async def test_without_a_board_the_tools_say_so(env: RuntimeEnv) -> None:
    asked = [call("board_read"), call("board_post", text="x"), call("board_update", entry_id=1, text="x"), call("board_remove", entry_id=1)]
    async with StatefulAgentLoop(llm=ScriptedLLM([*asked, say("ok")]), dsn=":memory:", tool_registry=with_board()) as loop:
        session = await loop.new_session()
        with runtime_env_context(env):
            await loop.send("go", session)
        said = results(await loop.get_messages(session))
    assert said == ["There is no board here: nobody has set one up for this agent."] * 4


async def test_what_the_board_refuses_is_told_with_the_board_as_it_is() -> None:
    store = await open_store(":memory:")
    board = SqliteBlackboard(store, max_entries=1)
    asked = [
        call("board_post", text="one", status="done"),
        call("board_post", text="two"),
        call("board_update", entry_id=7, text="x"),
        call("board_update", entry_id=1),
        call("board_post", text="x", kind="poem"),
        say("ok"),
    ]
    loop = StatefulAgentLoop(llm=ScriptedLLM(asked), store=store, tool_registry=with_board())
    session = await loop.new_session(session_id="sess_me")
    with runtime_env_context(RuntimeEnv(blackboard=board, blackboard_id="Team A")):
        await loop.send("go", session)
    shown = "The board has 1 entry:\n#1 [note, done] sess_me: one"
    said = results(await loop.get_messages(session))
    assert said[0] == f"Entry 1 is on the board.\n{shown}"
    assert said[1] == f"Board 'Team A' has 1 entries, and no room for more: remove one first.\n{shown}"
    assert said[2] == f"Board 'Team A' has no entry 7.\n{shown}"
    assert said[3] == f"Nothing was changed in entry 1: give text, status, or both.\n{shown}"
    assert "kind" in said[4]
    await loop.aclose()
    await store.close()


async def test_a_sub_agent_writes_under_the_name_of_its_spec() -> None:
    store = await open_store(":memory:")
    tools = with_board()
    register_spawn_agent(tools)
    spec = {"name": "scout", "system_prompt": "You scout."}
    model = ScriptedLLM([call("run_agent", spec=spec, input="look"), call("board_post", text="seen"), say("done"), say("ok")])
    loop = StatefulAgentLoop(llm=model, store=store, tool_registry=tools)
    board = SqliteBlackboard(store)
    with runtime_env_context(RuntimeEnv(blackboard=board, blackboard_id="team")):
        assert (await loop.run("go")).status == "completed"
    assert [(entry.author, entry.text) for entry in await board.read("team")] == [("scout", "seen")]
    await loop.aclose()
    await store.close()


def test_kinds_and_statuses_are_the_hosts_and_names_are_taken_once() -> None:
    registry = with_board(kinds=("risk",), statuses=("new", "gone"), default_kind="risk")
    assert sorted(registry.names()) == sorted(NAMES)
    [post] = [tool["function"] for tool in registry.to_openai_tools() if tool["function"]["name"] == "board_post"]
    properties = post["parameters"]["properties"]
    assert (properties["kind"]["enum"], properties["status"]["enum"]) == (["risk"], ["new", "gone"])
    with pytest.raises(ValueError, match="board_read"):
        register_blackboard_tools(registry)
    register_blackboard_tools(registry, overwrite=True)
    for wrong in ({"default_kind": "x"}, {"statuses": ()}):
        with pytest.raises(ValueError, match="default_kind"):
            register_blackboard_tools(ToolRegistry(), **wrong)
