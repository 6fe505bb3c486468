"""A small world for one seed: processes on one database, with clocks, chance and deaths of their own.

What a process is given here (store, clock, threads, heartbeat) is what it has outside, only that nothing is left to
chance. Which faults strike at which gap is decided by `faults`; what must hold is said by the scenario.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from pathlib import Path
from typing import Any, Protocol, TypeVar

from power_loop.contracts.errors import StoreUnavailable
from power_loop.contracts.store import CommitUnknown, RecordRow, SessionLog
from power_loop.loop import StatefulAgentLoop
from power_loop.runtime.cancel import Scope
from power_loop.runtime.heartbeat import Heartbeat
from power_loop.runtime.lifeline import Lifeline
from power_loop.runtime.machine import Machine
from power_loop.runtime.send import Send
from power_loop.runtime.session import Session
from power_loop.runtime.steer import Watched
from power_loop.runtime.threads import HandlerThreads
from power_loop.store.log import COLUMNS, to_row
from power_loop.store.memory import MemoryDatabase
from power_loop.store.sql_store import SessionStore
from power_loop.testing.clock import START_MS, SeededIds
from power_loop.testing.invariants import SessionWatch
from power_loop.testing.virtual_loop import LIFE, Life, VirtualLoop
from power_loop.verbs import Verbs

T = TypeVar("T")
PREFIX = "pl_"

# Sends here are short, so they are looked after early.
LOOK_EVERY_S = 0.05

# What is remembered of the way to a violation.
TRACE_STEPS = 300


class Faults(Protocol):
    """What may happen at a gap: a deed of the process's own is behind it, the next one has not begun."""

    async def strike(self, process: Process, where: str) -> None:
        """Kill, stop, delay, or raise what the port at this gap may raise."""
        ...


class NoFaults:
    """Nothing ever happens."""

    async def strike(self, process: Process, where: str) -> None:
        return


