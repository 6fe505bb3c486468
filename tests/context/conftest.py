"""What the tests of folds and projections share: a loop over a store in memory, and a model that says what it is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from power_loop import AgentLoopConfig, LLMRequest, SessionStore, StatefulAgentLoop, open_store
from power_loop.testing import FunctionLLM, say


class Desk:
    """Loops over one store, and a model whose folds and answers are told apart."""

    def __init__(self, store: SessionStore) -> None:
        self.store = store
        self.loops: list[StatefulAgentLoop] = []
        self.requests: list[LLMRequest] = []
        """Of rounds, not of folds."""
        self.folds: list[LLMRequest] = []
        self.summary: Any = "<summary>in short</summary>"
        self.model = FunctionLLM(self._answer)
        self._answers: Callable[[LLMRequest], Any] = lambda _: say("fine")

    def answers(self, answer: Callable[[LLMRequest], Any]) -> None:
        self._answers = answer

    async def _answer(self, request: LLMRequest) -> Any:
        if request.reason == "fold":
            self.folds.append(request)
            summary = self.summary(request) if callable(self.summary) else self.summary
            return await summary if hasattr(summary, "__await__") else summary
        self.requests.append(request)
        return self._answers(request)

    def loop(self, **config: Any) -> StatefulAgentLoop:
        """A new loop; ``tools``, ``hooks`` and ``llm`` go to it, all else to its configuration."""
        parts = {name: config.pop(name) for name in ("tools", "tool_registry", "hooks", "llm", "event_bus") if name in config}
        loop = StatefulAgentLoop(**{"llm": self.model, "store": self.store, **parts}, config=AgentLoopConfig(**config))
        self.loops.append(loop)
        return loop

    async def close(self) -> None:
        for loop in self.loops:
            await loop.aclose()
        await self.store.close()


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    place = Desk(await open_store(":memory:"))
    yield place
    await place.close()
