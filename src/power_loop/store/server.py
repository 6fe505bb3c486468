"""A database server behind the two verbs: a few connections on an event loop and thread of their own.

So callers may come from any event loop and thread, a task that is cancelled cuts no statement off, and a busy or
closed event loop of a caller stops nothing. Who is cancelled in a read waits for no server: the line that reads
goes on without it. What a connection says to its server is the engine's own file.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

from power_loop.contracts.errors import StoreUnavailable
from power_loop.contracts.forks import mind_forks
from power_loop.contracts.soon import soon
from power_loop.contracts.store import Batch, Row
from power_loop.contracts.text import findable
from power_loop.store.database import Answer, Droppable, Settled, settle, taken_from, tell

# Connections that nobody needed for this long are closed: servers and firewalls forget idle ones without a word.
IDLE_S = 60.0


class Line(Protocol):
    """One connection to the server, made when it is first needed and again after it was lost."""

    async def read(self, sql: str, params: Sequence[Any]) -> list[Row]: ...

    async def write(self, batch: Batch) -> None: ...

    async def close(self) -> None:
        """Hang up, politely where that is possible. Never raises; the line may be used again."""
        ...


class Read(NamedTuple):
    future: Droppable[list[Row]]
    """Cancelled when nobody wants to know any more."""
    sql: str
    params: Sequence[Any]


class Write(NamedTuple):
    future: Settled[None]
    batch: Batch


class Close(NamedTuple):
    future: Settled[None] | None
    """None when nobody is left to be told."""


Job = Read | Write | Close


class ServerDatabase:
    """The port, for engines that give it lines. Nothing is connected before the first verb."""

    def __init__(self, place: str, new_line: Callable[[], Line], most_lines: int) -> None:
        self._place, self._new_line, self._most_lines = place, new_line, most_lines
        self._office: Office | None = None
        self._closed = False
        self._starting = threading.Lock()
        self._written_by: WeakKeyDictionary[asyncio.Task[Any], list[Settled[None]]] = WeakKeyDictionary()
        mind_forks(
            self,
            before=ServerDatabase.before_fork,
            in_parent=ServerDatabase.after_fork_in_parent,
            in_child=ServerDatabase.after_fork_in_child,
        )

    # --- the port ---------------------------------------------------------------------------------

    def read(self, sql: str, params: Sequence[Any] = ()) -> Droppable[list[Row]]:
        """See `Database.read`. It sees what its own task submitted before, also where that was not awaited."""
        future: Droppable[list[Row]] = Droppable(loop=asyncio.get_running_loop())
        job, task = Read(future, sql, findable(params)), asyncio.current_task()
        if task is not None and (unfinished := [write for write in self._written_by.get(task, ()) if not write.done()]):
            self._submit_after(unfinished, job)
        else:
            self._submit(job)
        return future

    def write(self, batch: Batch) -> Settled[None]:
        """See `Database.write`. What is submitted is written, whether or not anybody awaits the future."""
        future: Settled[None] = Settled(loop=asyncio.get_running_loop())
        if (task := asyncio.current_task()) is not None:
            self._written_by[task] = [future, *(write for write in self._written_by.get(task, ()) if not write.done())]
        self._submit(Write(future, batch))
        return future

    async def close(self) -> None:
        """Finish what was submitted, then hang up."""
        self._closed = True
        office = self._office
        if office is not None and not office.ended:
            future: Settled[None] = Settled(loop=asyncio.get_running_loop())
            office.put(Close(future))
            await future
            office.thread.join()

    def __del__(self) -> None:
        # Whoever forgot to close it gets the thread back all the same; what was submitted is written.
        if getattr(self, "_office", None) is not None and self._office is not None:
            self._office.put(Close(None))

    # --- the office ----------------------------------------------------------------------------------

    def _submit(self, job: Read | Write) -> None:
        office = self._office or self._start()
        if office is None or self._closed:
            job.future.set_exception(StoreUnavailable(f"{self._place}: it is closed; open it anew"))
        else:
            office.put(job)

    def _submit_after(self, writes: list[Settled[None]], job: Read) -> None:
        """Lines know nothing of each other, so the order of two jobs is kept here."""
        left = len(writes)

        def one_less(_: asyncio.Future[None]) -> None:
            nonlocal left
            left -= 1
            if not left and not job.future.cancelled():
                self._submit(job)

        for write in writes:
            write.add_done_callback(one_less)

    def _start(self) -> Office | None:
        with self._starting:
            if self._office is None and not self._closed:
                self._office = Office(self._place, self._new_line, self._most_lines)
            return self._office

    # --- forks -----------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        self._starting.acquire()  # so that no thread is being started while the process is doubled

    def after_fork_in_parent(self) -> None:
        self._starting.release()

    def after_fork_in_child(self) -> Office | None:
        """The parent's thread does not exist here: begin anew. What it had is given back, to be kept and never touched.

        A child shares its parent's sockets and epoll object: to free what stands on them would unhook the parent's.
        """
        self._starting = threading.Lock()
        office, self._office = self._office, None
        return office


class Office:
    """The thread: it hands the jobs out, oldest first, to as many lines as there is work for. It answers every job."""

    def __init__(self, place: str, new_line: Callable[[], Line], most_lines: int) -> None:
        self.ended: bool = False
        """Set before the queue is emptied for the last time: who puts a job and then sees it must turn it away."""
        self._place, self._new_line, self._most_lines = place, new_line, most_lines
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._called = False
        """Somebody has told the thread to look at the queue, and it has not yet."""
        self._outboxes: WeakKeyDictionary[asyncio.AbstractEventLoop, Outbox] = WeakKeyDictionary()
        self._waiting: deque[Read | Write] = deque()
        self._idle: list[tuple[Line, float]] = []
        self._busy: set[asyncio.Task[None]] = set()
        self._closing: list[Settled[None]] | None = None
        self._pruning: asyncio.TimerHandle | None = None
        self._loop = asyncio.new_event_loop()
        self._done = asyncio.Event()
        self.thread: threading.Thread = threading.Thread(target=self._run, name="power-loop-server", daemon=True)
        self.thread.start()

    def put(self, job: Job) -> None:
        """From any thread."""
        self._jobs.put(job)
        if not self._called:
            self._called = True
            soon(self._loop, self._take)  # that it was closed meanwhile is seen below
        if self.ended:
            self._turn_away()

    def _turn_away(self) -> None:
        answers: list[Answer] = []
        for job in taken_from(self._jobs):
            if not isinstance(job, Close):
                closed = StoreUnavailable(f"{self._place}: it is closed; nothing was read or written")
                answers.append(Answer(job.future, None, closed))
            elif job.future is not None:
                answers.append(Answer(job.future, None, None))
        tell(answers)

    # --- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._done.wait())
            self._loop.run_until_complete(self._hang_up())
        finally:
            self.ended = True
            self._loop.close()
            self._turn_away()
            tell([Answer(future, None, None) for future in self._closing or ()])

    def _take(self) -> None:
        """Take what was put, and have it done."""
        self._called = False
        while not self._jobs.empty() and not self._done.is_set():
            job = self._jobs.get_nowait()
            if not isinstance(job, Close):
                self._waiting.append(job)
                continue
            self._closing = self._closing or []
            if job.future is not None:
                self._closing.append(job.future)
        self._go_on()

    def _go_on(self) -> None:
        """Set to work as many lines as there are jobs without one; end where there is nothing left to do."""
        while len(self._busy) < self._most_lines and (job := self._next()) is not None:
            line = self._idle.pop()[0] if self._idle else self._new_line()
            self._begin(self._work(line, job))
        if self._closing is not None and not self._busy and not self._waiting:
            self._done.set()

    def _next(self) -> Read | Write | None:
        """The oldest job that somebody still wants done."""
        while self._waiting:
            job = self._waiting.popleft()
            if not job.future.cancelled():
                return job
        return None

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._busy.add(task)
        task.add_done_callback(self._rest)

    async def _work(self, line: Line, job: Read | Write) -> None:
        """One line: job after job, as long as any waits."""
        wanted: Read | Write | None = job
        while wanted is not None:
            self._tell(await _done_by(line, wanted))
            wanted = self._next()
        self._idle.append((line, self._loop.time()))

    def _tell(self, answer: Answer) -> None:
        loop = answer.future.get_loop()
        outbox = self._outboxes.get(loop)
        if outbox is None:
            outbox = self._outboxes[loop] = Outbox()
        outbox.put(loop, answer)

    def _rest(self, task: asyncio.Task[None]) -> None:
        self._busy.discard(task)
        self._go_on()
        if self._pruning is None and self._idle and self._closing is None:
            self._pruning = self._loop.call_later(IDLE_S, self._prune)

    def _prune(self) -> None:
        """Hang up on the lines that had nothing to do for long."""
        self._pruning = None
        long_ago = self._loop.time() - IDLE_S
        while self._idle and self._idle[0][1] <= long_ago:  # the last one used is used next, so the first is the one unused for longest
            self._begin(self._idle.pop(0)[0].close())
        if self._idle:
            self._pruning = self._loop.call_later(IDLE_S, self._prune)

    async def _hang_up(self) -> None:
        if self._pruning is not None:
            self._pruning.cancel()
        await asyncio.gather(*(line.close() for line, _ in self._idle))


class Outbox:
    """Answers on their way to one event loop. While it is busy they gather, and one wake-up brings them all."""

    def __init__(self) -> None:
        self._answers: deque[Answer] = deque()
        self._called = False

    def put(self, loop: asyncio.AbstractEventLoop, answer: Answer) -> None:
        """From the office's thread."""
        self._answers.append(answer)
        if not self._called:
            self._called = True
            soon(loop, self._deliver)

    def _deliver(self) -> None:
        """On the loop's own thread. The word is taken back first, so that no answer is put without another one."""
        self._called = False
        while self._answers:
            settle((self._answers.popleft(),))


async def _done_by(line: Line, job: Read | Write) -> Answer:
    try:
        value = await line.read(job.sql, job.params) if isinstance(job, Read) else await line.write(job.batch)
    except Exception as error:  # the driver's, and what it raises for a value that it cannot bind is open-ended
        return Answer(job.future, None, error)
    except BaseException:
        tell([Answer(job.future, None, StoreUnavailable("the database's thread was stopped; look whether it was written"))])
        raise
    return Answer(job.future, value, None)
