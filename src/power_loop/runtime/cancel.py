"""Cutting off the deed under way.

A stop may be asked for at any time and from any thread. The deed that is waiting outside (a model call, tools)
is cut off by cancelling the task that drives the send, and that cancellation is told apart from one that
comes from the caller: ours ends the send tidily, theirs passes through. A word that steers cuts off a model call
as well, and the send goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar

from power_loop.contracts.cancel import CancellationToken
from power_loop.contracts.records import StopRequested
from power_loop.contracts.soon import soon
from power_loop.contracts.to_end import to_its_end

T = TypeVar("T")

# So often may words interrupt the model in one run; later ones are heard at the next round.
MAX_STEERS = 3


class Cut(Exception):
    """The deed was cut off; the reason is the scope's ``stop``, or a word that steers when there is none."""


class Scope:
    """What may be stopped: one send, at most one deed of it at a time."""

    __slots__ = ("_cancelling", "_cut", "_heard", "_loop", "_steer", "_steers", "_task", "_token", "stop")

    def __init__(self) -> None:
        self.stop: StopRequested | None = None
        self._heard: int | None = None
        """``wake_no`` up to which the model call under way has heard; None while no deed is one."""
        self._steer = self._steers = 0
        """``wake_no`` of the last word that steers; how many calls were cut off."""
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._cut = False
        self._token: CancellationToken | None = None

    @property
    def token(self) -> CancellationToken:
        """For handlers and children: cancelled when the stop is asked for."""
        if self._token is None:
            self._token = CancellationToken()
            if self.stop is not None:
                self._token.cancel(self.stop.reason)
        return self._token

    @property
    def is_cut(self) -> bool:
        """The deed under way is being cut off."""
        return self.stop is not None or self._cut

    def request(self, stop: StopRequested) -> None:
        """Ask for the stop; the first one stands. Safe from any thread."""
        if self.stop is None:
            self.stop = stop
            try:
                if self._token is not None:  # first: a handler that ends by itself keeps its result
                    self._token.cancel(stop.reason)
            finally:
                soon(self._loop, self._cut_off)

    def steer(self, wake_no: int) -> None:
        """Cut off the model call that has not heard the post ``wake_no``, if one is or will be under way. Safe from any thread."""
        soon(self._loop, self._steer_to, wake_no)

    def steerable(self, heard: int) -> Scope:
        """For a model call: with ``wake_no`` up to which it has heard. A word after that cuts it off."""
        self._heard = heard
        return self

    def __enter__(self) -> Scope:
        """Begin a deed. Raises `Cut` when the stop was asked for before."""
        if self.stop is not None or self._steers_away():
            self._heard = None
            raise Cut
        task = asyncio.current_task(self._loop)
        assert task is not None, "a send runs inside a task"
        self._task, self._cut, self._cancelling = task, False, task.cancelling()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        task, self._task, self._heard = self._task, None, None
        cut, self._cut = self._cut, False
        ours = cut and task is not None and task.uncancel() <= self._cancelling
        # Some clients wrap the cancellation in an error of theirs; it was the cut all the same.
        if ours and kind is not None and issubclass(kind, (asyncio.CancelledError, Exception)):
            raise Cut from None

    def _steer_to(self, wake_no: int) -> None:
        self._steer = max(self._steer, wake_no)
        if self._task is not None and not self._cut and self._steers_away():
            self._steers += 1
            self._cut_off()

    def _steers_away(self) -> bool:
        return self._heard is not None and self._steer > self._heard and self._steers < MAX_STEERS

    def _cut_off(self) -> None:
        if self._task is not None and not self._cut:
            self._cut = True
            self._task.cancel()


async def cut_short(work: Coroutine[Any, Any, T], token: CancellationToken) -> asyncio.Task[T]:
    """``work`` as a task that has ended: by itself, or cancelled because ``token`` was. It ends before the caller's own cancel passes."""
    task, stopped, before = asyncio.ensure_future(work), asyncio.ensure_future(token.wait()), _cancels()
    try:
        await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        if not task.done():
            task.cancel()
            await end_of(task)
        elif not task.cancelled():
            task.exception()  # looked at, or asyncio would call it lost where the caller is cancelled in the same moment
    if _cancels() > before:  # while the work was brought to its end
        raise asyncio.CancelledError
    return task


async def end_of(task: asyncio.Task[Any]) -> None:
    """Wait for it, however often the caller is cancelled meanwhile. What it raises on the way is no news to whoever cut it off."""
    await to_its_end(asyncio.wait((task,)))
    if not task.cancelled():
        task.exception()  # it was looked at, or asyncio would call it lost


def being_cancelled() -> bool:
    """Somebody cancelled the running task; else a CancelledError stems from the code that was called."""
    return _cancels() > 0


@contextmanager
def failing_when_cancelled_by_itself(what: str = "it") -> Generator[None]:
    """Around code of the host, which ``what`` names: a `CancelledError` that nobody asked for is its failure, as any other."""
    try:
        yield
    except asyncio.CancelledError as error:
        if being_cancelled():
            raise
        raise RuntimeError(f"{what} cancelled itself") from error


def _cancels() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
