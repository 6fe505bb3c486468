"""The blocking twins of the awaitable verbs: one private event loop on a thread of its own, per loop object."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


class BlockingTwin:
    """Runs coroutines for callers that have no event loop."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, work: Coroutine[Any, Any, T], *, twin: str) -> T:
        """The outcome of ``work``. Raises `RuntimeError` inside a running event loop, naming the awaitable ``twin``."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            work.close()
            raise RuntimeError(f"an event loop is running here: await {twin}() instead")
        future = self._handed_over(work)
        try:
            return future.result()
        except BaseException:  # also what a signal's handler raises here: nobody is left who would hear of the work
            future.cancel()
            raise

    def close(self) -> None:
        """End the thread; what it still runs is cancelled."""
        self._mind_a_fork()
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
            if loop is not None:
                loop.call_soon_threadsafe(loop.stop)
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _mind_a_fork(self) -> None:
        """The parent's thread does not exist in a forked child."""
        if self._pid != os.getpid():
            self._begin()

    def _handed_over(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        self._mind_a_fork()
        with self._lock:  # a loop that ends takes it too, so nothing is handed to one that runs no more
            try:
                return asyncio.run_coroutine_threadsafe(work, self._loop or self._begun())
            except BaseException:
                work.close()
                raise

    def _begun(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._serve, args=(loop,), name="power-loop-sync", daemon=True)
        try:
            thread.start()
        except BaseException:
            loop.close()
            raise
        self._loop, self._thread = loop, thread
        return loop

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            with self._lock:
                if self._loop is loop:  # work ended it, with what ends a program
                    self._loop = self._thread = None
            _wind_up(loop)


def _wind_up(loop: asyncio.AbstractEventLoop) -> None:
    """Whoever still waits is told, though work may once more raise what ends a program."""
    _through(loop, asyncio.sleep(0))  # what was handed over last becomes a task
    while tasks := asyncio.all_tasks(loop):
        for task in tasks:
            task.cancel()
        _through(loop, asyncio.wait(tasks))
    _through(loop, loop.shutdown_asyncgens())
    _through(loop, asyncio.sleep(0))  # what the last of it called for is done
    loop.close()


def _through(loop: asyncio.AbstractEventLoop, step: Coroutine[Any, Any, object]) -> None:
    task = loop.create_task(step)
    while not task.done():
        with suppress(BaseException):  # of somebody's work: the error that ended the loop is the one that counts
            loop.run_until_complete(task)
