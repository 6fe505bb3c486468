"""`TimerRunner`: fires the timers of a loop's store, and drives the sessions that they wake, or that a detached workflow woke.

For programs that have no `Worker`, which does the same among other things. What a crash cuts off in the middle of a send
goes on with `resume`, or with a worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Self

from power_loop.worker import Worker

if TYPE_CHECKING:
    from power_loop.loop import StatefulAgentLoop


class TimerRunner:
    """Fires due timers every ``scan_interval_s`` while it runs, and drives up to ``max_concurrency`` sessions side by side.

    Any number of runners and workers, in any number of processes, share the work. Only sessions of the loop's own agent
    name are looked after.
    """

    def __init__(
        self,
        loop: StatefulAgentLoop,
        *,
        scan_interval_s: float = 2.0,
        stale_firing_s: float = 120.0,
        heartbeat_interval_s: float | None = None,
        max_concurrency: int = 8,
    ) -> None:
        """``stale_firing_s`` and ``heartbeat_interval_s`` have no meaning: a firing has no state in between. No I/O happens here."""
        if scan_interval_s <= 0 or max_concurrency < 1:
            raise ValueError(f"scan_interval_s={scan_interval_s!r}, max_concurrency={max_concurrency!r}: both must be positive")
        self._workers = partial(_Timed, loop, concurrency=max_concurrency, recover=False, poll_s=scan_interval_s)
        self._worker = self._workers()
        self._running: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """It was started, and has not ended: by `stop`, or with its loop."""
        return self._running is not None and not self._running.done() and not self._worker.told_to_stop

    def start(self) -> None:
        """Begin, in the running event loop; a second call changes nothing."""
        if not self.running:
            self._worker = self._workers()  # one that was told to stop may have sends in hand yet
            self._running = asyncio.create_task(self._worker.run())

    def stop(self) -> asyncio.Future[None]:
        """Fire nothing more and let the sends in hand end; done when they have."""
        if self._running is None or self._running.cancelled():
            settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            settled.set_result(None)
            return settled
        self._worker.request_stop()
        return self._running

    async def scan_once(self) -> int:
        """Fire what is due now, and drive the sessions that timers have woken until they rest; how many timers fired."""
        return await self._worker.scan_once()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()


class _Timed(Worker):
    """A worker for sessions that something wakes which nobody said."""

    _timed = True
    _tidy_every_s = 0.0  # at each look

    def _heed_sigterm(self) -> Callable[[], object]:
        return lambda: None  # the program around it decides what its signals mean

    @property
    def told_to_stop(self) -> bool:
        return self._stopping

    async def scan_once(self) -> int:
        store = await self._loop.ensure_store()
        fired = await self._fire(store)
        while await self._claim(store, self._concurrency):
            await self._until_idle()
        return fired
