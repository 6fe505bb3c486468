"""The threads that synchronous handlers run in: neither the event loop nor the store ever waits for one.

They are daemons, so one that hangs keeps no interpreter from its end. They know the queue and not the pool: a pool that
nobody closes lets them go when it is collected.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from power_loop.contracts.soon import soon
from power_loop.runtime.cancel import failing_when_cancelled_by_itself

Outcome = tuple[Any, BaseException | None]
Late = Callable[[Any, BaseException | None], Coroutine[Any, Any, None]]


class Work(NamedTuple):
    """A call on its way to a thread and back."""

    call: Callable[[], Any]
    context: contextvars.Context
    loop: asyncio.AbstractEventLoop
    outcome: asyncio.Future[Outcome]
    late: Callable[[Any, BaseException | None], None] | None

    def land(self, outcome: Outcome) -> None:
        """Tell whoever waits in the event loop, in which this is called."""
        if not self.outcome.cancelled():
            self.outcome.set_result(outcome)
        elif self.late is not None:
            self.late(*outcome)


Queue = SimpleQueue[Work | None]


class HandlerThreads:
    """At most ``size`` threads. One is made when a call comes and none is idle."""

    def __init__(self, size: int = 32) -> None:
        self._size, self._made = size, 0
        self._making = threading.Lock()
        self._queue: Queue = SimpleQueue()
        self._idle: deque[None] = deque()
        """One for each thread that waits for work which is not on its way to it already."""
        self._closed = False
        self._late: set[asyncio.Task[None]] = set()

    async def run(self, call: Callable[[], Any], late: Late | None = None) -> Any:
        """What ``call()`` gives or raises, with the caller's context variables.

        Where this is cancelled while ``call`` runs, ``late`` is told what it gives in the end: (value, error). A call
        that no thread has begun by then is not begun. Raises `RuntimeError` when no thread can be had; ``call`` is not run then.
        """
        loop = asyncio.get_running_loop()
        missed = partial(self._begin, late) if late is not None else None
        work = Work(call, contextvars.copy_context(), loop, loop.create_future(), missed)
        self._hand_over(work)
        try:
            value, error = await work.outcome
        except asyncio.CancelledError:
            if missed is not None and not work.outcome.cancelled():  # it landed in the same moment
                missed(*work.outcome.result())
            raise
        if error is not None:
            raise error
        return value

    async def ask(self, function: Callable[..., Any], *given: Any) -> Any:
        """What a function of the host says; a synchronous one is asked in a thread. One that cancels itself has failed."""
        with failing_when_cancelled_by_itself():
            if inspect.iscoroutinefunction(function):
                return await function(*given)
            value = await self.run(lambda: function(*given))
            return await value if inspect.isawaitable(value) else value

    def _hand_over(self, work: Work) -> None:
        # Nothing is queued before somebody is there to take it: what was reported as failed must not be run later on.
        self._find_thread()
        self._queue.put(work)
        if self._closed:
            self._turn_away()

    def _find_thread(self) -> None:
        """One that is idle, or a new one, or, where all are made, whichever is done first. Raises `RuntimeError`."""
        if self._closed:
            raise RuntimeError("the loop was closed: no handler is run any more")
        try:
            self._idle.pop()
        except IndexError:
            with self._making:
                if self._made < self._size:
                    name = f"power-loop-tool_{self._made}"
                    threading.Thread(target=_serve, args=(self._queue, self._idle), name=name, daemon=True).start()
                    self._made += 1

    def _begin(self, late: Late, value: Any, error: BaseException | None) -> None:
        task = asyncio.get_running_loop().create_task(late(value, error))
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def settle(self) -> None:
        """Wait until what came late in this event loop was told."""
        here = asyncio.get_running_loop()
        if tasks := [task for task in self._late if task.get_loop() is here]:
            await asyncio.wait(tasks)

    def close(self) -> None:
        """Let the idle threads go; one that hangs in a handler is not waited for. Who waits for a thread is cancelled."""
        self._closed = True
        self._turn_away()

    def _turn_away(self) -> None:
        with suppress(Empty):
            while True:
                if (work := self._queue.get_nowait()) is not None:
                    soon(work.loop, work.outcome.cancel)
        self._queue.put(None)

    def __del__(self) -> None:
        # Nothing here may take a lock: this is called wherever the collector strikes, and in forked children.
        self._queue.put(None)


def _serve(queue: Queue, idle: deque[None]) -> None:
    while (work := queue.get()) is not None:
        outcome = None if work.outcome.cancelled() else work.context.run(_caught, work.call)
        # Idle before it is told: whoever hears of it may have the next call at once.
        idle.append(None)
        if outcome is not None:
            soon(work.loop, work.land, outcome)
        del work, outcome  # what they hold is not kept until the next one comes
    queue.put(None)  # for the next thread


def _caught(call: Callable[[], Any]) -> Outcome:
    # A future cannot carry every exception (StopIteration, say), so it carries a value that holds it.
    try:
        return call(), None
    except BaseException as error:  # the handler's own code
        return None, error
