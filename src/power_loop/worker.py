"""`Worker`: drives the sessions of a database that have something to do, beside any number of other workers.

A worker claims whole sessions, drives each until it rests, and says when somebody should look at it again. It has no
state of its own: whatever it leaves undone (a crash, a drain that took too long) is due for the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from power_loop.agents.above import wake_for_those_below
from power_loop.contracts.errors import SessionArchivedError, SessionBusyError, SessionLeaseLost, SessionNotFoundError, StoreUnavailable
from power_loop.contracts.log import log
from power_loop.contracts.outcome import StatefulResult
from power_loop.contracts.retry import backoff
from power_loop.contracts.rows import RUN_PREFIX
from power_loop.contracts.store import Conflict
from power_loop.contracts.to_end import to_its_end
from power_loop.runtime.openings_worker import LookAfter, may_pass
from power_loop.runtime.patience import OwnPatience
from power_loop.runtime.sigterm import on_sigterm
from power_loop.runtime.timers import tell_queued
from power_loop.store.claims import Standing
from power_loop.terms import Call

if TYPE_CHECKING:
    from power_loop.loop import StatefulAgentLoop
    from power_loop.store.sql_store import SessionStore
    from power_loop.workflow.executors import Executor

# A send that failed is tried again after so long, and after twice as long each further time.
FIRST_RETRY_S, LONGEST_RETRY_S = 2.0, 300.0
# A session that somebody else drives is left to itself for so long.
BUSY_MS = 1_000
# Words that may not be heard before a question is answered. The answer itself makes the session due at once.
RESTING_MS = 60_000
# A run whose leaves run where this process cannot is left for so long to workers that can; one of us may be quicker again.
ELSEWHERE_MS = 10_000
# Timers and deaths are looked for this often; deaths among the sessions that are due, where that is cheap, and among
# all of them once in a lease.
TIDY_EVERY_S = 1.0
# Timers fire 50 at a time; after so many times the sessions that they woke have their turn.
FIRINGS = 20
# While the store cannot be reached, looks are at most so far apart.
LONGEST_PAUSE_S = 30.0
# A session that moves whenever it is given back is somebody else's business.
SETTLE_TRIES = 5


class Worker:
    """Drives what is due on the loop's store; run as many as you like, in as many processes as you like."""

    _timed = False
    """Only sessions that a timer wakes, or the end of a workflow."""
    _tidy_every_s = TIDY_EVERY_S

    def __init__(
        self,
        loop: StatefulAgentLoop,
        *,
        concurrency: int = 8,
        timers: bool = True,
        inbox: bool = True,
        workflows: bool = True,
        recover: bool = True,
        agents: Sequence[str] | str | None = None,
        max_attempts: int = 5,
        poll_s: float = 0.5,
        worker_id: str | None = None,
        executor: Executor | None = None,
    ) -> None:
        """``agents``: whose sessions (None: of agents with the loop's own name; ``"*"``: all). No I/O happens here.

        ``executor``: runs the leaves of workflows that were begun with one of its kind; without it, such runs are left alone.
        """
        if not callable(getattr(loop, "ensure_store", None)):
            raise TypeError(f"a Worker works for a StatefulAgentLoop, not for {type(loop).__name__}")
        if concurrency < 1 or max_attempts < 1 or poll_s <= 0:
            raise ValueError(f"concurrency={concurrency!r}, max_attempts={max_attempts!r}, poll_s={poll_s!r}: each must be positive")
        self._loop, self._concurrency, self._poll_s = loop, concurrency, poll_s
        self._timers, self._inbox, self._workflows, self._recover = timers, inbox, workflows, recover
        names = [loop.name] if agents is None else [agents] if isinstance(agents, str) else list(agents)
        self._agents = None if "*" in names else names
        self._care = Care(loop, recover=recover, max_attempts=max_attempts)
        self.worker_id: str = worker_id or loop.name
        if executor is not None:
            loop.drivers.executor = executor
        self._stopping, self._drain_s = False, 30.0
        self._woken: asyncio.Event | None = None
        self._ended: asyncio.Event | None = None
        self._in_hand: set[asyncio.Task[None]] = set()
        self._looked = self._searched = float("-inf")

    # --- for the host ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until `stop`, SIGTERM, or the end of the loop.

        Raises what opening the store raises; later failures of the store are waited out.
        """
        store = await self._loop.ensure_store()
        self._woken, self._ended = asyncio.Event(), asyncio.Event()
        forget_signal = self._heed_sigterm()
        try:
            await self._work(store, self._woken)
            await self._drain(store)
        finally:
            forget_signal()
            try:
                await _cut_off(*self._in_hand)
            finally:
                self._ended.set()

    async def run_once(self) -> int:
        """Claim what is due now, up to ``concurrency`` sessions, and drive them until they rest; how many were claimed."""
        store = await self._loop.ensure_store()
        await self._tidy(store)
        claimed = await self._claim(store, self._concurrency)
        await self._until_idle()
        return claimed

    async def _until_idle(self) -> None:
        """Wait for the sends in hand; a cancel cuts them off."""
        try:
            while self._in_hand:
                await asyncio.wait(self._in_hand)
        finally:
            await _cut_off(*self._in_hand)

    async def stop(self, drain_timeout_s: float = 30.0) -> None:
        """Claim nothing more, wait for the sends in hand, then interrupt what is left: it is due for other workers at once."""
        self._drain_s = drain_timeout_s
        self.request_stop()
        if self._ended is not None:
            await self._ended.wait()

    def request_stop(self) -> None:
        """The same, without waiting; for signal handlers."""
        self._stopping = True
        if self._woken is not None:
            self._woken.set()

    # --- what it does, over and over ---------------------------------------------------------------

    async def _work(self, store: SessionStore, woken: asyncio.Event) -> None:
        failures = 0
        while not (self._stopping or self._loop.drivers.closing):
            free = self._concurrency - len(self._in_hand)
            try:
                await self._tidy(store)
                claimed = await self._claim(store, free)
                failures = 0
            except StoreUnavailable as error:
                failures, claimed = failures + 1, 0
                log.warning("worker %s: the store cannot be reached (look %d in a row): %s", self.worker_id, failures, error)
            if claimed < free or not free:
                pause_s = doubled(self._poll_s, failures, LONGEST_PAUSE_S)
                await self._pause(store, woken, pause_s * store.ids.uniform(0.5, 1.0))

    async def _pause(self, store: SessionStore, woken: asyncio.Event, seconds: float) -> None:
        """Until it is time to look again, a place becomes free where there was none, or the worker shall stop."""
        waits = [asyncio.ensure_future(store.clock.sleep(seconds)), asyncio.ensure_future(woken.wait())]
        full = self._in_hand if len(self._in_hand) >= self._concurrency else set[asyncio.Task[None]]()
        try:
            await asyncio.wait({*waits, *full}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cut_off(*waits)

    async def _claim(self, store: SessionStore, free: int) -> int:
        """Claim up to ``free`` sessions and begin to look after them; how many."""
        drivers = self._loop.drivers
        if not free or drivers.closing or not (self._inbox or self._recover):
            return 0
        drivers.lifeline.hold()  # so that others can tell when these claims are a dead one's
        token, found = await store.claim(
            drivers.holder, limit=free, agents=self._agents, free=self._inbox, orphaned=self._recover, timed=self._timed,
            runs=self._workflows and self._recover,  # a run is gone on with, and nothing else
        )  # fmt: skip
        for standing in found:
            task = asyncio.create_task(self._care.look_after(store, token, standing))
            self._in_hand.add(task)
            task.add_done_callback(self._out_of_hand)
        return len(found)

    def _out_of_hand(self, task: asyncio.Task[None]) -> None:
        self._in_hand.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("worker %s: a session could not be looked after; it stays due", self.worker_id, exc_info=error)

    async def _tidy(self, store: SessionStore) -> None:
        """From time to time: fire timers, and find what the dead left behind."""
        now = store.clock.monotonic()
        if now - self._looked < self._tidy_every_s:
            return
        self._looked = now
        if self._timers:
            await self._fire(store)
        everywhere = now - self._searched >= self._loop.config.running.lease_ttl_s
        if everywhere:
            self._searched = now
            await store.sweep_line()
        await self._care.mind_the_dead(store, self._agents, everywhere=everywhere)

    async def _fire(self, store: SessionStore) -> int:
        """Fire the timers that are due, and say of which sessions somebody else will hear them; how many."""
        count = 0
        for _ in range(FIRINGS):
            fired = await store.fire_timers(agents=self._agents)
            count += len(fired)
            if self._loop.event_bus.wants("timer_fired"):
                await tell_queued(store, self._loop.event_bus, fired)
            if not fired:
                break
        return count

    def _heed_sigterm(self) -> Callable[[], object]:
        return on_sigterm(self.request_stop)

    async def _drain(self, store: SessionStore) -> None:
        """Give the sends in hand their time."""
        enough = asyncio.ensure_future(store.clock.sleep(self._drain_s))
        try:
            while self._in_hand and not enough.done():
                await asyncio.wait({enough, *self._in_hand}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cut_off(enough)


class Care:
    """Looking after one claimed session: drive it, then say when somebody should look again."""

    def __init__(self, loop: StatefulAgentLoop, *, recover: bool, max_attempts: int) -> None:
        self._loop, self._recover, self._max_attempts = loop, recover, max_attempts

    async def look_after(self, store: SessionStore, token: str, standing: Standing) -> None:
        """Drive the session if there is something to do. What is not settled stays due, and so do claims that are not given back."""
        session_id = standing.session_id
        try:
            result = await self._driven(standing)
            if standing.parent is not None:  # whoever decided here may have died before it was told
                await wake_for_those_below(store, standing.parent)
            await self._settle(store, token, standing, result)
        except (SessionNotFoundError, SessionArchivedError):
            return  # nobody claims what is archived
        except (SessionBusyError, SessionLeaseLost):
            await _quietly(store.give_back(session_id, token, for_ms=BUSY_MS))
        except StoreUnavailable as error:
            log.warning("session %s: the store cannot be reached; it stays due: %s", session_id, error)
        except asyncio.CancelledError:
            await to_its_end(_quietly(store.give_back(session_id, token)))
            raise

    async def mind_the_dead(self, store: SessionStore, agents: Sequence[str] | None, *, everywhere: bool) -> None:
        """Make due what somebody held who died or fell silent; and free what the dead had claimed."""
        lifeline = self._loop.drivers.lifeline
        for session_id, token, claimant in await store.claims():
            if lifeline.is_dead(claimant):
                await store.give_back(session_id, token)
        leases = await store.leases(agents=agents, due=not everywhere) if self._recover else []
        dead = {holder for holder in {lease.holder for lease in leases} if lifeline.is_dead(holder)}
        for lease in leases:
            # A lease of a due session that ran out needs no more than its next claim.
            if lease.holder in dead or (lease.lapsed and everywhere):
                await store.orphan(lease)

    async def _driven(self, standing: Standing) -> StatefulResult | None:
        """What driving it came to; None when it was broken off by an error, which is recorded with the send."""
        retries = 0 < standing.attempts <= self._max_attempts
        if standing.over and not standing.words and not retries:
            return StatefulResult(standing.session_id, "completed")  # somebody else did what there was to do
        opening = LookAfter(self._recover, retries)
        try:
            return await self._loop.drivers.drive(standing.session_id, opening, Call(deps=self._loop.deps), OwnPatience("raise"))
        except (SessionNotFoundError, SessionArchivedError, SessionBusyError, SessionLeaseLost, StoreUnavailable):
            raise
        except Exception as error:  # of the model, or of the host's hooks and tools
            log.warning("session %s: a send failed under a worker: %s: %s", standing.session_id, type(error).__name__, error)
            return None

    async def _settle(self, store: SessionStore, token: str, before: Standing, result: StatefulResult | None) -> None:
        """Give the session back, with what follows from the way it stands now."""
        for _ in range(SETTLE_TRIES):
            now = await store.standing(before.session_id)
            if now is None:
                return
            if now.holder is not None:  # somebody has it in hand already
                break
            failed = result is None or may_pass(result.status, result.error)
            attempts = 1 + (before.attempts if now.send_index == before.send_index else 0) if failed else 0
            try:
                await store.settle(
                    now, token, due_in_ms=self._due_in_ms(before, now, result, attempts, store.clock.now_ms()), attempts=attempts
                )
            except Conflict:
                continue
            return
        await store.give_back(before.session_id, token, for_ms=BUSY_MS)

    def _due_in_ms(self, before: Standing, now: Standing, result: StatefulResult | None, attempts: int, at_ms: int) -> int | None:
        """None: nothing is to be done before something else is said."""
        waiting = now.words if now.over else now.waiting
        if attempts and (attempts <= self._max_attempts or waiting):
            return int(1000 * doubled(FIRST_RETRY_S, attempts - 1, LONGEST_RETRY_S))
        if result is not None and result.status == "pending_tools" and now.session_id.startswith(RUN_PREFIX):
            return ELSEWHERE_MS
        if not waiting:
            return _until_expiry_ms(now, result, at_ms)
        # What was posted since the session was claimed may be an answer that came after it had been driven.
        rests = result is not None and result.pending_tool_calls and now.wake_no == before.wake_no
        return RESTING_MS if rests else 0


def doubled(seconds: float, times: int, longest: float) -> float:
    """``seconds``, doubled so many times, and no longer than ``longest`` unless they are from the first."""
    return max(seconds, backoff(seconds, times, longest))


def _until_expiry_ms(now: Standing, result: StatefulResult | None, at_ms: int) -> int | None:
    """Until the first of the approvals runs out that it waits for: then the model is told. None: it waits for none that does."""
    asked = result.pending_interactions if result is not None else []
    ends: list[int] = [each["expires_at"] for each in asked if each.get("expires_at")]
    if not ends:
        return None
    return max(0, min(*ends, now.next_due or ends[0]) - at_ms)


async def _quietly(work: Any) -> None:
    """``work`` that only saves others some waiting."""
    try:
        await work
    except StoreUnavailable as error:
        log.warning("a claim was not given back and ends by itself: %s", error)


async def _cut_off(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
