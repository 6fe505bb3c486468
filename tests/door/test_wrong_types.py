"""What is of the wrong type at the door is refused by the name of its parameter, before anything is written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from power_loop import StatefulAgentLoop
from power_loop.testing import ScriptedLLM


@pytest.fixture
async def loop() -> AsyncIterator[StatefulAgentLoop]:
    async with StatefulAgentLoop(llm=ScriptedLLM(["fine"]), dsn=":memory:") as one:
        yield one


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
    with pytest.raises(ValueError, match="session id 5"):
        await loop.new_session(session_id=number)
