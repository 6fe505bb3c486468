"""The task that awaits a verb of the loop is cancelled at every await of it, one after the other; then the session is used again.

Counted are the places where the task is suspended, so the sweep is the same on every engine, however long its threads
take. A cancelled verb may have done its work or not; the store works on, and no transaction is left open anywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import ExitStack
from typing import Any

from power_loop import AgentLoopConfig, HumanInputRequired, RunPolicy, StatefulAgentLoop, tool
from power_loop.contracts.errors import PowerLoopError, SessionNotFoundError, SessionPendingError
from power_loop.contracts.model import LLMRequest
from power_loop.store.memory import MemoryDatabase
from power_loop.store.sql_store import SessionStore
from power_loop.store.sqlite import SqliteDatabase
from power_loop.testing import FunctionLLM, call, say
from power_loop.testing.invariants import check_invariants
from proofs.stores import Ready, ready
from proofs.suite import Suite

# Far more than any verb below has.
MOST_AWAITS = 120
# Statistics of a server may be a moment old.
LOOK_AGAIN_S, LOOKS = 0.1, 20

OPEN_TRANSACTIONS = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'",
    "mysql": (
        "SELECT count(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id"
        " WHERE p.db = DATABASE()"
    ),
}


# --- being cut off ----------------------------------------------------------------------------------


class CutOff:
    """Awaits ``work`` in the current task, and has that task cancelled once it is suspended for the ``at``-th time."""

    def __init__(self, work: Coroutine[Any, Any, Any], at: int) -> None:
        self._work, self._at = work, at
        self.awaits = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        task = asyncio.current_task()
        assert task is not None
        error: BaseException | None = None
        while True:
            try:
                waits_for = self._work.throw(error) if error is not None else self._work.send(None)
            except StopIteration as done:
                return done.value
            self.awaits += 1
            if self.awaits == self._at:
                asyncio.get_running_loop().call_soon(task.cancel)
            error = None
            try:
                yield waits_for
            except BaseException as thrown:
                error = thrown


# --- the scene ------------------------------------------------------------------------------------------


@tool(effects="idempotent", parallel=True)
async def fetch(at: str) -> str:
    """Fetch."""
    await asyncio.sleep(0)
    return f"page {at}"


@tool
async def ask(at: str) -> str:
    """Ask somebody."""
    raise HumanInputRequired(f"may {at} happen?")


@tool(needs_approval=True)
async def grant(at: str) -> str:
    """Grant."""
    return f"granted {at}"


@tool(effects="once")
async def stall(at: str) -> str:
    """Never end."""
    await asyncio.Event().wait()
    return at


class Scene:
    """One session, and a loop of its own over the store that all share."""

    def __init__(self, it: Ready) -> None:
        self.store, self.dsn = it.store, it.dsn
        self.asked = asyncio.Event()
        self.session = ""
        self.running: asyncio.Task[Any] | None = None
        self.loop = self.new_loop()

    def new_loop(self) -> StatefulAgentLoop:
        config = AgentLoopConfig(running=RunPolicy(lease_ttl_s=20.0))
        return StatefulAgentLoop(llm=FunctionLLM(self._answer), store=self.store, tools=[fetch, ask, grant, stall], config=config)

    async def _answer(self, request: LLMRequest) -> Any:
        word = str(next(message["content"] for message in reversed(request.messages) if message["role"] == "user"))
        again = self.asked.is_set()
        self.asked.set()
        if request.messages[-1]["role"] != "user":
            return say("done")
        if "hang" in word and not again:
            await asyncio.Event().wait()
        wanted = next((name for name in ("fetch", "ask", "grant", "stall") if name in word), None)
        return call(wanted, at="it") if wanted is not None else say("done")

    async def begin(self, how: str) -> None:
        self.session = await self.loop.new_session()
        match how:
            case "used":
                await self.loop.send("hello", self.session)
            case "parked":
                await self.loop.send("ask", self.session)
            case "unapproved":
                await self.loop.send("grant", self.session)
            case "in doubt":
                await self._stall()
            case "interrupted":
                await self._interrupt()
            case "running":
                self.running = asyncio.create_task(self.loop.send("hang", self.session))
                await self.asked.wait()
            case _:
                return

    async def _interrupt(self) -> None:
        sending = asyncio.create_task(self.loop.send("hang, then fetch", self.session))
        await self.asked.wait()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)

    async def _stall(self) -> None:
        sending = asyncio.create_task(self.loop.send("stall", self.session))
        while not ((pending := await self.loop.get_pending(self.session)) and pending["unknown_call_ids"]):
            await asyncio.sleep(0)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)

    async def question(self) -> str:
        waiting = await self.loop.get_pending(self.session)
        assert waiting is not None
        return waiting["pending_interactions"][0]["interaction_id"]

    async def end(self) -> list[str]:
        """Use the session again; what is wrong."""
        if self.running is not None:
            self.running.cancel()
            await asyncio.gather(self.running, return_exceptions=True)
        await self.loop.aclose()
        async with self.new_loop() as loop:
            try:
                result = await loop.send("and now?", self.session, heal_pending=True, on_busy="raise")
            except SessionNotFoundError:
                return []
        wrong = [] if result.status == "completed" else [f"the next send ended as {result.status}"]
        return wrong + await check_invariants(self.store, sessions=[self.session], at_rest=True)


# --- the verbs ------------------------------------------------------------------------------------------

Verb = Callable[[Scene], Awaitable[Any]]


async def _stream(scene: Scene) -> None:
    async for _ in scene.loop.stream("fetch", scene.session):
        pass


async def _watch(scene: Scene) -> None:
    async for _ in scene.loop.watch(scene.session, follow=False):
        pass


async def _submit(scene: Scene) -> None:
    await scene.loop.submit_input(scene.session, await scene.question(), "yes")


async def _decide(scene: Scene, verb: str) -> None:
    (approval,) = await scene.loop.list_approvals(scene.session)
    await getattr(scene.loop, verb)(scene.session, approval.interaction_id, digest=approval.digest)


async def _settle(scene: Scene) -> None:
    waiting = await scene.loop.get_pending(scene.session)
    assert waiting is not None
    await scene.loop.settle(scene.session, waiting["unknown_call_ids"][0], output="done")


async def _aclose(scene: Scene) -> None:
    await scene.loop.aclose()


async def _open(scene: Scene) -> None:
    loop = StatefulAgentLoop(llm=FunctionLLM(lambda _: "done"), dsn=scene.dsn)
    try:
        await loop.ensure_store()
    finally:
        await loop.aclose()


async def _cancel_timer(scene: Scene) -> Any:
    timer = await scene.loop.schedule_timer(scene.session, delay_s=60, note="look again")
    return await scene.loop.cancel_timer(scene.session, timer.timer_id)


async def _import(scene: Scene) -> str:
    return await scene.store.import_session(await scene.store.export_session(scene.session))


VERBS: dict[str, tuple[str, Verb]] = {
    "send": ("new", lambda scene: scene.loop.send("hello", scene.session)),
    "send, a tool round": ("used", lambda scene: scene.loop.send("fetch", scene.session)),
    "send, with a key": ("used", lambda scene: scene.loop.send("fetch", scene.session, key="k")),
    "send, a parked call": ("used", lambda scene: scene.loop.send("ask", scene.session)),
    "send, heal_pending": ("parked", lambda scene: scene.loop.send("hello", scene.session, heal_pending=True)),
    "send, behind another": ("running", lambda scene: scene.loop.send("hello", scene.session, on_busy="wait")),
    "run": ("new", lambda scene: scene.loop.run("hello")),
    "stream": ("new", _stream),
    "watch": ("used", _watch),
    "follow_up, at rest": ("used", lambda scene: scene.loop.follow_up("hello", scene.session)),
    "follow_up, running": ("running", lambda scene: scene.loop.follow_up("hello", scene.session, key="f")),
    "enqueue": ("used", lambda scene: scene.loop.enqueue("hello", scene.session, key="e")),
    "inbox": ("running", lambda scene: scene.loop.inbox(scene.session)),
    "resume, interrupted": ("interrupted", lambda scene: scene.loop.resume(scene.session)),
    "resume, nothing to do": ("used", lambda scene: scene.loop.resume(scene.session)),
    "submit_input": ("parked", _submit),
    "list_approvals": ("unapproved", lambda scene: scene.loop.list_approvals(scene.session)),
    "approve": ("unapproved", lambda scene: _decide(scene, "approve")),
    "deny": ("unapproved", lambda scene: _decide(scene, "deny")),
    "settle": ("in doubt", _settle),
    "abort_pending": ("parked", lambda scene: scene.loop.abort_pending(scene.session)),
    "cancel": ("running", lambda scene: scene.loop.cancel(scene.session)),
    "cancel, elsewhere": ("running", lambda scene: scene.new_loop().cancel(scene.session)),
    "close_session": ("used", lambda scene: scene.loop.close_session(scene.session)),
    "fork": ("used", lambda scene: scene.loop.fork(scene.session)),
    "doctor": ("parked", lambda scene: scene.loop.doctor(scene.session)),
    "doctor, repair": ("interrupted", lambda scene: scene.loop.doctor(scene.session, repair=True)),
    "new_session": ("new", lambda scene: scene.loop.new_session(metadata={"a": "b"})),
    "prewarm": ("used", lambda scene: scene.new_loop().prewarm(scene.session)),
    "get_messages": ("used", lambda scene: scene.loop.get_messages(scene.session)),
    "get_pending": ("parked", lambda scene: scene.loop.get_pending(scene.session)),
    "schedule_timer": ("used", lambda scene: scene.loop.schedule_timer(scene.session, delay_s=60, note="look again")),
    "cancel_timer": ("used", _cancel_timer),
    "list_timers": ("used", lambda scene: scene.loop.list_timers(scene.session)),
    "list_jobs": ("used", lambda scene: scene.loop.list_jobs(scene.session)),
    "stop_job": ("used", lambda scene: scene.loop.stop_job(scene.session, "1", reason="not needed")),
    "budget": ("used", lambda scene: scene.loop.budget(scene.session)),
    "get_session_stats": ("used", lambda scene: scene.loop.get_session_stats(scene.session)),
    "list_session_stats": ("used", lambda scene: scene.loop.list_session_stats()),
    "resolve_system_prompt": ("used", lambda scene: scene.loop.resolve_system_prompt(session_id=scene.session)),
    "ensure_store": ("used", _open),
    "aclose": ("used", _aclose),
}
# Of the store, those that write or read in more than one step.
VERBS |= {
    "store.append_message": ("used", lambda scene: scene.store.append_message(scene.session, role="user", content="hi")),
    "store.import_session": ("used", _import),
    "store.create_session": ("used", lambda scene: scene.store.create_session(parent_session_id=scene.session)),
    "store.add_note": ("used", lambda scene: scene.store.add_note(scene.session, "remember")),
    "store.set_runtime_state": ("used", lambda scene: scene.store.set_runtime_state(scene.session, "n", {"a": 1})),
    "store.fire_due": ("used", lambda scene: scene.store.fire_due()),
    "store.prune_compacted_messages": ("used", lambda scene: scene.store.prune_compacted_messages(scene.session)),
    "store.vacuum": ("used", lambda scene: scene.store.vacuum()),
    "store.checkpoint": ("used", lambda scene: scene.store.checkpoint()),
}


class Cancellation(Suite):
    """On any engine; a case is a verb, cut off at each of its awaits."""

    def __init__(self, engine: str) -> None:
        self.name = f"cancellation at every await ({engine})"
        self._engine = engine
        self.cuts = 0

    def open(self, stack: ExitStack) -> None:
        self._ready = stack.enter_context(ready(self._engine))

    def cases(self) -> list[str]:
        return list(VERBS)

    def done(self) -> str:
        return f"{self.cuts} awaits"

    def run(self, case: str) -> list[str]:
        return self._ready.runner.run(self._sweep(case))

    async def _sweep(self, case: str) -> list[str]:
        how, verb = VERBS[case]
        for at in range(1, MOST_AWAITS):
            scene = Scene(self._ready)
            await scene.begin(how)
            was_cut, wrong = await self._cut(scene, verb, at)
            wrong += [*await self._used_again(scene), *await self._left_open(scene.store)]
            if wrong:
                return [f"at await {at}: {text}" for text in wrong]
            if not was_cut:
                return []
            self.cuts += 1
        return ["it never came to its end"]

    async def _used_again(self, scene: Scene) -> list[str]:
        try:
            async with asyncio.timeout(60):
                return await scene.end()
        except (PowerLoopError, TimeoutError) as error:
            return [f"it could not be used again: {error!r}"]

    async def _cut(self, scene: Scene, verb: Verb, at: int) -> tuple[bool, list[str]]:
        async def awaited() -> Any:
            return await verb(scene)

        cutting = CutOff(awaited(), at)

        async def cut() -> Any:
            return await cutting

        task = asyncio.create_task(cut())
        if scene.running is not None:
            # Behind another it waits for as long as that one runs; let that end once the cut has had its chance.
            await asyncio.wait([task], timeout=0.05)
            scene.running.cancel()
        async with asyncio.timeout(60):
            (outcome,) = await asyncio.gather(task, return_exceptions=True)
        if cutting.awaits < at:
            return False, [] if not isinstance(outcome, BaseException) else [f"uncut it raised {outcome!r}"]
        allowed = isinstance(outcome, (asyncio.CancelledError, SessionPendingError)) or not isinstance(outcome, BaseException)
        return True, [] if allowed else [f"cut off it raised {outcome!r}"]

    async def _left_open(self, store: SessionStore) -> list[str]:
        database: Any = store.database
        if isinstance(database, MemoryDatabase):
            return ["I22 a transaction is open"] if database._core.connection.in_transaction else []
        if isinstance(database, SqliteDatabase):
            return ["I22 a transaction is open"] if await database.maintain(lambda connection: connection.in_transaction) else []
        for _ in range(LOOKS):
            ((count,),) = await database.read(OPEN_TRANSACTIONS[store.dialect.name])
            if not count:
                return []
            await asyncio.sleep(LOOK_AGAIN_S)
        return [f"I22 {count} transactions are open"]
