"""`watch`: the events of a session from any process, live and durable at once.

Durable events are read from the records, always: so they are the same for every reader, gapless and without
repeats, wherever it was cut off and goes on. What passes (deltas, progress) is told by the bus where the send runs in
this process, and comes in its place between them; of sends elsewhere the text in hand is shown where their loop
shares it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing
from typing import Any

from power_loop.contracts.errors import PowerLoopError, SessionNotFoundError, StoreUnavailable
from power_loop.contracts.events import AgentEvent
from power_loop.contracts.soon import soon
from power_loop.contracts.store import RecordRow
from power_loop.contracts.watch import PassingText, Watched, WatchedLog
from power_loop.runtime.bus import AgentEventBus
from power_loop.runtime.elsewhere import Elsewhere
from power_loop.runtime.passing import nap
from power_loop.runtime.retell import END, Place, Retelling, cursor_of, place_of
from power_loop.runtime.told import event_of

# Other processes are looked at this often after something happened, then less and less often.
FIRST_POLL_S, LAST_POLL_S = 0.02, 1.0
# Rows that are read, and held, at a time.
PAGE = 256
# A reader that is further behind loses the oldest of what passes; records are never lost.
PASSING_LIMIT = 10_000

# Told by records. Where a run could not write its end, the bus speaks of an end that no record tells of.
ENDS = ("session_ended", "result")


Pages = Callable[..., Awaitable[list[RecordRow]]]
"""`WatchedLog.added`, or what shares its answers."""


class Watching:
    """The watchers of one loop: one look at the database, and one ear at the bus, for all of them."""

    def __init__(self, bus: AgentEventBus, output_in: Callable[[str, Mapping[str, Any]], Any] | None = None) -> None:
        self._output_in = output_in
        self._bus = bus
        self._readers: dict[str, tuple[Reader, ...]] = {}
        """Its tuples are replaced as a whole: the bus reads them from other threads."""
        self._lookouts: dict[asyncio.AbstractEventLoop, Lookout] = {}
        self._lock = threading.Lock()
        self._pid = os.getpid()

    async def events(
        self, log: WatchedLog, session_id: str, holder: str, *, after: int | str = 0, follow: bool = True
    ) -> AsyncGenerator[AgentEvent]:
        """The events after the cursor ``after``; with ``follow`` then what comes, until the session is deleted or the loop closes.

        What ``holder`` drives, the bus tells.
        Raises `SessionNotFoundError`, `StoreUnavailable`, and `ValueError` for a cursor that the session does not have.
        """
        place = place_of(after)
        reader = Reader(log, session_id, Retelling(session_id, place, self._output_in), holder)
        # Before anything is read: a send that begins meanwhile is heard from its first word.
        lookout = self._enter(reader, log) if follow else None
        try:
            async with aclosing(reader.all() if follow else reader.to_the_head()) as events:
                async for event in events:
                    yield event
        finally:
            if lookout is not None:
                self._leave(reader, lookout)

    def close(self) -> None:
        """End every watch, once it has given what is there. From any thread."""
        for readers in list(self._readers.values()):
            for reader in readers:
                reader.call(reader.close)

    def _enter(self, reader: Reader, log: WatchedLog) -> Lookout:
        with self._lock:
            if not self._readers:
                self._bus.subscribe(None, self._hear, inline=True)
            self._readers[reader.session_id] = (*self._readers.get(reader.session_id, ()), reader)
            lookout = self._lookouts.get(reader.loop)
            if lookout is None or lookout.is_over:
                self._lookouts[reader.loop] = lookout = Lookout(log, reader.loop)
            lookout.join(reader)
        return lookout

    def _leave(self, reader: Reader, lookout: Lookout) -> None:
        with self._lock:
            left = tuple(each for each in self._readers[reader.session_id] if each is not reader)
            self._readers[reader.session_id] = left
            if not left:
                del self._readers[reader.session_id]
            if not self._readers:
                self._bus.unsubscribe(self._hear)
            if lookout.leave(reader) and self._lookouts.get(reader.loop) is lookout:
                del self._lookouts[reader.loop]

    def _hear(self, event: AgentEvent) -> None:
        if self._pid != os.getpid():
            return  # a forked child: the readers are its parent's, and so is what wakes their event loops
        for reader in self._readers.get(event.session_id or "", ()):
            if reader.thread == threading.get_ident():
                reader.hear(event)
            else:
                reader.call(reader.hear, event)


class Reader:
    """One watch: how far it is, and what waits to be given."""

    loop: asyncio.AbstractEventLoop
    thread: int

    def __init__(self, log: WatchedLog, session_id: str, retelling: Retelling, holder: str) -> None:
        self.session_id = session_id
        self._log, self._retelling, self._holder = log, retelling, holder
        self.loop, self.thread = asyncio.get_running_loop(), threading.get_ident()
        self.pages: Pages = log.added
        """Where rows are read."""
        self._news = asyncio.Event()
        self._until = 0
        """Records up to this one are there."""
        self._passing: deque[AgentEvent] = deque(maxlen=PASSING_LIMIT)
        self._created_at: int | None = None
        self._driver: str | None = None
        """Who drives the session."""
        self._text_seen: int = 0
        self._text_given: int = 0
        self._elsewhere = Elsewhere()
        self._gone = self._closed = False
        self._failed: PowerLoopError | None = None

    # --- what others tell it ------------------------------------------------------------------

    def call(self, tell: Callable[..., None], *told: object) -> None:
        """Tell it something from any thread."""
        soon(self.loop, tell, *told)

    def hear(self, event: AgentEvent) -> None:
        """The bus told something of the session."""
        self._passing.append(event)
        self._news.set()

    def reaches(self, head: int) -> None:
        """The records up to ``head`` are there."""
        if head > self._until:
            self._until = head
            self._news.set()

    def sees(self, watched: Watched | None) -> bool:
        """How far the session is, None when it does not exist; whether that is news."""
        if watched is None or self._created_at not in (None, watched.created_at):
            self._gone = True
            self._news.set()
            return True
        is_news = watched.head > self._until or watched.text != self._text_seen
        self._created_at, self._driver, self._text_seen = watched.created_at, watched.holder, watched.text
        self._until = max(self._until, watched.head)
        if is_news:
            self._news.set()
        return is_news

    def fails(self, error: PowerLoopError) -> None:
        self._failed = error
        self._news.set()

    def close(self) -> None:
        self._closed = True
        self._news.set()

    # --- what it gives -------------------------------------------------------------------------

    async def to_the_head(self) -> AsyncGenerator[AgentEvent]:
        """Everything up to the head as it is now."""
        await self._find_place()
        while rows := await self._page():
            for row in rows:
                for event in self._of(row):
                    yield event

    async def all(self) -> AsyncGenerator[AgentEvent]:
        """Everything up to the head, then what comes, until there is nothing to come."""
        await self._find_place()
        while True:
            self._news.clear()
            for row in await self._page():
                for event in self._of(row):
                    yield event
            for event in self._passed((self._retelling.through + 1, -1)):
                yield event
            for event in await self._text():
                yield event
            if self._failed is not None and not self._closed:
                raise self._failed
            if self._gone:
                return
            if self._until <= self._retelling.through:
                if self._closed:
                    return
                await self._news.wait()

    async def _find_place(self) -> None:
        """Read up to where the last reader stood: what follows may tell of what came before. Raises as `Watching.events`."""
        self._retelling.depth = await self._log.spawn_depth(self.session_id)
        seen = await self._log.watched([self.session_id])
        if not seen:
            raise SessionNotFoundError(self.session_id)
        seq, _ = self._retelling.at
        if seq > seen[0].head:
            raise ValueError(f"session {self.session_id!r} has {seen[0].head} records; it has no cursor {cursor_of(self._retelling.at)}")
        self.sees(seen[0])
        if seq > 0:
            self._retelling.through = await self._log.send_begins(self.session_id, seq) - 1

    async def _page(self) -> list[RecordRow]:
        """Some of the rows that are there and were not read yet."""
        after, through = self._retelling.through, self._until
        if self._gone or through <= after:
            return []
        try:
            rows = await self.pages(self.session_id, after=after, through=through, limit=PAGE)
        except StoreUnavailable:
            if not self._closed:
                raise
            rows = []  # the store was closed with the loop; the reader goes on elsewhere
        self._gone = not rows
        return rows

    def _of(self, row: RecordRow) -> Iterator[AgentEvent]:
        for place, event in self._retelling.events(row):
            for passed in self._passed(place):
                yield passed
            for passed in self._elsewhere.ended_by(row):
                yield self._passing_event(*passed)
            self._retelling.at = place
            yield event

    def _passed(self, before: Place) -> Iterator[AgentEvent]:
        """What passed before the record event at ``before``, as far as it still fits behind what was given."""
        while self._passing:
            event = self._passing[0]
            place = place_of(event.cursor or 0)
            if place >= before:
                self._until = max(self._until, place[0])
                return
            self._passing.popleft()
            if event.record_seq is None and event.type not in ENDS and place >= self._retelling.at:
                yield _at(self._retelling.at, event)

    # --- the text of sends elsewhere -------------------------------------------------------------

    async def _text(self) -> list[AgentEvent]:
        """What is new of the text that another process writes."""
        if self._text_seen == self._text_given or self._gone or self._closed:
            return []
        seen, text = self._text_seen, await self._log.passing_text(self.session_id)
        # Told by the bus; or left behind by somebody who is gone; or its record is there by now.
        if text is not None and (text.holder == self._holder or text.holder != self._driver or self._has_passed(text)):
            text = None
        if text is not None and text.after > self._retelling.through:
            self._until = max(self._until, text.after)
            return []
        self._text_given = seen
        return [self._passing_event(*passed) for passed in self._elsewhere.shows(text)]

    def _has_passed(self, text: PassingText) -> bool:
        return (text.after, END) < self._retelling.at

    def _passing_event(self, type: str, fields: dict[str, object], text: PassingText) -> AgentEvent:
        return event_of(
            type, fields, session_id=self.session_id, round_index=text.round_index, stream_id="main", send_index=text.send_index,
            cursor=cursor_of(self._retelling.at),
        )  # fmt: skip


def _at(place: Place, event: AgentEvent) -> AgentEvent:
    """The event with the cursor of what this reader had before it; others hear the one that is on the bus."""
    return AgentEvent(
        event.type, None if event.data is not None else event.payload, event.data, event.session_id, event.round_index, event.stream_id,
        event.source, event.ts, event.seq, event.mono, event.send_index, event.depth, None, cursor_of(place),
    )  # fmt: skip


class Lookout:
    """Looks at the database for all readers of one event loop: seldom and cheaply while nothing happens."""

    def __init__(self, log: WatchedLog, loop: asyncio.AbstractEventLoop) -> None:
        self._log, self._loop = log, loop
        self._readers: dict[str, list[Reader]] = {}
        self._woken = asyncio.Event()
        self._version: object = None
        self._pid = os.getpid()
        self._reading: dict[tuple[str, int, int], asyncio.Task[list[RecordRow]]] = {}
        self._stop_hearing = log.on_append(self._heard)
        self._task = loop.create_task(self._look_on())

    @property
    def is_over(self) -> bool:
        """It has failed, and told so; who comes now needs another."""
        return self._task.done()

    def join(self, reader: Reader) -> None:
        self._readers.setdefault(reader.session_id, []).append(reader)
        reader.pages = self._pages

    def leave(self, reader: Reader) -> bool:
        """True when nobody is left, and with them the task has ended."""
        readers = self._readers[reader.session_id]
        readers.remove(reader)
        if not readers:
            del self._readers[reader.session_id]
        if self._readers:
            return False
        self._stop_hearing()
        self._task.cancel()
        return True

    def _heard(self, session_id: str, head: int | None) -> None:
        """Somebody committed to a session; from any thread."""
        if session_id in self._readers and self._pid == os.getpid():
            soon(self._loop, self._wake, session_id, head)

    def _wake(self, session_id: str, head: int | None) -> None:
        if head is None:
            self._woken.set()
            return
        for reader in self._readers.get(session_id, ()):
            reader.reaches(head)

    async def _pages(self, session_id: str, *, after: int, through: int, limit: int) -> list[RecordRow]:
        """See `WatchedLog.added`; those who ask for the same at the same time share one look."""
        key = session_id, after, through
        reading = self._reading.get(key)
        if reading is None:
            asking = self._log.added(session_id, after=after, through=through, limit=limit)
            self._reading[key] = reading = self._loop.create_task(asking)
            reading.add_done_callback(lambda done: self._was_read(key, done))
        return await asyncio.shield(reading)

    def _was_read(self, key: tuple[str, int, int], reading: asyncio.Task[list[RecordRow]]) -> None:
        del self._reading[key]
        if not reading.cancelled():
            reading.exception()  # told to those who still wait; perhaps nobody does

    async def _look_on(self) -> None:
        wait_s = FIRST_POLL_S
        try:
            while True:
                wait_s = FIRST_POLL_S if await self._look() else min(2 * wait_s, LAST_POLL_S)
                await nap(self._log.clock, wait_s, self._woken)
        except PowerLoopError as error:
            for readers in self._readers.values():
                for reader in readers:
                    reader.fails(error)

    async def _look(self) -> bool:
        """Tell the readers what happened to their sessions; whether there was anything."""
        woken = self._woken.is_set()
        self._woken.clear()
        version = await self._log.database_version()
        if version is not None and version == self._version and not woken:
            return False
        self._version = version
        ids = list(self._readers)
        found = {each.session_id: each for each in await self._log.watched(ids)}
        news = [reader.sees(found.get(session_id)) for session_id in ids for reader in self._readers.get(session_id, ())]
        return any(news)
