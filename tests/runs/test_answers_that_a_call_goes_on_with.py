"""A call that asks for its own use: it is parked, and run again with the answer; nothing but records tells it where it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from power_loop import StatefulAgentLoop, ToolRun, Worker, tool
from power_loop.errors import HumanInputRequired
from power_loop.records import Answered
from power_loop.testing import ScriptedLLM, call, calls, say


def bakery() -> tuple[Any, list[Any]]:
    """A tool that asks for a size, then for a name, and says when it was run with what."""
    heard: list[Any] = []

    @tool(effects="once")
    async def bake(run: ToolRun, what: str) -> str:
        """Bake."""
        heard.append([dict(each) for each in run.answered])
        questions = ("Which size?", "For whom?")
        if len(run.answered) < len(questions):
            raise HumanInputRequired(questions[len(run.answered)], state={"n": len(run.answered)})
        size, name = (each["answer"] for each in run.answered)
        return f"{size} {what} for {name}"

    return bake, heard


async def test_the_call_runs_again_with_what_was_answered_so_far(tmp_path: Path) -> None:
    bake, heard = bakery()
    dsn = str(tmp_path / "app.db")
    async with StatefulAgentLoop(llm=ScriptedLLM([call("bake", what="cake")]), dsn=dsn, tools=[bake]) as loop:
        session = await loop.new_session()
        (first,) = (await loop.send("bake", session)).pending_interactions
        assert (first["prompt"], first["state"]) == ("Which size?", {"n": 0})
    async with StatefulAgentLoop(llm=ScriptedLLM([say("done")]), dsn=dsn, tools=[bake]) as loop:
        (second,) = (await loop.submit_input(session, first["interaction_id"], {"cm": 20})).pending_interactions
        assert second["prompt"] == "For whom?"
        assert second["interaction_id"] != first["interaction_id"]
        result = await loop.submit_input(session, second["interaction_id"], "ann")
        assert (result.status, result.final_text) == ("completed", "done")
        assert (await loop.get_messages(session))[2]["content"] == "{'cm': 20} cake for ann"
    assert heard[-1] == [{"state": {"n": 0}, "answer": {"cm": 20}}, {"state": {"n": 1}, "answer": "ann"}]


async def test_an_answer_is_taken_once_and_an_old_one_does_not_fit_the_next_question() -> None:
    bake, heard = bakery()
    async with StatefulAgentLoop(llm=ScriptedLLM([call("bake", what="cake")]), dsn=":memory:", tools=[bake]) as loop:
        session = await loop.new_session()
        (first,) = (await loop.send("bake", session)).pending_interactions
        await loop.submit_input(session, first["interaction_id"], "small")
        with pytest.raises(ValueError, match="waits for no answer"):
            await loop.submit_input(session, first["interaction_id"], "large")
    assert len(heard) == 2


async def test_siblings_go_on_and_other_calls_do_not_hear_the_answer() -> None:
    bake, heard = bakery()

    @tool
    def look(run: ToolRun) -> str:
        """Look."""
        return f"heard {len(run.answered)}"

    script = [calls(call("bake", what="cake"), call("look"), call("bake", what="pie"))]
    async with StatefulAgentLoop(llm=ScriptedLLM(script), dsn=":memory:", tools=[bake, look]) as loop:
        session = await loop.new_session()
        result = await loop.send("bake", session)
        assert [row["content"] for row in await loop.get_messages(session) if row["role"] == "tool"] == ["heard 0"]
        cake, pie = result.pending_interactions
        await loop.submit_input(session, pie["interaction_id"], "small")
    assert heard == [[], [], [{"state": {"n": 0}, "answer": "small"}]]  # the other call still waits, and heard nothing
    assert cake["interaction_id"] != pie["interaction_id"]


async def test_a_worker_goes_on_with_an_answer_that_somebody_left() -> None:
    bake, heard = bakery()
    async with StatefulAgentLoop(llm=ScriptedLLM([call("bake", what="cake")]), dsn=":memory:", tools=[bake]) as loop:
        session = await loop.new_session()
        (first,) = (await loop.send("bake", session)).pending_interactions
        store = await loop.ensure_store()
        await store.post(session, Answered(first["interaction_id"], first["tool_call_id"], "small"), key="a")
        (finding,) = [each for each in (await loop.doctor(session)).findings if each.call_id is not None]
        assert "was decided on; resume() hears it" in finding.text
        assert await Worker(loop).run_once() == 1
        assert (await loop.get_pending(session))["pending_interactions"][0]["prompt"] == "For whom?"
    assert heard == [[], [{"state": {"n": 0}, "answer": "small"}]]
