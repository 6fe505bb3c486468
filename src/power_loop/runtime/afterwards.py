"""What a loop still does for a session once the result of a send is handed out: a task of its own, that others may wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from typing import Any

from power_loop.contracts.soon import soon


class Aftermath:
    """One such task, on the event loop of its send. Others may look at it, and wait for it, from any thread."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.done: Future[None] = Future()
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    def start(self, work: Coroutine[Any, Any, None], name: str, forget: Callable[[], None]) -> None:
        """``forget`` is called once it is over, also where a cancel came before its first step."""

        def over(_: object) -> None:
            forget()
            if not self.done.done():
                self.done.set_result(None)

        self._task = self._loop.create_task(work, name=f"{name} of {self.session_id}")
        self._task.add_done_callback(over)

    @property
    def goes_on(self) -> bool:
        """It will be done some day; not so when its event loop was closed under it."""
        return not (self.done.done() or self._loop.is_closed())

    async def wait(self) -> None:
        """Wait until it is done, or will never be."""
        if self.goes_on:
            await asyncio.wait([asyncio.wrap_future(self.done)])

    def cancel(self) -> None:
        """Give it up, from any thread."""
        if self._task is not None:
            soon(self._loop, self._task.cancel)


async def finish(tasks: Iterable[Aftermath], timeout_s: float) -> None:
    """Wait for all of them, then cancel those that are left."""
    awaited = {asyncio.wrap_future(task.done): task for task in tasks if task.goes_on}
    if not awaited:
        return
    _, left = await asyncio.wait(awaited, timeout=timeout_s)
    for waiting in left:
        awaited[waiting].cancel()
    if left:
        await asyncio.wait(left, timeout=timeout_s)
