"""Having an event loop do something, from any thread, whether or not it is still there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


def soon(loop: asyncio.AbstractEventLoop, act: Callable[..., object], *given: object) -> bool:
    """Have ``loop`` call ``act(*given)``; False where it was closed meanwhile: then nobody waits there any more."""
    try:
        loop.call_soon_threadsafe(act, *given)
    except RuntimeError:
        return False
    return True
