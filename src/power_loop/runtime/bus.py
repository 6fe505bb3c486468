"""Who listens to what, and how an event reaches them.

Whom an event concerns is looked up without a lock: the tables are replaced as a whole when somebody subscribes.
A listener can neither end nor change a run; in the threaded mode it cannot delay one.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from contextvars import Context, copy_context
from typing import Any, Literal, NamedTuple, get_args

from power_loop.contracts.events import AgentEvent, EventHandler
from power_loop.contracts.log import log
from power_loop.contracts.soon import soon
from power_loop.runtime.bus_thread import Line, Overflow, wake
from power_loop.runtime.cancel import being_cancelled

Dispatch = Literal["inline", "thread"]


class Subscriber:
    """One handler for one type, or for all."""

    __slots__ = ("handler", "is_direct", "loop", "priority", "type")

    handler: EventHandler
    priority: int
    type: str | None

    def __init__(self, heard: str | None, handler: EventHandler, priority: int, inline: bool) -> None:
        self.type, self.handler, self.priority = heard, handler, priority
        called: Any = type(handler).__call__
        self.is_direct: bool = inline or inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(called)
        """Told by whoever publishes, also in the threaded mode."""
        self.loop: asyncio.AbstractEventLoop | None = _running_loop()
        """Where its awaitables run when who publishes has no event loop."""

    @property
    def rank(self) -> tuple[int, bool]:
        """Lower priority first; of equals, those that hear everything."""
        return self.priority, self.type is not None


class Listeners(NamedTuple):
    """Whom events of one type concern, in order."""

    now: tuple[Subscriber, ...] = ()
    queued: tuple[Subscriber, ...] = ()


Queued = tuple[AgentEvent, tuple[Subscriber, ...], Context]
"""What is told whom, in the context of whoever published it: a tracer finds there what the host is doing."""


class AgentEventBus:
    """Tells subscribers of events. May be shared by loops and threads.

    ``sync_dispatch="thread"``: sync handlers run on one worker thread behind a queue of ``queue_maxsize`` events;
    ``on_overflow`` says what gives way when it is full ("block" makes ``publish`` wait). Handlers told inline run in
    the thread that publishes.
    """

    def __init__(
        self,
        *,
        suppress_subscriber_errors: bool = True,
        sync_dispatch: Dispatch = "inline",
        queue_maxsize: int = 1000,
        on_overflow: Overflow = "drop_newest",
    ) -> None:
        _check("sync_dispatch", sync_dispatch, get_args(Dispatch))
        _check("on_overflow", on_overflow, get_args(Overflow))
        if queue_maxsize < 1:
            raise ValueError(f"queue_maxsize is {queue_maxsize}; give a number above 0")
        self.silent: bool = True
        """Nobody listens to anything."""
        self.errors: int = 0
        """How often a subscriber raised."""
        self._raises = not suppress_subscriber_errors
        self._lock = threading.Lock()
        self._subscribers: tuple[Subscriber, ...] = ()
        self._by_type: dict[str, Listeners] = {}
        self._of_all = Listeners()
        self._all_heard = False
        self._reported: list[EventHandler] = []
        self._running: set[asyncio.Task[None]] = set()
        self._line: Line[Queued] | None = None
        if sync_dispatch == "thread":
            self._line = Line(self._tell_queued, queue_maxsize, on_overflow)

    @property
    def dropped(self) -> int:
        """How many events the full (or closed) queue did not take."""
        return self._line.dropped if self._line is not None else 0

    # --- who listens ---------------------------------------------------------------------------

    def subscribe(self, type: str | None, handler: EventHandler, *, priority: int = 0, inline: bool = False) -> None:
        """Have ``handler`` told of events of ``type``, or of all with None; lower ``priority`` first.

        ``inline`` tells a sync handler in the thread that publishes, also in the threaded mode; it had better be quick.
        """
        if not callable(handler):
            raise TypeError(f"a subscriber is called with an event; {handler!r} cannot be called")
        subscriber = Subscriber(None if type is None else str(type), handler, priority, inline)
        with self._lock:
            self._arrange(sorted([*self._subscribers, subscriber], key=lambda each: each.rank))

    def unsubscribe(self, handler: EventHandler) -> None:
        """Tell ``handler`` of nothing any more, whatever it was subscribed to. Unknown handlers are fine."""
        with self._lock:
            self._reported = [each for each in self._reported if each != handler]
            self._arrange([each for each in self._subscribers if each.handler != handler])

    def _arrange(self, subscribers: Iterable[Subscriber]) -> None:
        self._subscribers = tuple(subscribers)
        types = {each.type for each in self._subscribers if each.type is not None}
        self._of_all = self._listeners(None)
        self._all_heard = any(self._of_all)
        self._by_type = {type: self._listeners(type) for type in types}
        self.silent = not self._subscribers

    def _listeners(self, type: str | None) -> Listeners:
        concerned = [each for each in self._subscribers if each.type is None or each.type == type]
        now = tuple(each for each in concerned if self._line is None or each.is_direct)
        return Listeners(now, tuple(each for each in concerned if each not in now))

    def wants(self, type: str) -> bool:
        """Does anybody listen to events of ``type``? Ask before building one."""
        return self._all_heard or type in self._by_type

    # --- telling them ----------------------------------------------------------------------------

    def publish(self, event: AgentEvent) -> None:
        """Tell everyone whom ``event`` concerns. Async handlers start as tasks; `drain` waits for them.

        With ``suppress_subscriber_errors=False`` the first exception of a handler told here is raised, after everyone was told.
        """
        now, queued = self._by_type.get(event.type, self._of_all)
        if queued and self._line is not None:
            self._line.put((event, queued, copy_context()))
        raised: list[BaseException] = []
        self._tell(event, now, raised)
        if raised and self._raises:
            raise raised[0]

    async def publish_async(self, event: AgentEvent) -> None:
        """The same, but async handlers have finished when it returns, and a full queue does not block the event loop."""
        now, queued = self._by_type.get(event.type, self._of_all)
        if queued and self._line is not None:
            told = event, queued, copy_context()
            while not self._line.offer(told):
                await self._line.room()
        raised: list[BaseException] = []
        for subscriber, given in self._awaitables(event, now, raised):
            raised += await self._wait_for(subscriber, given)
        if raised and self._raises:
            raise raised[0]

    def _awaitables(
        self, event: AgentEvent, subscribers: Sequence[Subscriber], raised: list[BaseException]
    ) -> Iterator[tuple[Subscriber, Awaitable[object]]]:
        """Call the handlers in turn, and give what one of them wants awaited before the next is called. Errors go to ``raised``."""
        for subscriber in subscribers:
            try:
                given = subscriber.handler(event)
            except (KeyboardInterrupt, SystemExit):
                raise  # of the host's user: the process is being stopped
            except BaseException as error:  # the host's handler
                raised += self._failed(subscriber, error)
                continue
            if given is not None and inspect.isawaitable(given):
                yield subscriber, given

    def _tell_queued(self, queued: Queued) -> None:
        event, subscribers, context = queued
        context.run(self._tell, event, subscribers, [])

    def _tell(self, event: AgentEvent, subscribers: Sequence[Subscriber], raised: list[BaseException]) -> None:
        for subscriber, given in self._awaitables(event, subscribers, raised):
            self._start(subscriber, given)

    def _failed(self, subscriber: Subscriber, error: BaseException) -> list[BaseException]:
        """Count what a handler raised, and log it the first time. A future that it touched was cancelled: the run is not meant."""
        with self._lock:
            self.errors += 1
            first = subscriber.handler not in self._reported
            if first:
                self._reported.append(subscriber.handler)
        if first:
            log.error("the event subscriber %r raised; later errors of it are only counted", subscriber.handler, exc_info=error)
        return [] if isinstance(error, asyncio.CancelledError) else [error]

    # --- async handlers ----------------------------------------------------------------------------

    def _start(self, subscriber: Subscriber, given: Awaitable[object]) -> None:
        """Run what an async handler returned: here as a task, else where it subscribed, else at once."""
        here = _running_loop()
        if here is not None:
            self._begin(subscriber, given)
        elif subscriber.loop is None or not subscriber.loop.is_running() or not soon(subscriber.loop, self._begin, subscriber, given):
            asyncio.run(_ignoring(self._wait_for(subscriber, given)))

    def _begin(self, subscriber: Subscriber, given: Awaitable[object]) -> None:
        task = asyncio.get_running_loop().create_task(_ignoring(self._wait_for(subscriber, given)))
        # An event loop keeps only weak references to its tasks.
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _wait_for(self, subscriber: Subscriber, given: Awaitable[object]) -> list[BaseException]:
        try:
            await given
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise  # the process is being stopped, or the event loop of this task is gone
        except BaseException as error:  # the host's handler
            if isinstance(error, asyncio.CancelledError) and being_cancelled():
                raise
            return self._failed(subscriber, error)
        return []

    # --- the end -----------------------------------------------------------------------------------

    async def drain(self, timeout: float | None = None) -> bool:
        """Wait until what was published so far has been heard; False when ``timeout`` (seconds) ran out first."""
        try:
            async with asyncio.timeout(timeout):
                while await self._settle():
                    pass
        except TimeoutError:
            return False
        return True

    async def _settle(self) -> bool:
        """Wait for what is under way now; False when nothing was."""
        waited = self._line is not None and await self._line.passed()
        await asyncio.sleep(0)  # what another thread handed to this event loop begins
        others = [task for task in tuple(self._running) if task is not asyncio.current_task() and task.get_loop().is_running()]
        for task in others:
            await _end_of(task)
        return waited or bool(others)

    def shutdown(self, timeout: float = 5.0) -> None:
        """Have the worker thread finish what is queued, for up to ``timeout`` seconds, and end; later events are dropped for it."""
        if self._line is not None:
            self._line.close(timeout)


async def _end_of(task: asyncio.Task[None]) -> None:
    """Wait for a task of this or another event loop; its outcome is not ours."""
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def tell(_: object) -> None:
        wake(over)

    if soon(task.get_loop(), task.add_done_callback, tell):
        await over


async def _ignoring(outcome: Awaitable[object]) -> None:
    await outcome


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _check(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; it may be {' or '.join(repr(each) for each in allowed)}")
