"""The threads that synchronous handlers run in: neither the event loop nor the store ever waits for one."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class HandlerThreads:
    """A pool that is made when the first handler needs it."""

    def __init__(self, size: int = 32) -> None:
        self._size = size
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, call: Callable[[], Any]) -> Any:
        """What ``call()`` gives or raises, with the caller's context variables."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._size, "power-loop-tool")
        context = contextvars.copy_context()
        value, error = await asyncio.get_running_loop().run_in_executor(self._pool, lambda: context.run(_caught, call))
        if error is not None:
            raise error
        return value

    def close(self) -> None:
        """Let the idle threads go; one that hangs in a handler is not waited for."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def _caught(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    # A future cannot carry every exception (StopIteration, say), so it carries a value that holds it.
    try:
        return call(), None
    except BaseException as error:  # the handler's own code
        return None, error
