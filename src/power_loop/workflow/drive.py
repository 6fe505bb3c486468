"""Taking a run in hand: its line, its lease, its journal; then `engine` goes on with it.

There is one path. A new run, a resumed one, one whose driver died and one whose question was answered all come through here.
"""

from __future__ import annotations

import asyncio
from typing import Any

from power_loop.contracts.cancel import CancellationToken
from power_loop.contracts.errors import SessionBusyError, SessionLeaseLost, SessionNotFoundError, WorkflowRunError
from power_loop.contracts.records import SendRested, StopRequested
from power_loop.runtime.logbook import Logbook
from power_loop.workflow.budget import SharedBudget
from power_loop.workflow.engine import Run
from power_loop.workflow.executors import Executor, InProcessExecutor
from power_loop.workflow.inside import REFUSED, in_workflow
from power_loop.workflow.journal import IN_PROCESS, Order, budget_of, driver_id, ends, rows_of, told_by
from power_loop.workflow.leaf import Where
from power_loop.workflow.ledger import Above
from power_loop.workflow.opening import Driving, opened
from power_loop.workflow.plan import Plan
from power_loop.workflow.results import WorkflowResult
from power_loop.workflow.rows import RunRow
from power_loop.workflow.telling import Telling


class WorkflowEngine:
    """Drives the runs of one loop."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop

    async def drive(self, run_id: str, driving: Driving, cancel: CancellationToken | None = None) -> WorkflowResult:
        """Drive the run until it is over or waits for somebody; what it has come to.

        Raises `WorkflowRunError`: ``workflow.busy`` when somebody else drives it, ``workflow.changed`` when finished steps would
        be asked something else today; nothing was run then.
        """
        if in_workflow():
            raise WorkflowRunError(REFUSED, run_id=run_id)
        store, driver = await self._loop.drivers.open()
        session_id = driver_id(run_id)
        if not driver.lines.enter(session_id):
            raise busy(run_id, "this process")
        try:
            return await self._held(store, run_id, driving, cancel)
        except SessionBusyError as error:
            raise busy(run_id, error.holder or "somebody else") from error
        except SessionLeaseLost as error:
            raise busy(run_id, "another driver, which took it over") from error
        except SessionNotFoundError as error:
            if error.session_id != session_id:
                raise
            raise unknown(run_id) from error
        finally:
            driver.lines.leave(session_id)

    async def _held(self, store: Any, run_id: str, driving: Driving, cancel: CancellationToken | None) -> WorkflowResult:
        drivers, loop = self._loop.drivers, self._loop
        ttl_ms = int(loop.config.running.lease_ttl_s * 1000)
        book = Logbook(store, driver_id(run_id), holder=drivers.holder, clock=store.clock, ids=store.ids, lease_ttl_ms=ttl_ms)
        records = await book.load()
        order = driving.order
        if order is None:
            given: dict[str, Any] = (await store.get_session(book.session_id)).config or {}
            order = Order.of({**given, **told_by(records), **(driving.changed or {})})
        now = store.clock.now_ms()
        rows = rows_of(records) or [RunRow("started", now)]
        plan = Plan(order.spec, rows, run_id=run_id, on_change=driving.on_change)
        if not opened(book, plan, driving, order, now):
            return plan.result()
        drivers.lifeline.hold()
        executor = driving.executor or executor_for(order, drivers.executor)
        if executor is None:
            await self._put_down(book)
            raise elsewhere(run_id, order)
        await book.take(drivers.lifeline.is_dead)
        where = Where(loop, executor, run_id, book.session_id)
        tell = Telling(loop.event_bus, book.session_id, run_id, order.spec.name)
        run = Run(where, book, order, plan, self._budget(order, plan, driving), store.clock, tell)
        run.ends = ends(records)
        if not isinstance(executor, InProcessExecutor):
            run.above = book.accounts = Above(store, book.session_id)
            await run.above.open()
        return await self._watched(run, cancel)

    async def _put_down(self, book: Logbook) -> None:
        """What a dead driver holds is given back: whoever has the executor need not wait for its lease."""
        if book.session.head.holder is not None:
            book.note(SendRested("interrupted"))
            await book.take(self._loop.drivers.lifeline.is_dead)
            await book.flush(release=True, unheard=True)

    async def _watched(self, run: Run, cancel: CancellationToken | None) -> WorkflowResult:
        drivers, session_id = self._loop.drivers, run.book.session_id
        minding = asyncio.create_task(_mind(cancel, run)) if cancel is not None else None
        drivers.runs[session_id] = run
        try:
            drivers.heartbeat.hold(run.book.session, run.scope)
            if cancel is not None and cancel.is_cancelled():  # a run that only waits would be at rest before it is minded
                run.scope.request(StopRequested("cancelled", cancel.reason, "token"))
            if drivers.closing and run.order.detached:  # the loop began to close while the run was taken in hand
                run.interrupt()
            return await run.go()
        finally:
            drivers.heartbeat.drop(session_id)
            del drivers.runs[session_id]
            if minding is not None:
                minding.cancel()

    def _budget(self, order: Order, plan: Plan, driving: Driving) -> SharedBudget | None:
        if driving.budget is not None:
            return driving.budget
        budget = budget_of(order)
        if budget is not None:
            budget.charge(plan.usage.total_tokens, cost=plan.usage.cost)
        return budget


async def _mind(cancel: CancellationToken, run: Run) -> None:
    run.scope.request(StopRequested("cancelled", await cancel.wait(), "token"))


def executor_for(order: Order, given: Executor | None) -> Executor | None:
    """Who runs the leaves when nobody says how: ``given`` where it is of the kind that they were to run with, else None."""
    if order.executor == IN_PROCESS:
        return InProcessExecutor()
    return given if type(given).__name__ == order.executor else None


def elsewhere(run_id: str, order: Order) -> WorkflowRunError:
    text = f"the leaves of the run {run_id} run with {order.executor}, and not in this process: give executor="
    return WorkflowRunError(text, run_id=run_id, code="workflow.elsewhere")


def busy(run_id: str, whom: str) -> WorkflowRunError:
    text = f"the run {run_id} is driven by {whom} now; get_workflow() shows how far it is"
    return WorkflowRunError(text, run_id=run_id, code="workflow.busy")


def unknown(run_id: str) -> WorkflowRunError:
    return WorkflowRunError(f"there is no run {run_id!r} here; list_workflows() shows those of a session", run_id=run_id)
