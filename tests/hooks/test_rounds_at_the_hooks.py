"""Which round a handler is asked in, and where in it: counted through the send, in the order of the events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from power_loop import AgentHooks, HookDirective, HookPoint, HumanInputRequired, StatefulAgentLoop
from power_loop.testing import ScriptedLLM, call, say


def lookup(word: str) -> str:
    """Look it up."""
    return word


def ask_for(word: str) -> str:
    """Ask somebody."""
    raise HumanInputRequired(f"{word}?")


class Stage:
    """A loop whose handlers and listeners write down what they are told, in order."""

    def __init__(self, *script: Any) -> None:
        self.told: list[tuple[str, Any]] = []
        self.hooks = AgentHooks()
        for point in HookPoint:
            self.hooks.register(point, self._at(point.value))
        self.loop = StatefulAgentLoop(llm=ScriptedLLM(script), dsn=":memory:", tools=[lookup, ask_for], hooks=self.hooks)
        self.loop.event_bus.subscribe(None, lambda event: self.told.append((str(event.type), event.payload.get("round_index"))))

    def _at(self, point: str) -> Callable[[Any], None]:
        return lambda ctx: self.told.append((point, ctx.round_index))

    def rounds_at(self, *points: str) -> list[int]:
        return [index for name, index in self.told if name in points]


async def test_a_handler_is_told_the_round_that_it_is_asked_in() -> None:
    stage = Stage(call("lookup", word="a"), call("lookup", word="b"), "done")
    async with stage.loop as loop:
        await loop.run("go")
    assert stage.rounds_at("round.start") == [0, 1, 2]
    assert stage.rounds_at("llm.before") == stage.rounds_at("llm.after") == stage.rounds_at("round.end") == [0, 1, 2]
    assert stage.rounds_at("tool.before", "tools.batch.after") == [0, 0, 1, 1]
    assert stage.rounds_at("complete.decide", "session.end") == [2, 2]


async def test_rounds_are_counted_through_the_runs_of_a_send() -> None:
    stage = Stage(call("lookup", word="a"), call("ask_for", word="b"), "done", "and again")
    async with stage.loop as loop:
        result = await loop.run("go")
        stage.told.clear()
        await loop.submit_input(result.session_id, result.pending_interactions[0]["interaction_id"], "yes")
        assert {index for name, index in stage.told if name in [point.value for point in HookPoint]} == {2}
        stage.told.clear()
        await loop.send("more", result.session_id)
    assert set(stage.rounds_at("message.append", "session.start", "round.start", "llm.before", "session.end")) == {0}


@pytest.mark.parametrize("script", [["done"], [call("lookup", word="a"), "done"]])
async def test_handlers_see_a_round_off_once_listeners_know_that_it_is_over(script: list[Any]) -> None:
    stage = Stage(*script)
    async with stage.loop as loop:
        await loop.run("go")
    told = [name for name, _ in stage.told]
    ends = [at for at, name in enumerate(told) if name == "round.end"]
    assert [told[at - 1] for at in ends] == ["round_completed"] * len(script)


async def test_a_round_that_a_handler_skips_is_seen_off_too() -> None:
    stage = Stage(say("done"))
    stage.hooks.register("round.start", lambda ctx: HookDirective.SKIP if ctx.round_index == 0 else None)
    ends: list[Any] = []
    stage.hooks.register("round.end", ends.append)
    async with stage.loop as loop:
        result = await loop.run("go")
    assert (result.final_text, result.rounds, stage.rounds_at("round_started"), stage.rounds_at("round.end")) == ("done", 2, [0, 1], [0, 1])
    assert [(ctx.has_tools, ctx.response_text) for ctx in ends] == [(False, ""), (False, "done")]


async def test_a_round_is_over_before_words_are_heard_that_the_next_one_answers() -> None:
    stage = Stage(call("lookup", word="a"), "done")

    async def leave_a_word(ctx: Any) -> None:
        if ctx.round_index == 0:
            await stage.loop.enqueue("and this", ctx.session_id)

    stage.hooks.register(HookPoint.TOOL_AFTER, leave_a_word)
    async with stage.loop as loop:
        await loop.run("go")
    told = [name for name, _ in stage.told]
    heard = [at for at, name in enumerate(told) if name == "message_appended"][-2]  # the last is the reply to it
    assert told.index("round_completed") < told.index("round.end") < heard
    assert stage.rounds_at("round_completed", "round.end") == [0, 0, 1, 1]
    assert [index for index, (name, _) in enumerate(stage.told) if name == "round_started"][1] > heard