class World:
    """Everything that one seed decides."""

    commits: int
    loop: VirtualLoop
    seed: int

    def __init__(self, seed: int, loop: VirtualLoop) -> None:
        self.seed, self.loop = seed, loop
        self.chance: random.Random = random.Random(f"world {seed}")
        self.core: MemoryDatabase = MemoryDatabase.with_schema(PREFIX)
        self.faults: Faults = NoFaults()
        self.processes: list[Process] = []
        self.one_machine: bool = self.chance.random() < 0.5
        """Processes can prove each other's death; else they wait for leases to end."""
        self.clock_may_run_ahead: bool = self.one_machine
        self.wall_jump_s: float = 0.0
        self.database_was_away = False
        self.story: Any = None
        """What the scenario keeps for its strikes."""
        self.violations: list[str] = []
        self.trace: list[str] = []
        self.gaps = self.commits = self.crashes = self.disturbances = 0
        self.watchers: list[Callable[[str, RecordRow], str | None]] = []
        """Asked after each commit about each row of it: what is wrong, if anything."""
        self._watched: dict[str, SessionWatch] = {}
        self._epochs: dict[str, int] = {}
        self._last_row = 0

    def process(self, name: str | None = None) -> Process:
        """A new process; it lives until it is killed."""
        process = Process(self, name or f"p{len(self.processes) + 1}")
        self.processes.append(process)
        return process

    def onlooker(self) -> SessionStore:
        """The store as it is, seen from outside of all processes: nothing happens to who looks through it."""
        return SessionStore(self.core, MemoryDatabase.dialect, PREFIX, clock=ProcessClock(self))

    def note(self, text: str) -> None:
        """Remember a step, for whoever reads a failing seed."""
        if len(self.trace) > 2 * TRACE_STEPS:
            del self.trace[:TRACE_STEPS]
        self.trace.append(f"{self.loop.time():9.4f} {text}")

    def violated(self, text: str) -> None:
        self.note(f"VIOLATION {text}")
        if text not in self.violations:
            self.violations.append(text)

    def look(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        """Read the database as it is now, past all processes and faults; ``{p}`` stands for the prefix."""
        return self.core.read(sql.replace("{p}", PREFIX), params).result()

    def committed(self) -> None:
        """A batch is written: hold the rows it added against the log's invariants."""
        self.commits += 1
        for rowid, session_id, row in new_rows(self, self._last_row):
            self._last_row = rowid
            watch = self._watched.setdefault(session_id, SessionWatch(session_id))
            cells = row.cells
            self.note(f"  + {session_id} {row.seq} e{row.epoch} {cells.kind} {cells.call_id or cells.content or cells.body}")
            for violation in [*watch.add(row), *(watcher(session_id, row) for watcher in self.watchers)]:
                if violation is not None:
                    self.violated(violation)
        epochs = dict(self.look("SELECT session_id, epoch FROM {p}sessions"))
        for gone in self._epochs.keys() - epochs.keys():  # whoever comes late may make one of the same id anew
            del self._epochs[gone]
            self._watched.pop(gone, None)
        for session_id, epoch in epochs.items():
            if epoch < self._epochs.get(session_id, 0):
                self.violated(f"{session_id}: I4 the epoch falls from {self._epochs[session_id]} to {epoch}")
            self._epochs[session_id] = epoch


def new_rows(world: World, after: int) -> list[tuple[int, str, RecordRow]]:
    """(rowid, session, row) of what was appended since row ``after``, in the order of the commits."""
    rows = world.look(f"SELECT rowid, session_id, {COLUMNS} FROM {{p}}records WHERE rowid > ? ORDER BY rowid", after)
    return [(row[0], row[1], to_row(row[2:])) for row in rows]


class Process:
    """One process of a world. What it runs ends with it, in the middle of a word."""

    name: str
    store: SessionStore
    world: World

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.life: Life = Life(name)
        self.clock: ProcessClock = ProcessClock(world)
        self.ids: SeededIds = SeededIds(f"{world.seed} {name}")
        self.tasks: list[asyncio.Task[Any]] = []
        """What was started in it, in order."""
        self.death: asyncio.Future[None] = world.loop.create_future()
        self.store = SessionStore(world.core.connect(pause=self.gap), MemoryDatabase.dialect, PREFIX, clock=self.clock, ids=self.ids)

    def agent(self, llm: Any, **parameters: Any) -> SimulatedAgentLoop:
        """A loop that lives in this process; ``parameters`` as of `StatefulAgentLoop`, without those of the store."""
        return SimulatedAgentLoop(self, llm=llm, **parameters)

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run ``work`` in this process."""
        context = copy_context()
        context.run(LIFE.set, self.life)
        task: asyncio.Task[T] = self.world.loop.create_task(work, context=context)
        self.tasks.append(task)
        return task

    async def run(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Run ``work`` in this process and wait for it; None when the process died meanwhile."""
        task = self.start(work)
        await asyncio.wait((task, self.death), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None

    async def gap(self, where: str) -> None:
        """A place where something may happen; the engine has one before and after each verb, models and tools their own."""
        world = self.world
        world.gaps += 1
        world.note(f"{self.name} {where}")
        if where == "after_write":
            world.committed()
        await world.faults.strike(self, where)

    # --- what may happen to it ---------------------------------------------------------------------

    async def die(self) -> None:
        """`kill -9`, from inside: never returns."""
        self.kill()
        await self.world.loop.create_future()

    def kill(self) -> None:
        """`kill -9`: no step of it is run any more, no `finally` either."""
        if not self.life.dead:
            self.world.note(f"{self.name} is killed")
            self.world.crashes += 1
            self.world.disturbances += 1
            self.life.dead = True
            self.death.set_result(None)

    async def stop(self, seconds: float) -> None:
        """`SIGSTOP`, and `SIGCONT` after ``seconds``."""
        await self.stop_for(asyncio.sleep(seconds))

    async def stop_for(self, work: Coroutine[Any, Any, Any]) -> None:
        """`SIGSTOP`, and `SIGCONT` once ``work``, which belongs to no process, is done."""

        async def then_go_on() -> None:
            await work
            world.note(f"{self.name} goes on")
            world.loop.go_on(self.life)

        world = self.world
        world.note(f"{self.name} is stopped")
        world.disturbances += 1
        self.life.stopped = True
        world.loop.create_task(then_go_on(), context=Context())
        await asyncio.sleep(0)


class ProcessClock:
    """The clock of a process: virtual, and as wrong as its machine's."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now_ms(self) -> int:
        return START_MS + int((self._world.loop.time() + self._world.wall_jump_s) * 1000)

    def monotonic(self) -> float:
        return self._world.loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SimulatedAgentLoop(StatefulAgentLoop):
    """The door as it is, on a simulated machine."""

    def __init__(self, process: Process, **parameters: Any) -> None:
        super().__init__(store=process.store, **parameters)
        self.process = process
        self._verbs = Verbs(
            self, store=process.store, dsn="", table_prefix=None, schema=None, max_spawn_depth=None,
            cache_size=parameters.get("session_cache_size", 256), holder_id=process.name, machine=SimulatedMachine(process),
        )  # fmt: skip

    async def in_hand(self, session_id: str) -> Send | None:
        """The send of this session that this loop drives right now."""
        return (await self._verbs.open())[1].running.get(session_id)


class SimulatedMachine(Machine):
    """A machine without threads, whose deaths are known."""

    def __init__(self, process: Process) -> None:
        super().__init__(process.clock, process.ids)
        self._process = process

    def threads(self, size: int) -> HandlerThreads:
        return InPlace(size)

    def heartbeat(self, log: SessionLog, ttl_ms: int) -> Heartbeat:
        return BeatingTask(self._process, log, ttl_ms)

    def lifeline(self, holder: str) -> Lifeline:
        return KnownDeaths(self._process.world, holder)


class InPlace(HandlerThreads):
    """Runs synchronous handlers where they are called."""

    async def run(self, call: Callable[[], Any], late: Any = None) -> Any:
        return call()


class KnownDeaths(Lifeline):
    """Proof of death from the world itself, for processes on one machine."""

    def __init__(self, world: World, holder: str) -> None:
        super().__init__(holder, Path())
        self._world = world

    def hold(self) -> None:
        return

    def is_dead(self, holder: str) -> bool:
        return self._world.one_machine and any(process.name == holder and process.life.dead for process in self._world.processes)

    def release(self, *, owes: bool = False) -> None:
        return


class BeatingTask(Heartbeat):
    """A heartbeat as a task of the process: it is stopped and killed with it."""

    def __init__(self, process: Process, log: SessionLog, ttl_ms: int) -> None:
        super().__init__(log, process.clock, ttl_ms)
        self.look_every_s = LOOK_EVERY_S
        self._process = process
        self._task: asyncio.Task[None] | None = None

    def hold(self, session: Session, scope: Scope | None = None) -> None:
        self._held[session.head.session_id] = Watched(session, scope, self._clock.monotonic())
        if self._task is None:
            self._task = self._process.start(self._beat_on())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _beat_on(self) -> None:
        while self._held:
            await asyncio.sleep(self.period_s)
            try:
                await self.beat()
                await self.look()
            except (StoreUnavailable, CommitUnknown):
                continue
        self._task = None


Scenario = Callable[[World], Coroutine[Any, Any, None]]
