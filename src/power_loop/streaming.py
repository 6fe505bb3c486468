"""`stream`: the events of one send as an async iterator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from power_loop.contracts.events import AgentEvent, AgentEventType
from power_loop.contracts.outcome import StatefulResult
from power_loop.contracts.soon import soon
from power_loop.runtime.bus import AgentEventBus
from power_loop.runtime.told import event_of

# A consumer that is this far behind is told so by the memory it takes, not by lost events.
END = object()

Leave = Callable[[asyncio.Task[StatefulResult]], None]


class Streams:
    """The streams of one loop; keeps the sends whose consumer left them to themselves."""

    def __init__(self) -> None:
        self._detached: set[asyncio.Task[StatefulResult]] = set()

    async def events_of(
        self,
        work: Coroutine[Any, Any, StatefulResult],
        bus: AgentEventBus,
        session_id: str,
        *,
        is_on: Callable[[], bool],
        leave: Leave,
        detach: bool,
    ) -> AsyncGenerator[AgentEvent]:
        """Drive ``work`` and yield the events of ``session_id`` and its sub-agents, from when ``is_on`` says that its turn has come.

        The last is its ``result``: what is told behind that, of a fold after the send, is heard on the bus.

        When whoever iterates stops early, ``leave(task)`` stops the send, unless ``detach``. What ``work`` raises is raised here.
        """
        loop, queue, began, told = asyncio.get_running_loop(), asyncio.Queue[Any](), False, False
        family: set[str | None] = {session_id}

        def hear(event: AgentEvent) -> None:
            nonlocal began
            if event.session_id in family and (began := began or is_on()):
                if event.type == AgentEventType.SUBAGENT_TASK_START:
                    family.add(event.payload["sub_session_id"])
                soon(loop, queue.put_nowait, event)

        bus.subscribe(None, hear, inline=True)
        task = asyncio.create_task(work)
        task.add_done_callback(lambda _: soon(loop, queue.put_nowait, END))
        try:
            while (event := await queue.get()) is not END:
                if told:  # by a fold, say
                    continue
                told = event.type == AgentEventType.RESULT and event.session_id == session_id
                yield event
            result = await task
            if not told:  # nothing ran: the outcome was there already
                yield event_of("result", {"result": result}, session_id=session_id)
        finally:
            bus.unsubscribe(hear)
            if not task.done():
                await self._part(task, None if detach else leave)

    async def _part(self, task: asyncio.Task[StatefulResult], leave: Leave | None) -> None:
        """The consumer left: the send is stopped and waited for, or goes on by itself."""
        self._detached.add(task)
        task.add_done_callback(self._forget)
        if leave is not None:
            leave(task)
            # Not `gather`: web frameworks cancel whoever waits again and again, and that must not cut off a send that is ending tidily.
            await asyncio.wait([task])

    def _forget(self, task: asyncio.Task[StatefulResult]) -> None:
        self._detached.discard(task)
        if not task.cancelled():
            task.exception()  # told by the events; nobody is left to raise it to
