"""The memory of a loop: its hook, and the sends that have ended and are still to be told of.

A send is told of after its result, in a task of its own, one send of a session after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any, Protocol

from power_loop.contracts.events import EventBusProtocol
from power_loop.contracts.log import log
from power_loop.contracts.memory import MemoryProvider, MemorySnapshot
from power_loop.contracts.usage import Usage
from power_loop.runtime.afterwards import Aftermath, finish
from power_loop.runtime.cancel import failing_when_cancelled_by_itself
from power_loop.runtime.hooks import AgentHooks
from power_loop.runtime.memory_recall import MemoryRecallHook
from power_loop.runtime.outcome import final_text
from power_loop.runtime.send import Send
from power_loop.runtime.tell import publish

# A memory that takes longer is told no more of that send.
REMEMBER_TIMEOUT_S = 60.0

# So long a send waits for its memory to take in the one before.
SETTLE_TIMEOUT_S = 5.0


class RecallPolicy(Protocol):
    """How memory is shown; of the configuration."""

    @property
    def budget_tokens(self) -> int: ...

    @property
    def position(self) -> str: ...


class LoopMemory:
    """The memory of one loop. Safe from any thread."""

    def __init__(self, hooks: AgentHooks, bus: EventBusProtocol, *, timeout_s: float = REMEMBER_TIMEOUT_S) -> None:
        self._hooks, self._bus, self._timeout_s = hooks, bus, timeout_s
        self._told: MemoryProvider | None = None
        self._hook: MemoryRecallHook | None = None
        self._lock = threading.Lock()
        self._last: dict[str, Telling] = {}
        """Session → what its memory is told last."""

    def follow(self, told: MemoryProvider | None, recalled: MemoryProvider | None, policy: RecallPolicy) -> None:
        """From the next run on: which memory is told of what ends, and which one the built-in hook asks.

        The hook is put in place once. What a host has put under its name stays, and what it took away stays away.
        """
        self._told = told
        if self._hook is None and recalled is not None:
            self._hook = MemoryRecallHook(recalled, hooks=self._hooks, event_bus=self._bus, before=self.settled)
            if not self._hooks.has(self._hook.NAME):
                self._hooks.register("llm.before", self._hook, order=100, name=self._hook.NAME)
        if self._hook is not None:
            self._hook.follow(recalled, policy.budget_tokens, policy.position)

    def begin(self, send: Send) -> None:
        """Tell the memory of ``send``, if that is over; on its event loop."""
        provider = self._told
        if provider is None or send.terms.depth or not send.session.state.idle:
            return
        with self._lock:
            telling = Telling(provider, send, self._last.get(send.session_id), self._timeout_s)
            self._last[send.session_id] = telling
        telling.start(telling.run(), "memory", lambda: self._forget(telling))

    async def settled(self, session_id: str) -> None:
        """Wait until the memory knows of what the session did before; not long, the next send waits for it."""
        telling = self._last.get(session_id)
        if telling is None:
            await asyncio.sleep(0)  # what other sessions told may at least begin
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_TIMEOUT_S):
                    await telling.wait()

    async def finish(self, timeout_s: float) -> None:
        """Wait for all that is left to be told, then give it up."""
        with self._lock:
            tellings = list(self._last.values())
        await finish(tellings, timeout_s)

    def _forget(self, telling: Telling) -> None:
        with self._lock:
            if self._last.get(telling.session_id) is telling:
                del self._last[telling.session_id]


class Telling(Aftermath):
    """One send that a memory is told of."""

    def __init__(self, provider: MemoryProvider, send: Send, before: Telling | None, timeout_s: float) -> None:
        super().__init__(send.session_id)
        self._provider, self._before, self._timeout_s = provider, before, timeout_s
        self._snapshot, self._bus = snapshot_of(send), send.ports.bus
        self._where: dict[str, Any] = {"send_index": send.send_index, "round_index": send.teller.round_index, "depth": send.terms.depth}

    async def run(self) -> None:
        """Tell it; raises nothing but what cancels the task."""
        try:
            if self._before is not None:
                await self._before.wait()
                self._before = None  # with what it was told of
            async with asyncio.timeout(self._timeout_s):
                with failing_when_cancelled_by_itself():
                    await self._provider.remember(snapshot=self._snapshot, session_id=self.session_id)
        except Exception as error:  # the memory's own code
            log.warning("session %s: its memory was not told of a send: %r", self.session_id, error)
            self._tell_failure(error)

    def _tell_failure(self, error: Exception) -> None:
        if self._bus.wants("memory_failed"):
            told = {"phase": "remember", "error_type": type(error).__name__, "error_message": str(error)[:500]}
            publish(self._bus, "memory_failed", told, session_id=self.session_id, **self._where)


def snapshot_of(send: Send) -> MemorySnapshot:
    """The send as it ended. The messages are copies of the first level; what is in them is shared."""
    state, session_id = send.session.state, send.session_id
    about = {
        "send_index": send.send_index, "send_id": f"{session_id}/{send.send_index}", "tool_calls": state.tool_calls,
        "usage": dict(Usage.of(state.usage)),
    }  # fmt: skip
    messages = [dict(message) for message in send.session.window.messages]
    text = final_text(state.status, state.reason, state.text)
    return MemorySnapshot(session_id, messages, text, send.rounds_here, state.status, about)
