"""Ctrl-C while a send runs: the first one cancels the send, the second leaves, the third breaks off at once.

Commands that serve others have another way: the first one stops them, a second one breaks off.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import FrameType
from typing import Any, TypeVar

from power_loop.contracts.cancel import CancellationToken

T = TypeVar("T")

LEAVES_AT = 2


def at_first_ctrl_c(stop: Callable[[], object]) -> None:
    """Have ``stop`` called at the first Ctrl-C while this event loop runs; a second one is none of its business."""
    running = asyncio.get_running_loop()

    def heard() -> None:
        running.remove_signal_handler(signal.SIGINT)
        stop()

    with suppress(NotImplementedError):  # Windows: Ctrl-C raises there
        running.add_signal_handler(signal.SIGINT, heard)


class CtrlC:
    """Counts how often Ctrl-C was pressed since the user last typed something. For the main thread only."""

    def __init__(self) -> None:
        self.pressed = 0

    @property
    def leaves(self) -> bool:
        return self.pressed >= LEAVES_AT

    async def guards(self, work: Coroutine[Any, Any, T], token: CancellationToken) -> T:
        """``work``, during which Ctrl-C means ``token``. Raises `CancelledError` when the user will not wait for its end."""
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)

        def heard(number: int, frame: FrameType | None) -> None:
            self.pressed += 1
            if self.pressed < LEAVES_AT:
                token.cancel()
            elif self.pressed == LEAVES_AT:
                # A cancelled task notices it at its next await, and gives the session's lease back.
                loop.call_soon_threadsafe(task.cancel)
            else:
                signal.default_int_handler(number, frame)

        before = signal.signal(signal.SIGINT, heard)
        try:
            return await task
        finally:
            signal.signal(signal.SIGINT, before)
