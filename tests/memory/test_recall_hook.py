"""Memories of a host that makes the hook itself, or listens to nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from power_loop import AgentLoopConfig, MemoryRecallHook, StatefulAgentLoop
from power_loop.contracts.hook_contexts import LlmBeforeCtx
from power_loop.runtime import memory_recall
from power_loop.testing import ScriptedLLM


class Counting:
    """Recalls how often it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def recall(self, *, messages: Sequence[Any], session_id: str, budget_tokens: int = 1500) -> list[Any]:
        self.asked.append(session_id)
        return [{"role": "user", "content": f"asked {len(self.asked)} times"}]

    async def remember(self, *, snapshot: Any, session_id: str) -> None:
        raise ConnectionError("the memory is gone")


async def shown(hook: MemoryRecallHook, session_id: str, run: object) -> str:
    ctx = LlmBeforeCtx(messages=[{"role": "user", "content": "x"}], session_id=session_id, run=run)
    await hook(ctx)
    return str(ctx.standing())


def test_a_place_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="position is 'middle'; it must be 'tail' or 'front'"):
        MemoryRecallHook(Counting(), position="middle")


async def test_of_more_runs_than_it_keeps_those_that_ask_on_are_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_recall, "MOST_RUNS", 2)
    memory = Counting()
    hook = MemoryRecallHook(memory)
    for session_id in ("a", "b", "c"):
        await shown(hook, session_id, 1)
    assert "asked 3 times" in await shown(hook, "c", 1)
    assert "asked 2 times" in await shown(hook, "b", 1)
    assert "asked 4 times" in await shown(hook, "a", 1)
    assert memory.asked == ["a", "b", "c", "a"]


async def test_a_memory_that_fails_while_nobody_listens_fails_no_send(caplog: pytest.LogCaptureFixture) -> None:
    config = AgentLoopConfig(memory=Counting())
    async with StatefulAgentLoop(llm=ScriptedLLM(["yes"]), dsn=":memory:", config=config) as loop:
        assert (await loop.run("go")).status == "completed"
    assert "its memory was not told of a send: ConnectionError('the memory is gone')" in caplog.text
