"""`stream`: the events of one send as an async iterator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from power_loop.contracts.events import AgentEvent
from power_loop.contracts.outcome import StatefulResult
from power_loop.runtime.bus import AgentEventBus

# A consumer that is this far behind is told so by the memory it takes, not by lost events.
END = object()


async def events_of(
    work: Coroutine[Any, Any, StatefulResult], bus: AgentEventBus, session_id: str, *, leave: Any, detach: bool
) -> AsyncIterator[AgentEvent]:
    """Drive ``work`` and yield the events of ``session_id``, ``result`` last.

    Whoever stops iterating early has ``leave()`` awaited, unless ``detach``. What ``work`` raises is raised here.
    """
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[Any]()

    def hear(event: AgentEvent) -> None:
        if event.session_id == session_id:
            loop.call_soon_threadsafe(queue.put_nowait, event)

    bus.subscribe(None, hear, inline=True)
    task = asyncio.create_task(work)
    task.add_done_callback(lambda _: loop.call_soon_threadsafe(queue.put_nowait, END))
    try:
        while (event := await queue.get()) is not END:
            yield event
        await task
    finally:
        bus.unsubscribe(hear)
        if not task.done() and not detach:
            await leave()
            await asyncio.gather(task, return_exceptions=True)
