"""One simulated conversation: what its clients said, what they were told, and the loops they speak through."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from power_loop.config import AgentLoopConfig, RunPolicy
from power_loop.contracts.outcome import StatefulResult
from power_loop.contracts.store import RecordRow
from power_loop.loop import StatefulAgentLoop
from power_loop.runtime.hooks import AgentHooks
from power_loop.testing.outside import TOOL_EFFECTS, Model, Outside, registry
from power_loop.testing.world import Process, World

# Short, so that waiting for the end of a lease costs few steps.
LEASE_S = 0.3
HOOK_POINTS = (
    "session.start", "round.start", "round.end", "round.decide", "llm.before", "llm.after", "message.append",
    "tools.batch.before", "tool.before", "tool.after", "tools.batch.after", "complete.decide", "session.end",
)  # fmt: skip


class Talk:
    """One conversation of many clients: what they said, and what they were told."""

    hook_points: list[str]
    model_breaks: bool

    def __init__(self, world: World, hook_points: Iterable[str] = (), *, model_breaks: bool = False) -> None:
        self.world = world
        self.outside: Outside = Outside(world)
        self.sessions: list[str] = []
        self.said: int = 0
        self.acknowledged: dict[str, str] = {}
        """Tag → session, of every word that a caller was told is kept."""
        self.completed: dict[str, StatefulResult] = {}
        """Tag → what its send gave."""
        self.hook_points, self.model_breaks = list(hook_points), model_breaks
        self.agents: dict[str, StatefulAgentLoop] = {}
        """Process → the loop that lives in it."""
        world.story = self
        world.watchers.append(self._left_unheard)

    def word(self) -> tuple[str, str]:
        """The next word: (tag, text)."""
        chance = self.world.chance
        self.said += 1
        tools = [name for name in TOOL_EFFECTS if chance.random() < 0.5] or ["look"]
        rounds, calls = chance.choice((0, 0, 1, 1, 2)), chance.randint(1, 3)
        return f"m{self.said}", f"m{self.said} rounds={rounds} calls={calls} tools={','.join(tools)}"

    def agent(self, process: Process) -> StatefulAgentLoop:
        hooks = AgentHooks()

        def passes(point: str) -> Callable[[Any], Awaitable[None]]:
            async def handler(context: Any) -> None:
                await process.gap(f"hook {point}")

            return handler

        for point in self.hook_points:
            hooks.register(point, passes(point))
        config = AgentLoopConfig(running=RunPolicy(lease_ttl_s=LEASE_S, cancel_grace_s=0.05))
        model = Model(self.outside, process, breaks=self.model_breaks)
        model.loop = process.agent(model, config=config, tool_registry=registry(self.outside, process), hooks=hooks)
        self.agents[process.name] = model.loop
        return model.loop

    def _left_unheard(self, session_id: str, row: RecordRow) -> str | None:
        """A send is completed, and a word that was posted before waits for nobody."""
        if row.cells.kind != "send_ended" or '"completed"' not in (row.cells.body or ""):
            return None
        words = self.world.look(
            "SELECT item_id FROM {p}inbox WHERE session_id = ? AND heard_seq IS NULL AND kind = 'user_said'", session_id
        )
        return f"{session_id}: send {row.send_index} is completed while the words {words} wait" if words else None
