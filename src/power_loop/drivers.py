"""What a loop keeps open: its store, its driver, and the ways in and out of them."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from power_loop.contracts.log import log
from power_loop.contracts.notes import DEFAULT_NOTES_POLICY
from power_loop.contracts.outcome import StatefulResult
from power_loop.contracts.records import StopRequested
from power_loop.contracts.rows import RUN_PREFIX
from power_loop.contracts.tool import Tool, ToolRun
from power_loop.kernel.state import State
from power_loop.keyed import KeyedSends
from power_loop.runtime.drive import NOBODY_WAITS, Driver
from power_loop.runtime.fold_after import FoldsAfter, FoldTable
from power_loop.runtime.heartbeat import Heartbeat
from power_loop.runtime.lifeline import Lifeline
from power_loop.runtime.line import SessionLines
from power_loop.runtime.machine import Machine
from power_loop.runtime.openings import Opening, answered_in_place
from power_loop.runtime.openings_worker import LookAfter, goes_on
from power_loop.runtime.output import recalled
from power_loop.runtime.passing import TextShower
from power_loop.runtime.patience import OwnPatience, Patience
from power_loop.runtime.ports import Ports, Settings, Terms
from power_loop.runtime.session import Session
from power_loop.runtime.session_cache import CacheStats
from power_loop.runtime.stops import watch_stops
from power_loop.terms import LOAD_SKILL, PLAIN, Call, output_asked, output_in, settings_of, system_text_of, terms_of
from power_loop.tools.env import environment_of
from power_loop.tools.shell.closing import release_loop
from power_loop.tools.skills import prompt_section
from power_loop.watching import Watching

if TYPE_CHECKING:
    from power_loop.context.represent import Representation
    from power_loop.loop import StatefulAgentLoop
    from power_loop.runtime.memory import LoopMemory
    from power_loop.store.sql_store import SessionStore
    from power_loop.workflow.engine import Run
    from power_loop.workflow.executors import Executor

# The line that openers of the store stand in; no session can have this name.
OPENING = "\0opening"


# The folds under way in this process, whichever loop began them: a next send waits for that of its session.
UNDER_WAY: FoldTable = {}


class Drivers(KeyedSends):
    """Opens the store once, drives sessions on it, and closes it in order."""

    holder: str

    def __init__(
        self, loop: StatefulAgentLoop, *, store: SessionStore | None, dsn: str, table_prefix: str | None, schema: Any,
        max_spawn_depth: int | None, cache_size: int, holder_id: str | None, machine: Machine | None = None,
    ) -> None:  # fmt: skip
        if max_spawn_depth is not None and (type(max_spawn_depth) is not int or max_spawn_depth < 1):
            raise ValueError(f"max_spawn_depth is {max_spawn_depth!r}; it must be at least 1")
        if type(cache_size) is not int or cache_size < 0:
            raise ValueError(f"session_cache_size is {cache_size!r}; it must be a number of sessions, 0 for none")
        self._loop, self.store, self._owns = loop, store, store is None
        self._open_with: dict[str, Any] = {
            "dsn": dsn,
            "table_prefix": table_prefix if table_prefix is not None else "pl_",
            "schema": schema,
        }
        self._max_spawn_depth, self._cache_size = max_spawn_depth, cache_size
        # A store that was given brings its own time, so that both see the same leases end.
        self._machine = machine or (Machine(store.clock, store.ids) if store is not None else Machine())
        self._clock, self._ids = self._machine.clock, self._machine.ids
        self._holder_id = holder_id or f"{loop.name}@{socket.gethostname()}"
        self._simulated = machine is not None
        self._settle_in()
        self._settings: tuple[int, Settings] | None = None
        if loop.config.memory is not None:
            self._mind_memory()
        self._plain: tuple[tuple[Any, ...], Terms] | None = None
        self._tool_run = ToolRun(loop=loop, config=loop.config, look=self._look, env_of=environment_of)
        self._closing = self._closed = False

    def _settle_in(self) -> None:
        """Everything that belongs to one process; a forked child has its own."""
        self._pid = os.getpid()
        # Loops may share a name, so a lease is told apart by more; simulated processes have names of their own.
        self.holder = self._holder_id if self._simulated else f"{self._holder_id}.{self._pid}.{self._ids.token(4)}"
        self._lines = SessionLines()
        self.runs: dict[str, Run] = {}
        """The workflows that this loop drives now, by their sessions."""
        self.executor: Executor | None = None
        """Where leaves of workflows run that were to run with one of its kind, when nobody is there to say so."""
        self._driver: Driver | None = None
        self._memory: LoopMemory | None = None
        self._heartbeat: Heartbeat | None = None
        self._shower: TextShower | None = None
        self._watching = Watching(self._loop.event_bus, output_in)
        self._lifeline = self._machine.lifeline(self.holder)
        self._threads = self._machine.threads(self._loop.config.tooling.sync_threads)

    def _mind_a_fork(self) -> None:
        """In a forked child: what the parent drives is the parent's, and so are its threads."""
        if self._pid != os.getpid():
            self._settle_in()

    @property
    def lifeline(self) -> Lifeline:
        """The sign of life under which this loop holds its leases and claims."""
        self._mind_a_fork()
        return self._lifeline

    @property
    def heartbeat(self) -> Heartbeat:
        """What keeps leases alive; once the store is open."""
        assert self._heartbeat is not None, "the store is not open"
        return self._heartbeat

    @property
    def cache_stats(self) -> CacheStats:
        return self._driver.cache.stats if self._driver is not None else CacheStats()

    def refuse_when_closing(self, verb: str) -> None:
        if self._closing:
            raise RuntimeError(f"{verb}() was called after aclose(); make a new loop on the same store")

    def refuse_when_closed(self, verb: str) -> None:
        """What a send in hand begins is a part of it, so that is taken on as long as sends are waited for."""
        if self._closed:
            self.refuse_when_closing(verb)

    async def system_text(self, explicit: str | None) -> str:
        """The system text of a send without overrides, on a session with this prompt of its own."""
        registry = self._loop.tool_registry
        skills = await self._skills_of(registry.get(LOAD_SKILL)) if registry is not None and LOAD_SKILL in registry else ""
        return system_text_of(self._current_settings(), self._loop.llm, registry, explicit, skills)

    async def _skills_of(self, tool: Tool | None) -> str:
        """What the system prompt tells of the skills that ``tool`` loads. Looks at the disk, in a thread."""
        return await self._threads.run(lambda: prompt_section(tool, self._tool_run))

    def _place(self, store: SessionStore) -> object:
        """Where the sessions of this loop are kept, as far as two loops of one process can tell."""
        return (os.getpid(), *self._open_with.values()) if self._owns else (os.getpid(), id(store))

    def shown_as(self) -> Representation | None:
        """How finished sends are shown from now on; None: word for word."""
        return self._current_settings().representation

    # --- opening and closing ---------------------------------------------------------------------

    @property
    def closing(self) -> bool:
        """The loop takes on nothing more."""
        return self._closing

    def _at_hand(self) -> Driver | None:
        """The driver, once the store is open."""
        self._mind_a_fork()
        return self._driver

    async def open(self) -> tuple[SessionStore, Driver]:
        """The store and its driver; opened once, whoever comes first."""
        if (driver := self._at_hand()) is not None and self.store is not None:
            return self.store, driver
        async with self._lines.held(OPENING):
            if self._driver is None:
                self.refuse_when_closing("ensure_store")
                self.store = self.store or await self._open_store()
                if self._max_spawn_depth is not None:
                    self.store.max_spawn_depth = self._max_spawn_depth
                self._driver = self._make_driver(self.store)
                self._tool_run.store = self.store
                self._keep_notes_policy()
                self._tool_run.holder, self._tool_run.is_dead = self.holder, self._lifeline.is_dead
        assert self.store is not None
        return self.store, self._driver

    def _keep_notes_policy(self) -> None:
        """The store calls of the host keep to the policy that this loop was given, too."""
        policy = self._loop.config.recall.notes
        if self.store is not None and policy != DEFAULT_NOTES_POLICY:
            self.store.notes_policy = policy

    async def _open_store(self) -> SessionStore:
        from power_loop.store.sql_store import open_store  # the DSN chooses the engine

        return await open_store(**self._open_with, max_spawn_depth=self._max_spawn_depth or 3)

    def _make_driver(self, store: SessionStore) -> Driver:
        loop = self._loop
        ports = Ports(store, loop.llm, loop.hooks, loop.event_bus, self._clock, self._ids, self._threads, self.holder, loop.name, store)
        self._heartbeat = self._machine.heartbeat(store, int(loop.config.running.lease_ttl_s * 1000))
        driver = Driver(
            ports, self._lines, self._heartbeat, self._lifeline, cache_size=self._cache_size, shown_as=self.shown_as,
            folds=FoldsAfter(self._place(store), None if self._simulated else UNDER_WAY),
        )  # fmt: skip
        driver.memory = self._memory
        self._shower = TextShower(store, loop.event_bus, self.holder, driver.running.__contains__)
        self._shower.mind(loop.config.running.durable_stream)
        return driver

    def _mind_memory(self) -> None:
        """Have the configured memory recalled, and told of what ends."""
        from power_loop.runtime.memory import LoopMemory  # most loops have no memory

        config = self._loop.config
        self._memory = self._memory or LoopMemory(self._loop.hooks, self._loop.event_bus)
        self._memory.follow(config.memory, config.memory if config.recall.builtin_hook else None, config.recall)
        if self._driver is not None:
            self._driver.memory = self._memory

    async def close(self, drain_timeout_s: float) -> None:
        """Wait for the sends in hand, cancel what is left, give everything back."""
        self._mind_a_fork()
        self._closing = True
        for run in [run for run in self.runs.values() if run.order.detached]:
            run.interrupt()  # others go on with it
        if not await self._drained(drain_timeout_s) and self._driver is not None:
            why = StopRequested("cancelled", "the loop was closed", "aclose")
            for run in list(self.runs.values()):
                run.scope.request(why)
            await self._without_runs()
            self._driver.stop(why)
            await self._drained(self._loop.config.running.cancel_grace_s)
        self._closed = True
        if self._driver is not None:
            await self._driver.folds.finish(drain_timeout_s)
        if self._memory is not None:
            await self._memory.finish(drain_timeout_s)
        await release_loop(self._loop, drain_timeout_s)
        self._watching.close()
        if self._shower is not None:
            await self._shower.close()
        if self._heartbeat is not None:
            self._heartbeat.stop()
        await self._threads.settle()
        self._threads.close()
        self._lifeline.release(owes=self._driver is not None and self._driver.owes)
        if self._owns and self.store is not None:
            await self.store.close()

    async def _without_runs(self) -> None:
        """Once no workflow is driven here any more: its leaves are cut off, and not cancelled as sends are."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._loop.config.running.cancel_grace_s):
                for session_id in list(self.runs):
                    async with self._lines.held(session_id):
                        continue

    async def _drained(self, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                while names := self._lines.names():
                    async with self._lines.held(names[0]):
                        continue
        except TimeoutError:
            return False
        return True

    # --- driving ---------------------------------------------------------------------------------

    async def drive(self, session_id: str, opening: Opening, call: Call, patience: Patience) -> StatefulResult:
        """Drive the session from this opening until it rests, and say how it stands."""
        driver = self._at_hand() or (await self.open())[1]
        if str(session_id).startswith(RUN_PREFIX) and (stands := await self._drive_run(session_id, opening, call, patience)) is not None:
            return stands
        tools = call.tools if call.tools is not None else self._loop.tool_registry
        loader = tools.get(LOAD_SKILL) if tools is not None else None
        skills = await self._skills_of(loader) if loader is not None else ""

        seen: Session | None = None

        def terms(session: Session) -> Terms:
            nonlocal seen
            seen = session
            return self._terms(session, call, goes_on(opening, session), skills)

        result = await driver.drive(session_id, opening, terms, patience, watch_stops, call.cancel)
        ended = seen.state if seen is not None and seen.state.idle else None
        # What ends before its time may leave calls whose sub-agents others drive, or nobody any more.
        if answered_in_place(opening) or (ended is not None and (ended.questions or ended.status != "completed")):
            await self._end_below(session_id)
        if seen is not None and not result.rounds and result.output is None:  # nothing ran: an earlier run looked at the answer
            await self._recall_output(result, seen.state, call)
        return result

    async def _drive_run(self, session_id: str, opening: Opening, call: Call, patience: Patience) -> StatefulResult | None:
        """Go on with a workflow; None when the session is none, whatever its name."""
        from power_loop.workflow.as_session import drive_run  # the name of the session chooses

        return await drive_run(self._loop, session_id, opening, call.cancel, patience)

    async def hear(self, session_id: str) -> StatefulResult:
        """Drive the session as far as something waits for it."""
        return await self.drive(session_id, LookAfter(), Call(deps=self._loop.deps), OwnPatience())

    async def _end_below(self, session_id: str) -> None:
        """End the sub-agents whose calls were answered without them; while the loop closes they are left to whoever comes upon them."""
        store, _ = await self.open()
        try:
            for child in await store.list_children(session_id) if not self._closing else ():
                await self._end_unless_awaited(store, child.session_id)
        except Exception as error:  # handlers of the host hear of those ends, too; the send above is over and written all the same
            log.warning("session %s: a sub-agent that nobody waits for was not ended: %s", session_id, repr(error))

    async def _end_unless_awaited(self, store: SessionStore, session_id: str) -> None:
        session = await Session.find(store, session_id)
        if session is None or session.state.idle or await store.forsaken(session_id) != "answered":
            return
        holder = session.head.holder
        dead = holder is not None and self._lifeline.is_dead(holder)
        if dead or not await self.cancel(session_id, StopRequested("cancelled", NOBODY_WAITS, "cancel")):
            await self.hear(session_id)

    async def _recall_output(self, result: StatefulResult, state: State, call: Call) -> None:
        """The value of the answer that a send ended with earlier."""
        settings = self._current_settings()
        form = output_asked(call, state.overrides or {}, settings) if result.status == "completed" else None
        if form is not None:
            result.output = await recalled(form, settings.output_validators, state.text)

    def _terms(self, session: Session, call: Call, resumes: bool, skills: str) -> Terms:
        settings, registry = self._current_settings(), self._loop.tool_registry
        ground: tuple[object, ...] | None = None
        if call is PLAIN and not resumes and session.given is None:
            # Sends that set nothing of their own have the same terms until one of these changes.
            offered = registry.to_openai_tools() if registry is not None else None
            ground = (settings, registry, offered, session.prompt, skills)
        if ground is not None and self._plain is not None and self._plain[0] == ground:
            return self._plain[1]
        terms = terms_of(
            session, call, settings=settings, registry=registry, model=self._loop.llm, tool_run=self._tool_run, resumes=resumes,
            skills=skills,
        )  # fmt: skip
        if ground is not None:
            self._plain = (ground, terms)
        return terms

    def _current_settings(self) -> Settings:
        config = self._loop.config
        if self._settings is None or self._settings[0] != config.revision:
            self._settings = (config.revision, settings_of(config, self._loop.llm))
            if config.memory is not None or self._memory is not None:
                self._mind_memory()
            if self._shower is not None:
                self._shower.mind(config.running.durable_stream)
            self._keep_notes_policy()
        return self._settings[1]
