"""Work that a cancel must not cut off in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """``work``, however often the caller is cancelled meanwhile: for what gives back, on the way out of a cancel or an error."""
    task = asyncio.create_task(work)
    await _over(task)  # a cancel is on its way already
    return task.result()


async def unhurried(work: Coroutine[Any, Any, T]) -> T:
    """``work`` to its end, however often the caller is cancelled meanwhile; then the cancel passes through."""
    task = asyncio.create_task(work)
    cancelled = await _over(task)
    value = task.result()
    if cancelled is not None:
        raise cancelled
    return value


async def _over(task: asyncio.Task[Any]) -> asyncio.CancelledError | None:
    """Wait until it has ended. The last cancel that came meanwhile."""
    cancelled = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = error
    return cancelled
