"""The threads that synchronous handlers run in: neither the event loop nor the store ever waits for one."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

Outcome = tuple[Any, BaseException | None]
Late = Callable[[Any, BaseException | None], Coroutine[Any, Any, None]]


class HandlerThreads:
    """A pool that is made when the first handler needs it."""

    def __init__(self, size: int = 32) -> None:
        self._size = size
        self._pool: ThreadPoolExecutor | None = None
        self._late: set[asyncio.Task[None]] = set()

    async def run(self, call: Callable[[], Any], late: Late | None = None) -> Any:
        """What ``call()`` gives or raises, with the caller's context variables.

        Where this is cancelled while ``call`` runs, ``late`` is told what it gives in the end: (value, error).
        """
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._size, "power-loop-tool")
        context = contextvars.copy_context()
        outcome = self._pool.submit(context.run, _caught, call)
        try:
            value, error = await asyncio.wrap_future(outcome)
        except asyncio.CancelledError:
            if late is not None:
                self._tell_late(outcome, late)
            raise
        if error is not None:
            raise error
        return value

    def _tell_late(self, outcome: Future[Outcome], late: Late) -> None:
        """Once ``outcome`` is there; never, where the event loop is gone by then."""
        loop = asyncio.get_running_loop()

        def begin(value: Any, error: BaseException | None) -> None:
            task = loop.create_task(late(value, error))
            self._late.add(task)
            task.add_done_callback(self._late.discard)

        def landed(done: Future[Outcome]) -> None:
            if not done.cancelled():
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(begin, *done.result())

        outcome.add_done_callback(landed)

    async def settle(self) -> None:
        """Wait until what came late in this event loop was told."""
        here = asyncio.get_running_loop()
        if tasks := [task for task in self._late if task.get_loop() is here]:
            await asyncio.wait(tasks)

    def close(self) -> None:
        """Let the idle threads go; one that hangs in a handler is not waited for."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def _caught(call: Callable[[], Any]) -> Outcome:
    # A future cannot carry every exception (StopIteration, say), so it carries a value that holds it.
    try:
        return call(), None
    except BaseException as error:  # the handler's own code
        return None, error
