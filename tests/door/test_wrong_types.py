"""What is of the wrong type at the door is refused by the name of its parameter, before anything is written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from power_loop import StatefulAgentLoop, Worker
from power_loop.testing import ScriptedLLM


@pytest.fixture
async def loop() -> AsyncIterator[StatefulAgentLoop]:
    async with StatefulAgentLoop(llm=ScriptedLLM(["fine"]), dsn=":memory:") as one:
        yield one


PARTS = ("store", "dsn", "db_path", "table_prefix", "config", "tool_registry", "tools", "hooks", "event_bus", "name", "holder_id")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("wrong", [5, {"a": 1}.items(), b"x", object()])
def test_a_loop_tells_which_of_its_parts_is_none(part: str, wrong: Any) -> None:
    given: dict[str, Any] = {"llm": "echo:", part: wrong}
    with pytest.raises(TypeError, match=rf"{part}= takes .*, not {type(wrong).__name__}|is no tool: give a function"):
        StatefulAgentLoop(**given)


def test_a_name_of_a_database_is_no_store_and_a_list_of_tools_no_registry() -> None:
    wrong: Any = ["app.db", [len]]
    with pytest.raises(TypeError, match=r"store= takes what open_store\(\) gives, not str; dsn= takes the name of a database"):
        StatefulAgentLoop(llm="echo:", store=wrong[0])
    with pytest.raises(TypeError, match=r"tool_registry= takes a ToolRegistry \(tools= takes functions and definitions\), not list"):
        StatefulAgentLoop(llm="echo:", tool_registry=wrong[1])


def test_a_worker_works_for_a_loop() -> None:
    dsn: Any = "app.db"
    with pytest.raises(TypeError, match="a Worker works for a StatefulAgentLoop, not for str"):
        Worker(dsn)


@pytest.mark.parametrize("wrong", [5, "name", [("a", 1)]])
async def test_what_is_no_mapping_is_no_metadata(loop: StatefulAgentLoop, wrong: Any) -> None:
    session = await loop.new_session()
    for refused in (loop.new_session(metadata=wrong), loop.send("hi", session, metadata=wrong), loop.fork(session, metadata=wrong)):
        with pytest.raises(TypeError, match=f"metadata takes a mapping, not {type(wrong).__name__}"):
            await refused
    assert await loop.get_messages(session) == []


async def test_a_key_and_an_id_of_ones_own_are_text(loop: StatefulAgentLoop) -> None:
    session, number = await loop.new_session(), cast("Any", 5)
    for say in (loop.send, loop.follow_up, loop.enqueue):
        with pytest.raises(TypeError, match="key takes text, not int"):
            await say("hi", session, key=number)
    with pytest.raises(TypeError, match="session_id takes text, not int"):
        await loop.new_session(session_id=number)
