"""What a loop keeps open: its store, its driver, and the ways in and out of them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from operator import is_
from typing import TYPE_CHECKING, Any

from power_loop.contracts.cancel import CancellationToken
from power_loop.contracts.outcome import FollowUpQueued, StatefulResult
from power_loop.contracts.records import Record, StopRequested, UserSaid
from power_loop.contracts.store import Conflict
from power_loop.contracts.tool import ToolRun
from power_loop.runtime.drive import LINE_POLL_S, CacheStats, Driver, Patience
from power_loop.runtime.heartbeat import Heartbeat
from power_loop.runtime.lifeline import Lifeline
from power_loop.runtime.line import SessionLines
from power_loop.runtime.machine import Machine
from power_loop.runtime.openings import Opening, Resume, Say
from power_loop.runtime.openings_worker import HearKey, goes_on
from power_loop.runtime.outcome import outcome_of
from power_loop.runtime.passing import TextShower
from power_loop.runtime.ports import Ports, Settings, Terms
from power_loop.runtime.send import KeyTaken, Send
from power_loop.runtime.session import Session
from power_loop.runtime.tell import publish
from power_loop.terms import PLAIN, Call, settings_of, system_text_of, terms_of
from power_loop.tools.shell.closing import release_loop
from power_loop.watching import Watching

if TYPE_CHECKING:
    from power_loop.loop import StatefulAgentLoop
    from power_loop.store.sql_store import SessionStore

# The line that openers of the store stand in; no session can have this name.
OPENING = "\0opening"


class Drivers:
    """Opens the store once, drives sessions on it, and closes it in order."""

    def __init__(
        self, loop: StatefulAgentLoop, *, store: SessionStore | None, dsn: str, table_prefix: str | None, schema: Any,
        max_spawn_depth: int | None, cache_size: int, holder_id: str | None, machine: Machine | None = None,
    ) -> None:  # fmt: skip
        if max_spawn_depth is not None and max_spawn_depth < 1:
            raise ValueError(f"max_spawn_depth is {max_spawn_depth}; it must be at least 1")
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
        self._plain: tuple[tuple[Any, ...], Terms] | None = None
        self._tool_run = ToolRun(loop=loop, config=loop.config, post=self._leave)
        self._closing = False

    def _settle_in(self) -> None:
        """Everything that belongs to one process; a forked child has its own."""
        self._pid = os.getpid()
        # Loops may share a name, so a lease is told apart by more; simulated processes have names of their own.
        self.holder = self._holder_id if self._simulated else f"{self._holder_id}.{self._pid}.{self._ids.token(4)}"
        self._lines = SessionLines()
        self._driver: Driver | None = None
        self._heartbeat: Heartbeat | None = None
        self._shower: TextShower | None = None
        self._watching = Watching(self._loop.event_bus)
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
    def cache_stats(self) -> CacheStats:
        return self._driver.cache.stats if self._driver is not None else CacheStats()

    def refuse_when_closing(self, verb: str) -> None:
        if self._closing:
            raise RuntimeError(f"{verb}() was called after aclose(); make a new loop on the same store")

    def system_text(self, explicit: str | None) -> str:
        """The system text of a send without overrides, on a session with this prompt of its own."""
        return system_text_of(self._current_settings(), self._loop.llm, self._loop.tool_registry, explicit)

    # --- opening and closing ---------------------------------------------------------------------

    async def open(self) -> tuple[SessionStore, Driver]:
        """The store and its driver; opened once, whoever comes first."""
        self._mind_a_fork()
        if self._driver is not None and self.store is not None:
            return self.store, self._driver
        async with self._lines.held(OPENING):
            if self._driver is None:
                self.refuse_when_closing("ensure_store")
                self.store = self.store or await self._open_store()
                if self._max_spawn_depth is not None:
                    self.store.max_spawn_depth = self._max_spawn_depth
                self._driver = self._make_driver(self.store)
                self._tool_run.store = self.store
                self._tool_run.holder, self._tool_run.is_dead = self.holder, self._lifeline.is_dead
        assert self.store is not None
        return self.store, self._driver

    async def _open_store(self) -> SessionStore:
        from power_loop.store.sql_store import open_store  # the DSN chooses the engine

        return await open_store(**self._open_with, max_spawn_depth=self._max_spawn_depth or 3)

    def _make_driver(self, store: SessionStore) -> Driver:
        loop = self._loop
        ports = Ports(store, loop.llm, loop.hooks, loop.event_bus, self._clock, self._ids, self._threads, self.holder, loop.name)
        self._heartbeat = self._machine.heartbeat(store, int(loop.config.running.lease_ttl_s * 1000))
        driver = Driver(ports, self._lines, self._heartbeat, self._lifeline, cache_size=self._cache_size)
        self._shower = TextShower(store, loop.event_bus, self.holder, driver.running.__contains__)
        return driver

    async def close(self, drain_timeout_s: float) -> None:
        """Wait for the sends in hand, cancel what is left, give everything back."""
        self._mind_a_fork()
        self._closing = True
        if not await self._drained(drain_timeout_s) and self._driver is not None:
            for send in list(self._driver.running.values()):
                send.scope.request(StopRequested("cancelled", "the loop was closed", "aclose"))
            await self._drained(self._loop.config.running.cancel_grace_s)
        await release_loop(self._loop, drain_timeout_s)
        self._watching.close()
        if self._shower is not None:
            await self._shower.close()
        if self._heartbeat is not None:
            self._heartbeat.stop()
        self._threads.close()
        self._lifeline.release(owes=self._driver is not None and self._driver.owes)
        if self._owns and self.store is not None:
            await self.store.close()

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
        _, driver = await self.open()
        if self._shower is not None:
            self._shower.mind(self._loop.config.running.durable_stream)

        def terms(session: Session) -> Terms:
            return self._terms(session, call, goes_on(opening, session))

        return await driver.drive(session_id, opening, terms, patience, watch_stops)

    async def drive_once(self, session_id: str, say: Say, key: str, call: Call, patience: Patience) -> StatefulResult:
        """`drive`, but once only for ``key``."""
        store, _ = await self.open()
        index = await store.send_of_key(session_id, key)
        if index == 0:  # it waits in the inbox
            return await self._hear_key(session_id, say, key, call, patience)
        if index is not None:
            return await self._outcome(store, session_id, index, call, patience)
        try:
            return await self.drive(session_id, say, call, patience)
        except KeyTaken:
            return await self.drive_once(session_id, say, key, call, patience)

    async def _hear_key(self, session_id: str, say: Say, key: str, call: Call, patience: Patience) -> StatefulResult:
        """What was posted under ``key`` is heard now, if its time has come; the outcome of the send that hears it."""
        store, _ = await self.open()
        waiting = next((item for item in await store.inbox(session_id, due=False) if item.key == key), None)
        if waiting is not None:
            await self._clock.sleep(max(0, (waiting.not_before or 0) - self._clock.now_ms()) / 1000)
            result = await self.drive(session_id, HearKey(None, say.heal_pending), call, patience)
            # Where nothing was driven, another driver heard it first, and may not be done.
            if result.rounds and result.send_index == await store.send_of_key(session_id, key):
                return result
        return await self.drive_once(session_id, say, key, call, patience)

    async def _outcome(self, store: SessionStore, session_id: str, index: int, call: Call, patience: Patience) -> StatefulResult:
        """The outcome of a send that was begun before; the last one is waited for, and goes on when it was cut off."""
        if index == (await store.look(session_id)).send_index:
            result = await self.drive(session_id, Resume(broken_only=True), call, patience)
            if result.send_index == index:
                return result
        return await outcome_of(store, session_id, index)

    def _terms(self, session: Session, call: Call, resumes: bool) -> Terms:
        loop, settings = self._loop, self._current_settings()
        offered = loop.tool_registry.to_openai_tools() if loop.tool_registry is not None else None
        # Sends that set nothing of their own have the same terms until one of these is another object.
        ground = (settings, offered, session.prompt) if call is PLAIN and not resumes else None
        if ground is not None and (plain := self._plain) is not None and all(map(is_, ground, plain[0])):
            return plain[1]
        terms = terms_of(
            session, call, settings=settings, registry=loop.tool_registry, model=loop.llm, tool_run=self._tool_run, resumes=resumes
        )  # fmt: skip
        if ground is not None:
            self._plain = (ground, terms)
        return terms

    def _current_settings(self) -> Settings:
        config = self._loop.config
        if self._settings is None or self._settings[0] != config.revision:
            self._settings = (config.revision, settings_of(config, self._loop.llm))
        return self._settings[1]

    # --- words for others ----------------------------------------------------------------------------

    async def post(
        self, session_id: str, record: Record, key: str | None, *, mode: str = "queue", not_before: int | None = None
    ) -> FollowUpQueued:
        """Leave ``record`` in the session's inbox."""
        store, _ = await self.open()
        keyed = key is not None and isinstance(record, UserSaid)
        key = key or self._ids.token(12)
        fresh = await store.post(session_id, record, key=key, mode=mode, not_before=not_before, keyed=keyed)
        await self._steer(session_id, mode)
        return await self._queued(store, session_id, key, fresh, mode)

    async def _steer(self, session_id: str, mode: str) -> None:
        """A word that steers was posted: the send that runs here need not wait until somebody looks."""
        store, driver = await self.open()
        send = driver.running.get(session_id) if mode == "steer" else None
        if send is not None:
            send.scope.steer((await store.look(session_id)).wake_no)

    async def _leave(self, text: str, session_id: str, key: str) -> None:
        await self.post(session_id, UserSaid(text), key)

    async def post_to_running(self, session_id: str, record: Record, key: str | None, mode: str = "queue") -> FollowUpQueued | None:
        """Leave ``record`` for the holder that runs the session now; None when nobody does, or ``key`` began a send of its own."""
        store, driver = await self.open()
        if key is not None and await store.item_id(session_id, key):
            return await self._queued(store, session_id, key, False, mode)
        if key is not None and await store.send_of_key(session_id, key) is not None:
            return None
        send = driver.running.get(session_id)
        head = send.session.head if send is not None else await store.look(session_id)
        if not head.held_at(self._clock.now_ms()):
            return None
        keyed, key = key is not None, key or self._ids.token(12)
        try:
            fresh = await store.post(session_id, record, key=key, mode=mode, running=head, keyed=keyed)
        except Conflict:
            return None
        await self._steer(session_id, mode)
        return await self._queued(store, session_id, key, fresh, mode)

    async def _queued(self, store: SessionStore, session_id: str, key: str, fresh: bool, mode: str) -> FollowUpQueued:
        depth = len(await store.inbox(session_id))
        queued = FollowUpQueued(session_id, depth, await store.item_id(session_id, key), not fresh)
        if self._loop.event_bus.wants("follow_up_queued"):
            told = {"item_id": queued.item_id, "mode": mode, "queue_depth": depth}
            publish(self._loop.event_bus, "follow_up_queued", told, session_id=session_id)
        return queued

    async def until_free(self, session_id: str) -> None:
        """Wait for whoever drives the session elsewhere: until the lease was given back, or ran out, or its holder died."""
        store, _ = await self.open()
        while (head := await store.look(session_id)).holder not in (None, self.holder):
            if not head.held_at(self._clock.now_ms()) or self._lifeline.is_dead(head.holder):
                return
            await self._clock.sleep(LINE_POLL_S)

    async def cancel(self, session_id: str, stop: StopRequested) -> bool:
        """Stop the send that runs, here or elsewhere."""
        store, driver = await self.open()
        send = driver.running.get(session_id)
        if send is not None:
            send.scope.request(stop)
            return True
        head = await store.look(session_id)
        if not head.held_at(self._clock.now_ms()):
            return False
        try:
            await store.post(session_id, stop, key=f"cancel:{self._ids.token(12)}", running=head)
        except Conflict:
            return False
        return True

    def drives(self, session_id: str, token: CancellationToken) -> bool:
        """The send that runs here is the one that ``token`` stops."""
        send = self._driver.running.get(session_id) if self._driver is not None else None
        return send is not None and send.terms.cancel is token


def unwatched() -> None:
    """Nothing was tied."""


def watch_stops(send: Send) -> Callable[[], None]:
    """Tie the send to its token and its time limit; the answer unties it."""
    token, limits = send.terms.cancel, send.terms.limits.usage
    if token is None and (limits is None or limits.seconds is None):
        return unwatched
    undo: list[Callable[[], object]] = []
    if token is not None:
        undo.append(token.on_cancel(lambda reason: send.scope.request(StopRequested("cancelled", reason, "token"))))
        if token.polled:
            undo.append(asyncio.ensure_future(token.wait()).cancel)
    if limits is not None and limits.seconds is not None:
        stop = StopRequested("budget_exceeded", "seconds", "limit")
        undo.append(asyncio.get_running_loop().call_later(limits.seconds, send.scope.request, stop).cancel)

    def untie() -> None:
        for step in undo:
            step()

    return untie
