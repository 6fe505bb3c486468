"""How callers of a database learn what became of their work, whatever the engine. The verbs are in `contracts.store`.

Every engine answers through `Settled` futures, from a thread or task of its own, one wake-up of the event loop for
all answers that are ready together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
J = TypeVar("J")

# What is certain after an error, in the words of every engine.
NOT_WRITTEN = "nothing of the batch was written"
NOT_READ = "nothing was read"


class Settled(asyncio.Future[T]):
    """A future that no waiter can cancel.

    `Task.cancel` asks the future that the task waits for; told no, the task is cancelled once the future is done.
    So whoever awaits a write learns its outcome first: after CancelledError, `exception()` is None if it was written.
    """

    __slots__ = ()

    def cancel(self, msg: Any | None = None) -> bool:
        return False


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
    if not answers:
        return
    loop = answers[0].future.get_loop()
    if all(answer.future.get_loop() is loop for answer in answers):
        _wake(loop, answers)
        return
    by_loop: dict[asyncio.AbstractEventLoop, list[Answer]] = {}
    for answer in answers:
        by_loop.setdefault(answer.future.get_loop(), []).append(answer)
    for loop, its_answers in by_loop.items():
        _wake(loop, its_answers)


def _wake(loop: asyncio.AbstractEventLoop, answers: list[Answer]) -> None:
    try:
        loop.call_soon_threadsafe(settle, answers)
    except RuntimeError:
        pass  # the loop was closed meanwhile: nobody is left to tell


def settle(answers: Iterable[Answer]) -> None:
    """Give each future its answer; on the event loop's own thread."""
    for future, value, error in answers:
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)
