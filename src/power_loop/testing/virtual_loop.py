"""An event loop in which nothing is left to chance: virtual time, one step after the other, and a seed decides whose.

Plain callbacks keep their order, as asyncio's own machinery expects; of the task steps that are ready, the seed
picks the next. There are no threads and no sockets. Steps belong to lives: a dead life's steps are never run, a
stopped one's wait, as the kernel does with processes.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import warnings
from asyncio import Handle, TimerHandle
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

T = TypeVar("T")


class Stuck(AssertionError):
    """Nothing is scheduled although the scenario has not ended, or it has not ended after very many steps."""


class Life:
    """What steps belong to: they end with it, without a last word."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = self.stopped = False
        self.held: list[_Step] = []
        """Steps that became ready while it was stopped."""


LIFE: ContextVar[Life | None] = ContextVar("life", default=None)


class VirtualLoop(asyncio.AbstractEventLoop):
    """Runs tasks as asyncio does, in virtual time. Only what tasks, futures and timers need is there."""

    def __init__(self, seed: int, *, max_steps: int = 200_000) -> None:
        self.chance: random.Random = random.Random(seed)
        self.steps: int = 0
        self._max_steps = max_steps
        self._now = 0.0
        self._ready: deque[_Step] = deque()
        self._timers: list[tuple[float, int, _Timer]] = []
        self._numbered = 0
        self._closed = self._running = False
        self._tasks: list[asyncio.Task[Any]] = []
        self.failures: list[str] = []
        """What a callback raised, or a task that nobody awaited."""

    # --- running -----------------------------------------------------------------------------------

    def run_until_complete(self, future: Coroutine[Any, Any, T]) -> T:  # type: ignore[override]  # coroutines are all that is run here
        """Run until ``future`` is done. Raises `Stuck` when that cannot happen."""
        asyncio._set_running_loop(self)  # "semi-public", as its docstring says: meant for those who write event loops
        self._running = True
        try:
            task = self.create_task(future)
            while not task.done():
                self._step()
            return task.result()
        finally:
            self._running = False
            asyncio._set_running_loop(None)

    def _step(self) -> None:
        self.steps += 1
        if self.steps > self._max_steps:
            raise Stuck(f"not at rest after {self._max_steps} steps")
        self._ring()
        if not self._ready:
            self._sleep()
        step = self._pick()
        if step.cancelled():
            return
        life = step.life
        if life is not None and life.dead:
            return
        if life is not None and life.stopped:
            life.held.append(step)
        else:
            step.run()

    def go_on(self, life: Life) -> None:
        """Run what was held while ``life`` was stopped, in its order."""
        life.stopped = False
        self._ready.extend(life.held)
        life.held.clear()

    def _pick(self) -> _Step:
        """The first that is ready; where it is a task's step, one of all task steps."""
        ready = self._ready
        if len(ready) > 1 and ready[0].is_of_a_task:
            of_tasks = [at for at, step in enumerate(ready) if step.is_of_a_task]
            if len(of_tasks) > 1 and (chosen := self.chance.choice(of_tasks)):
                ready[0], ready[chosen] = ready[chosen], ready[0]
        return ready.popleft()

    def _sleep(self) -> None:
        """Nothing to do until the next timer: be there at once."""
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        if not self._timers:
            raise Stuck("everybody waits and nothing is scheduled")
        self._now = max(self._now, self._timers[0][0])
        self._ring()

    def _ring(self) -> None:
        while self._timers and self._timers[0][0] <= self._now:
            timer = heapq.heappop(self._timers)[2]
            if not timer.cancelled():
                self._ready.append(timer)

    # --- what asyncio asks of a loop -------------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Handle:  # type: ignore[override]  # typed looser than its base
        step = _Step(callback, args, self, context)
        self._ready.append(step)
        return step

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Handle:  # type: ignore[override]  # typed looser than its base
        if self._closed:
            raise RuntimeError("the event loop is closed")
        return self.call_soon(callback, *args, context=context)

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None) -> TimerHandle:  # type: ignore[override]  # typed looser than its base
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None) -> TimerHandle:  # type: ignore[override]  # typed looser than its base
        timer = _Timer(when, callback, args, self, context)
        self._at(when, timer)
        return timer

    def _at(self, when: float, step: Any) -> None:
        self._numbered += 1
        heapq.heappush(self._timers, (when, self._numbered, step))

    def _timer_handle_cancelled(self, handle: TimerHandle) -> None:
        """Asked by asyncio's timers; a cancelled one is skipped when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None, **more: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context, **more)
        # Held until the end: a dead life's coroutines must not be finalised, which would run their `finally`.
        self._tasks.append(task)
        return task

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        raise RuntimeError("there are no threads in a simulation; hand in a port that runs the work in place")

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return self._closed

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.failures.append(f"{context.get('message')}: {context.get('exception')!r}")

    # --- the end ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """End whatever is left. Nothing of it is run on: what was suspended is thrown out, its last words go unheard."""
        self._closed = True
        with warnings.catch_warnings(action="ignore"):
            for task in self._tasks:
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is pending on purpose: its process is gone
                    _throw_out(task.get_coro())
            self._tasks.clear()


class Gone(BaseException):
    """Thrown into what is left when a simulation is over."""


def _throw_out(coroutine: Any) -> None:
    for _ in range(100):
        try:
            coroutine.throw(Gone())
        except BaseException:  # whatever its clean-up runs into: the world that it belonged to is over
            return


class _Step(Handle):
    """A callback that is ready, with the life it belongs to."""

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], loop: VirtualLoop, context: Context | None) -> None:
        context = context if context is not None else copy_context()
        super().__init__(callback, args, loop, context)
        self._work = (callback, args, loop, context)
        self.life = context.get(LIFE)
        self.is_of_a_task = isinstance(getattr(callback, "__self__", None), asyncio.Task)

    def run(self) -> None:
        callback, args, loop, context = self._work
        try:
            context.run(callback, *args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # the scenario's code, in a callback that nobody awaits
            loop.call_exception_handler({"message": f"{callback!r} raised", "exception": error})


class _Timer(TimerHandle, _Step):
    """A callback with its time; built by way of both its bases, in that order."""
