"""A run in hand: what the plan says is begun, what comes of it is written, until nothing is left to do.

Durable first: a row is written before anything begins that follows from it. Leaves that end together are one batch.
Whoever goes on after a crash reads the journal and does the same; a leaf that was begun and not journaled finds its own session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from power_loop.agents.above import hand_down
from power_loop.contracts.children import CHILD, GIVEN_UP
from power_loop.contracts.errors import PowerLoopError, SessionLeaseLost, SessionNotFoundError
from power_loop.contracts.records import Answered, CallCharged, Decided, SendEnded, SendRested, StepChanged, StopRequested, UserSaid
from power_loop.contracts.soon import soon
from power_loop.contracts.store import Conflict, RecordRow
from power_loop.contracts.to_end import to_its_end
from power_loop.contracts.usage import Usage
from power_loop.runtime.cancel import Cut, Scope
from power_loop.runtime.logbook import Logbook
from power_loop.workflow.budget import SharedBudget
from power_loop.workflow.handed import prices_of, said_to
from power_loop.workflow.journal import Order, record_of
from power_loop.workflow.leaf import Ended, Where, question_of, run_leaf
from power_loop.workflow.leaves import Leaf
from power_loop.workflow.ledger import PURPOSE, Above
from power_loop.workflow.nodes import HumanNode
from power_loop.workflow.outcome import of_answer
from power_loop.workflow.plan import Plan
from power_loop.workflow.results import WorkflowResult
from power_loop.workflow.rows import Row, RunRow, StepRow, call_usage
from power_loop.workflow.telling import Telling, end_text

# While somebody is asked and leaves run, the inbox is looked at this often; what stops a run cuts it off at once.
LOOK_EVERY_S = 0.5
# Posted to a run, it says nothing but that somebody should come for it.
LOOK_AGAIN = StepChanged("", {})
ABOVE = "a budget above the run is used up"
NOTHING = Usage()


class Run:
    """One run, held by this process."""

    book: Logbook
    budget: SharedBudget | None
    clock: Any
    order: Order
    plan: Plan
    tell: Telling
    where: Where

    def __init__(
        self, where: Where, book: Logbook, order: Order, plan: Plan, budget: SharedBudget | None, clock: Any, tell: Telling
    ) -> None:  # fmt: skip
        self.where, self.book, self.order, self.plan, self.budget, self.clock, self.tell = where, book, order, plan, budget, clock, tell
        self.scope: Scope = Scope()
        self.above: Above | None = None
        """Ledgers that leaves elsewhere charge; leaves here do that themselves."""
        self.ends = 0
        """How often it came to an end before."""
        self._tasks: dict[str, asyncio.Task[Ended]] = {}
        self._reserved: dict[str, int] = {}
        self._stop: RunRow | None = None
        self._task: asyncio.Task[Any] | None = asyncio.current_task()
        self._after: list[Callable[[], Any]] = []
        """Called once what is noted is stored."""

    def interrupt(self) -> None:
        """Go no further in this process; the run can be gone on with."""
        if self._task is not None:
            soon(self._task.get_loop(), self._task.cancel)

    # --- going on ---------------------------------------------------------------------------

    async def go(self) -> WorkflowResult:
        """Until the run is over, or waits for somebody."""
        try:
            await self._tell_beginning()
            while True:
                try:
                    await self._to_rest()
                except Cut:
                    await self._stopped_by(self.scope.stop)
                if await self._leave():
                    return self.plan.result()
        except BaseException as error:
            await to_its_end(self._break_off(error))
            raise

    async def _to_rest(self) -> None:
        while True:
            self._hear()
            self._expire()
            if self.scope.stop is not None and self._stop is None:
                raise Cut
            await self._hand_down()
            self._ask()
            self._withdraw()
            await self._write()
            if self.plan.is_over or self._stop is not None:
                await self._let_end()
                return
            await self._begin_ready()
            if not self._tasks:
                if self.plan.ready() and self._stop is None:
                    self._stop = RunRow("stopped", status="budget_exceeded", reason="the budget of the run is used up")
                return
            await self._wait()

    def _apply(self, row: Row, *, closes: Any = ()) -> None:
        self.plan.apply(row)
        self.book.note(record_of(row), closes=closes)

    async def _write(self) -> None:
        await self.book.flush()
        self.tell.wrote()
        after, self._after = self._after, []
        for each in after:
            each()

    async def _begin_ready(self) -> None:
        ready = self.plan.ready()
        for at, leaf in enumerate(ready):
            if self._stop is not None or not self._afford(leaf):
                return
            if self.above is None:
                self._begin(leaf)
            elif (share := await self._let_through(self.above, leaf, len(ready) - at)) is not None:
                self._begin(leaf._replace(handed={**leaf.handed, **share}))
            else:
                self._give_back(leaf.key)
                if not self._tasks:  # else it waits for what they give back
                    self._stop = RunRow("stopped", status="budget_exceeded", reason=ABOVE)
                return

    async def _let_through(self, above: Above, leaf: Leaf, among: int) -> Mapping[str, Any] | None:
        """What a leaf elsewhere is given; None when nothing is left above the run. Its share is reserved before it begins."""
        share = await above.share(leaf.key, among, self.book.session.head.send_index)
        if share is None:
            return None
        await self.book.flush()
        if share and not above.has(leaf.key):
            return None
        return {**({"share": share} if share else {}), **prices_of(self.where.loop.config.prices)}

    def _begin(self, leaf: Leaf) -> None:
        self.plan.apply(StepRow(leaf.key, "started", at=self.clock.now_ms(), attempt=leaf.attempt))
        self._tasks[leaf.key] = asyncio.create_task(run_leaf(self.where, leaf, self.clock))
        self.tell.began(leaf)

    def _afford(self, leaf: Leaf) -> bool:
        """Set aside what the leaf may take, or what is left of it; False when there is nothing left to set aside."""
        budget = self.budget
        if budget is None or leaf.key in self._reserved:
            return True
        wanted = min((leaf.spec.max_tokens if leaf.spec is not None else None) or 1, budget.available)
        if wanted < 1 or not budget.reserve(wanted):
            return False
        self._reserved[leaf.key] = wanted
        return True

    def _give_back(self, key: str, used: Usage = NOTHING) -> None:
        """What was set aside for the leaf, less what it ``used``."""
        reserved = self._reserved.pop(key, 0)
        if self.budget is not None:
            self.budget.charge(used.total_tokens, reserved=reserved, cost=used.cost)
        if self.above is not None:
            self.above.back(key)

    async def _wait(self) -> None:
        for key in self.plan.to_cancel():
            if (task := self._tasks.get(key)) is not None:
                task.cancel()
        with self.scope:
            await asyncio.wait(self._tasks.values(), timeout=self._patience_s(), return_when=asyncio.FIRST_COMPLETED)
            if self.plan.questions():
                await self.book.scan()
        for key in [key for key, task in self._tasks.items() if task.done()]:
            self._end(key, self._tasks.pop(key))

    def _patience_s(self) -> float | None:
        due = list(self.plan.deadlines().values())
        until_due = max(0, min(due) - self.clock.now_ms()) / 1000 if due else None
        if not self.plan.questions():
            return until_due
        return LOOK_EVERY_S if until_due is None else min(LOOK_EVERY_S, until_due)

    def _end(self, key: str, task: asyncio.Task[Ended]) -> None:
        """A leaf ended, or was cut off: then it may be begun again."""
        ended = Ended(StepRow(key, "returned", at=self.clock.now_ms())) if task.cancelled() else task.result()
        if ended.stops and self._stop is None:
            self._stop = RunRow("stopped", status=ended.stops, reason=ABOVE)
        news = self.plan.news(ended.row)
        self._give_back(key, news)
        if ended.row.state == "returned" and not news:
            self.plan.apply(ended.row)
        else:
            self._apply(ended.row, closes=ended.closes)
            self._after += [ended.after] if ended.after is not None else []
        if self.above is not None and news:
            row = self._note(CallCharged(PURPOSE, call_usage(news)))
            self.above.charge(row.send_index, row.seq, call_usage(news))
        self.tell.ended(ended.row)

    # --- from outside -----------------------------------------------------------------------

    def _hear(self) -> None:
        """What was posted to the run. A word is none of its business; a stop cuts it off."""
        for item in list(self.book.waiting):
            record = item.record
            if isinstance(record, (Answered, Decided)) and self.book.hears(record):
                self.book.note(record, heard=item)
                continue
            if isinstance(record, StopRequested) and not self.plan.is_over:
                self.scope.request(record)
            self.book.drop(item)

    async def _hand_down(self) -> None:
        """Who waited and was answered goes on; who waits for somebody, and is not known to, is parked again."""
        state = self.book.state
        for key, row in self.plan.questions().items():
            if key in state.parked:
                continue
            asked: Mapping[str, Any] = row.interaction or {}
            said = said_to(key, asked.get("interaction_id", ""), state.answers, state.decisions)
            if said is None:
                self.book.note(record_of(row))
            elif isinstance(node := self.plan.leaf(key).node, HumanNode):
                outcome = of_answer(node, said["value"])
                self._apply(_answered(row, outcome.text, outcome.payload, self.clock.now_ms()))
            elif row.kept is None:
                with suppress(SessionNotFoundError):
                    await hand_down(self.where.loop, asked.get("state") or {}, said["value"], f"from:{self.where.run_id}")
                self.plan.go_on(key)
            else:
                self.plan.go_on(key, {"session": row.kept, "asked": asked["state"]["interaction_id"], "said": said})

    def _ask(self) -> None:
        while questions := [leaf for leaf in self.plan.ready() if isinstance(leaf.node, HumanNode)]:
            for leaf in questions:
                self._apply(question_of(self.where.run_id, leaf, self.clock))

    def _withdraw(self) -> None:
        """What was asked for a step that nobody waits for any more is asked no more."""
        state, waits = self.book.state, self.plan.questions()
        for key in [call.id for call in state.open_calls if call.id in state.parked and call.id not in waits]:
            # The row names the session that waited in its place, so that nobody goes on with that either.
            below: Mapping[str, Any] = (state.question(key) or {}).get("state") or {}
            row = StepRow(key, "returned", at=self.clock.now_ms(), status=GIVEN_UP, session_id=below.get(CHILD))
            self.book.note(record_of(row))

    def _expire(self) -> None:
        now = self.clock.now_ms()
        for key, due in self.plan.deadlines().items():
            if due > now:
                continue
            if self.plan.is_timed(key):
                self._apply(StepRow(key, "timeout", at=now))
            elif not key and not self.plan.is_over:
                self.scope.request(StopRequested("timeout", f"the run took longer than {self.order.spec.timeout_s:g} s"))

    # --- ending -----------------------------------------------------------------------------

    async def _stopped_by(self, stop: StopRequested | None) -> None:
        assert stop is not None
        if stop.by == "lease":
            raise SessionLeaseLost(self.book.session_id, epoch=self.book.session.head.epoch)
        await self._cut_off()
        if not self.plan.is_over:
            self._stop = RunRow("stopped", status=stop.status, reason=stop.reason)

    async def _let_end(self) -> None:
        """What runs while the run stops for want of budget may finish; what nobody wants any more is cut off."""
        if self.plan.is_over:
            await self._cut_off()
        while self._tasks:
            await self._wait()
        self._hear()

    async def _cut_off(self) -> None:
        """End what runs; what ends well all the same is kept."""
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await to_its_end(asyncio.wait(self._tasks.values()))
        for key in list(self._tasks):
            self._end(key, self._tasks.pop(key))

    async def _leave(self) -> bool:
        """Write how it stands, and give it back; False when something was said meanwhile that it has to hear."""
        if self.plan.is_over:
            self._stop = None
        elif self._stop is not None:
            self._apply(replace(self._stop, at=self.clock.now_ms()))
        else:
            return await self._rest()
        await self._write()
        if self.order.detached:
            await self._tell_parent()
        self._close(self.plan.status)
        while not await self.book.flush(release=True):
            for item in list(self.book.waiting):
                self.book.drop(item)
        self.tell.wrote()
        self.tell.stands(self.plan.status)
        return True

    async def _rest(self) -> bool:
        """It waits for somebody, and holds no process meanwhile. Somebody is to come when that takes too long."""
        if due := list(self.plan.deadlines().values()):
            store: Any = await self.where.loop.ensure_store()
            await store.post(self.book.session_id, LOOK_AGAIN, key=f"deadline:{min(due)}", not_before=min(due))
        self._note(SendRested("waiting_for_input"))
        left = await self.book.flush(release=True)
        self.tell.wrote()
        if left:
            self.tell.stands(self.plan.status)
        else:
            await self._tell_beginning()
        return left

    def _close(self, status: str) -> None:
        """The last records of the run; nobody is waited for any more."""
        for key in [call.id for call in self.book.state.open_calls]:
            self.book.note(record_of(StepRow(key, "returned", at=self.clock.now_ms())))
        reason = self._stop.reason if self._stop is not None else ""
        if self._stop is None:
            self.book.note(record_of(RunRow("ended", self.clock.now_ms(), status)))
        self._note(SendEnded(status, reason))

    def _note(self, record: CallCharged | SendRested | SendEnded) -> RecordRow:
        """Note what listeners hear of, too."""
        row = self.book.note(record)
        self.tell.noted(record, row)
        return row

    async def _tell_beginning(self) -> None:
        if self.tell.is_heard:
            self.tell.goes_on(await self._parent())

    async def _parent(self) -> str | None:
        store: Any = await self.where.loop.ensure_store()
        parent: str | None = (await store.get_session(self.book.session_id)).parent_session_id
        return parent

    async def _tell_parent(self) -> None:
        parent = await self._parent()
        if parent is None:
            return
        store: Any = await self.where.loop.ensure_store()
        number = self.ends + 1
        key = f"workflow:{self.where.run_id}" + (f":{number}" if number > 1 else "")
        result = self.plan.result()
        told = UserSaid(end_text(result), metadata={"workflow_run_id": self.where.run_id, "workflow_status": result.status})
        try:
            await store.post(parent, told, key=key)
        except (SessionNotFoundError, Conflict):
            return  # nobody is left to be told

    async def _break_off(self, error: BaseException) -> None:
        """This process goes no further: cut off what runs, and give the run back as one that can go on."""
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values())
        if isinstance(error, (SessionLeaseLost, SessionNotFoundError)) or not self.book.is_held:
            return
        if not isinstance(error, (Exception, asyncio.CancelledError)):
            return  # the process is going down; whoever comes next finds the lease of a dead one
        for key in list(self._tasks):
            task = self._tasks.pop(key)
            if not task.cancelled() and task.exception() is None:
                self._end(key, task)
        over = self.book.state.idle  # it was only its last batch that could not be written
        if not over:
            self._note(SendRested("interrupted"))
        try:
            await self.book.flush(release=True, unheard=True)
            self.tell.wrote()
            if self.order.detached and not over:  # a worker elsewhere is to come for it
                store: Any = await self.where.loop.ensure_store()
                await store.post(self.book.session_id, LOOK_AGAIN, key=f"again:{self.book.session.head.head}")
        except (PowerLoopError, Conflict):
            return  # whoever comes next waits for the lease to end


def _answered(row: StepRow, text: str, payload: Any, at: int) -> StepRow:
    return StepRow(
        row.step, "completed", at=at, attempt=row.attempt, input_hash=row.input_hash, spec_hash=row.spec_hash, text=text, payload=payload
    )  # fmt: skip
