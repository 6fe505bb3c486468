"""The built-in hook that shows the model what a memory recalls, at every request of a run.

The memory is asked once per run, before the first request. What it gives is shown byte for byte the same until the run
is over, behind all that was said (or in front of it), and stored nowhere.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from power_loop.contracts.events import AgentEvent, EventBusProtocol
from power_loop.contracts.hook_contexts import LlmBeforeCtx, MemoryRecalledCtx
from power_loop.contracts.hooks import HookDirective, HookManagerProtocol, HookPoint
from power_loop.contracts.log import log
from power_loop.contracts.memory import RECALL_HOOK, MemoryProvider, tag_as_memory
from power_loop.contracts.messages import Message, estimate_message_tokens, given_by_the_host
from power_loop.contracts.payloads import payload_for
from power_loop.runtime.cancel import failing_when_cancelled_by_itself

# A send waits no longer than this for its memory.
RECALL_TIMEOUT_S = 10.0

# So many runs may be under way at once before the one that began first is asked about again.
MOST_RUNS = 4096


class MemoryRecallHook:
    """A handler for ``llm.before``: ``hooks.register("llm.before", hook, order=100, name=hook.NAME)``."""

    budget_tokens: int

    NAME = RECALL_HOOK

    def __init__(
        self,
        provider: MemoryProvider | None,
        *,
        budget_tokens: int = 1500,
        position: str = "tail",
        hooks: HookManagerProtocol | None = None,
        event_bus: EventBusProtocol | None = None,
        timeout_s: float = RECALL_TIMEOUT_S,
        before: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        """``hooks`` are asked at ``memory.recalled``, ``event_bus`` is told; the memory is asked once ``before(session_id)`` is over."""
        if position not in ("tail", "front"):
            raise ValueError(f"position is {position!r}; it must be 'tail' or 'front'")
        self.provider, self.budget_tokens, self.position = provider, budget_tokens, position
        self._hooks, self._bus, self._timeout_s, self._before = hooks, event_bus, timeout_s, before
        self._lock = threading.Lock()
        self._runs: OrderedDict[str, tuple[Any, list[Message]]] = OrderedDict()
        """Session → (its run, what is shown in it)."""

    def follow(self, provider: MemoryProvider | None, budget_tokens: int, position: str) -> None:
        """From the next run on; None recalls nothing."""
        self.provider, self.budget_tokens, self.position = provider, budget_tokens, position

    async def __call__(self, ctx: LlmBeforeCtx) -> None:
        """Show what is recalled with the request that ``ctx`` is about. A sub-agent has a memory only where its spec inherits one."""
        provider, session_id = self.provider, ctx.session_id or ""
        whose = session_id if ctx.depth == 0 else ctx.memory_of
        if provider is None or whose is None:
            return
        known = self._runs.get(session_id)
        if known is None or known[0] != ctx.run:
            known = (ctx.run, await self._recalled(provider, ctx, whose))
            self._keep(session_id, known)
        if known[1]:
            ctx.show(**{self.position: [dict(message) for message in known[1]]})

    def _keep(self, session_id: str, run: tuple[Any, list[Message]]) -> None:
        with self._lock:
            self._runs[session_id] = run
            self._runs.move_to_end(session_id)
            if len(self._runs) > MOST_RUNS:
                self._runs.popitem(last=False)

    async def _recalled(self, provider: MemoryProvider, ctx: LlmBeforeCtx, session_id: str) -> list[Message]:
        """What this run shows; nothing when the memory fails."""
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._before is not None:
                    await self._before(session_id)
                with failing_when_cancelled_by_itself():
                    given = await provider.recall(messages=ctx.to_read(), session_id=session_id, budget_tokens=self.budget_tokens)
                recalled = tagged(given)
        except Exception as error:  # the memory's own code
            log.warning("session %s: nothing was recalled: %r", session_id, error)
            self._tell(ctx, "memory_failed", phase="recall", error_type=type(error).__name__, error_message=str(error)[:500])
            return []
        shown = self._fitting(await self._allowed(ctx, recalled))
        self._tell(ctx, "memory_recalled", returned=len(recalled), injected=len(shown), budget_tokens=self.budget_tokens)
        return shown

    async def _allowed(self, ctx: LlmBeforeCtx, recalled: list[Message]) -> list[Message]:
        """What the handlers at ``memory.recalled`` leave of it."""
        if self._hooks is None or not self._hooks.stands(HookPoint.MEMORY_RECALLED):
            return recalled
        where: Mapping[str, Any] = {"session_id": ctx.session_id, "send_index": ctx.send_index, "depth": ctx.depth, "scope": ctx.scope}
        asked = MemoryRecalledCtx(recalled=recalled, budget_tokens=self.budget_tokens, round_index=ctx.round_index, **where)
        answered = await self._hooks.run_typed_async(HookPoint.MEMORY_RECALLED, asked)
        if answered.directive == HookDirective.SKIP:
            return []
        return tagged(answered.recalled)

    def _fitting(self, recalled: Sequence[Message]) -> list[Message]:
        """As many as the budget has room for, in their order, and always the first: the rest of the request counts on it."""
        shown: list[Message] = []
        left = self.budget_tokens
        for message in recalled:
            left -= estimate_message_tokens(message)
            if shown and left < 0:
                break
            shown.append(message)
        return shown

    def _tell(self, ctx: LlmBeforeCtx, type: str, **fields: Any) -> None:
        if self._bus is not None:
            where: Mapping[str, Any] = {"round_index": ctx.round_index, "send_index": ctx.send_index, "depth": ctx.depth}
            self._bus.publish(AgentEvent(type, data=payload_for(type, **fields), session_id=ctx.session_id, **where))


def tagged(given: Any) -> list[Message]:
    """``given`` as memory. Raises `TypeError` or `ValueError` for what no request can take."""
    messages: Sequence[Any] = [given] if isinstance(given, (str, Mapping)) else given or ()
    return given_by_the_host([tag_as_memory(message) for message in messages], ("system",))
