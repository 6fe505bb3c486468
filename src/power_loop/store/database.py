"""How callers of a database learn what became of their work, whatever the engine. The verbs are in `contracts.store`.

Every engine answers through `Settled` futures, from a thread or task of its own, one wake-up of the event loop for
all answers that are ready together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from contextvars import Context
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from power_loop.contracts.soon import soon

T = TypeVar("T")
J = TypeVar("J")

# What is certain after an error, in the words of every engine.
NOT_WRITTEN = "nothing of the batch was written"
NOT_READ = "nothing was read"


class Settled(asyncio.Future[T]):
    """A future that no waiter can cancel, and whose first waiter goes on in the very step that settles it.

    `Task.cancel` asks the future that the task waits for; told no, the task is cancelled once the future is done.
    So whoever awaits a write learns its outcome first: after CancelledError, `exception()` is None if it was written.
    """

    __slots__ = ("_first",)

    _first: tuple[Callable[[asyncio.Future[T]], object], Context] | None
    """The task that waits for it; it is no concern of the future below."""

    def cancel(self, msg: Any | None = None) -> bool:
        return False

    def add_done_callback(self, fn: Callable[[asyncio.Future[T]], object], /, *, context: Context | None = None) -> None:
        if context is None or self.done() or hasattr(self, "_first"):
            super().add_done_callback(fn, context=context)
        else:
            self._first = (fn, context)

    def remove_done_callback(self, fn: Callable[[asyncio.Future[T]], object], /) -> int:
        first = getattr(self, "_first", None)
        if first is None or first[0] != fn:
            return super().remove_done_callback(fn)
        self._first = None
        return 1

    def set_result(self, result: T, /) -> None:
        super().set_result(result)
        self._call_first()

    def set_exception(self, exception: type | BaseException, /) -> None:
        super().set_exception(exception)
        self._call_first()

    def _call_first(self) -> None:
        first = getattr(self, "_first", None)
        if first is not None:
            self._first = None
            self.get_loop().call_soon(first[0], self, context=first[1])

    def settle(self, value: T, error: Exception | None) -> None:
        """Give it its outcome, and let the first waiter go on at once: on the event loop's own thread, outside of any task."""
        first, self._first = getattr(self, "_first", None), None
        if error is None:
            super().set_result(value)
        else:
            super().set_exception(error)
        if first is not None:
            callback, context = first
            context.run(callback, self)


class Droppable(Settled[T]):
    """Of work that changes nothing: whoever waits for it may be cancelled at once; an answer that comes later is dropped."""

    __slots__ = ()

    def cancel(self, msg: Any | None = None) -> bool:
        cancelled = super(Settled, self).cancel(msg)  # as any other future
        if cancelled:
            self._call_first()
        return cancelled

    def settle(self, value: T, error: Exception | None) -> None:
        if not self.cancelled():
            super().settle(value, error)


class Answer(NamedTuple):
    """What became of one job; ``error`` None means that ``value`` counts."""

    future: Settled[Any]
    value: Any
    error: Exception | None


def taken_from(jobs: SimpleQueue[J]) -> Iterator[J]:
    """What stands in the queue until nothing does; several may take at once, and each job is one taker's."""
    with suppress(Empty):
        while True:
            yield jobs.get_nowait()


def tell(answers: list[Answer]) -> None:
    """Hand the answers to the event loops that wait for them; from any thread."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Answer]] = {}
    for answer in answers:
        by_loop.setdefault(answer.future.get_loop(), []).append(answer)
    for loop, its_answers in by_loop.items():
        soon(loop, settle, its_answers)


def tell_the_rest(answers: Iterable[Answer]) -> None:
    """As `tell`, after something went wrong: who was told before is passed over, and of two answers the first counts."""
    for answer in answers:
        soon(answer.future.get_loop(), _settle_unless_told, answer)


def _settle_unless_told(answer: Answer) -> None:
    if not answer.future.done():
        answer.future.settle(answer.value, answer.error)


def settle(answers: Sequence[Answer]) -> None:
    """Give each future its answer; on the event loop's own thread."""
    if len(answers) == 1:
        future, value, error = answers[0]
        future.settle(value, error)
    else:
        _settle_in_turn(deque(answers))


def _settle_in_turn(left: deque[Answer]) -> None:
    """Who goes on may run the event loop from within (as notebooks do), or end the program: then the loop tells those left."""
    if len(left) > 1:
        asyncio.get_running_loop().call_soon(_settle_in_turn, left)
    while left:
        future, value, error = left.popleft()
        future.settle(value, error)
