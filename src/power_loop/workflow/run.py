"""Running workflows: `create_workflow`, runs that are waited for, detached runs, and going on with those that stopped.

Every run is a session of kind ``workflow`` below its parent, and its journal are that session's records; so it is driven
under a lease, found by workers, exported, and deleted with its parent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

from power_loop.agents.above import wake_for_those_below
from power_loop.contracts.cancel import CancellationLike, CancellationToken
from power_loop.contracts.errors import SessionNotFoundError, WorkflowRunError
from power_loop.contracts.log import log
from power_loop.contracts.rows import SessionKind, SubagentLifecycle
from power_loop.runtime.ports import check_priced
from power_loop.workflow.budget import SharedBudget
from power_loop.workflow.drive import WorkflowEngine, unknown
from power_loop.workflow.executors import Executor, InProcessExecutor
from power_loop.workflow.inside import REFUSED, in_workflow
from power_loop.workflow.journal import IN_PROCESS, Order, driver_id, numbers_of, opening_words
from power_loop.workflow.nodes import AgentNode, WorkflowBudget
from power_loop.workflow.opening import Driving
from power_loop.workflow.places import Map
from power_loop.workflow.results import WorkflowResult
from power_loop.workflow.rows import OnChange
from power_loop.workflow.spec import WorkflowSpec

Budget = SharedBudget | WorkflowBudget


class WorkflowRunHandle(NamedTuple):
    """A detached run, as this process drives it."""

    run_id: str
    task: asyncio.Task[WorkflowResult]
    """Cancelling it breaks the driving off here; a worker, or `resume_detached`, goes on."""
    cancel_token: CancellationToken
    """Cancelling it cancels the run."""


class Workflow:
    """A sound workflow with a loop to run it. One object is one run."""

    def __init__(
        self, spec: WorkflowSpec, parent_loop: Any, executor: Executor | None, budget: Budget | None, parent_session_id: str | None
    ) -> None:  # fmt: skip
        self.spec = spec
        self.parent_session_id = parent_session_id
        self.run_id: str = ""
        """16 hex digits, once it was begun."""
        self._loop, self._executor, self._budget = parent_loop, executor, budget
        self._token = CancellationToken()

    async def run(self, *, stop_event: CancellationLike = None) -> WorkflowResult:
        """Run it to its end, or until it waits for somebody. Failures of leaves are in the result.

        Raises `WorkflowRunError` inside of another workflow, `ValueError` for an unknown parent session and for a budget of money
        with a model that has no price, and what a store raises.
        """
        return await self.run_as(None, stop_event)

    async def start(self, *, detached: bool = False, eager_wake: bool = False) -> WorkflowRunHandle:
        """Begin it, and return; ``detached`` runs tell their parent of their end, and survive this process."""
        if detached:
            return await run_detached(self, eager_wake=eager_wake)
        order = self._order()
        run_id = await self._create(order)
        engine = WorkflowEngine(self._loop)
        return WorkflowRunHandle(run_id, asyncio.create_task(engine.drive(run_id, self._driving("begin", order), self._token)), self._token)

    def cancel(self, reason: str = "cancelled") -> None:
        """Stop the run; what is finished is kept, and `resume_run` goes on."""
        self._token.cancel(reason)

    @property
    def cancelled(self) -> bool:
        """`cancel` was called."""
        return self._token.is_cancelled()

    # --- for this module --------------------------------------------------------------------

    async def run_as(self, run_id: str | None, stop_event: CancellationLike) -> WorkflowResult:
        """`run`, under an id that the caller chose."""
        order = self._order()
        run_id = await self._create(order, run_id)
        token = self._token if stop_event is None else CancellationToken.any_of(self._token, CancellationToken.from_any(stop_event))
        return await WorkflowEngine(self._loop).drive(run_id, self._driving("begin", order), token)

    async def detach(self, run_id: str | None = None) -> WorkflowRunHandle:
        """Begin it for good: whoever comes for it from now on finds what to do."""
        if self.parent_session_id is None:
            raise ValueError("a detached run needs a parent session that is told of its end: create_workflow(…, parent_session_id=…)")
        order = self._order()._replace(detached=True)
        run_id = await self._create(order, run_id)
        await self.call_for(run_id)
        work = WorkflowEngine(self._loop).drive(run_id, self._driving("look", order), self._token)
        return WorkflowRunHandle(run_id, asyncio.create_task(work), self._token)

    async def call_for(self, run_id: str) -> None:
        """Have somebody come for the run, who begins it. Said again, it changes nothing."""
        store: Any = await self._loop.ensure_store()
        await store.post(driver_id(run_id), opening_words(self.spec), key="begin")

    def _order(self) -> Order:
        if in_workflow():
            raise WorkflowRunError(REFUSED)
        if self.run_id:
            raise WorkflowRunError(f"this workflow was begun already, as run {self.run_id}; make another one", run_id=self.run_id)
        inside = self._executor is None or isinstance(self._executor, InProcessExecutor)
        if inside:
            _refuse_unpriced(self.spec, numbers_of(self._budget or self.spec.budget), self._loop)
        return Order(self.spec, numbers_of(self._budget), IN_PROCESS if inside else type(self._executor).__name__)

    def _driving(self, opening: Any, order: Order) -> Driving:
        return Driving(opening, order, self._executor, _shared(self._budget))

    async def _create(self, order: Order, run_id: str | None = None) -> str:  # its first commit has all that a successor needs
        self._loop.drivers.refuse_when_closed("run")
        store: Any = await self._loop.ensure_store()
        self.run_id = run_id or store.ids.token(8)
        metadata = {"workflow": self.spec.name}
        await store.create_session(
            session_id=driver_id(self.run_id), parent_session_id=self.parent_session_id, kind=SessionKind.WORKFLOW,
            lifecycle=SubagentLifecycle.LINKED, agent=self._loop.name, metadata=metadata, config=order.to_dict(),
        )  # fmt: skip
        return self.run_id


def _refuse_unpriced(spec: WorkflowSpec, budget: Mapping[str, Any] | None, loop: Any) -> None:
    """A budget of money counts nothing where a model has no price. Leaves elsewhere tell themselves what they cost."""
    if budget is None or budget["cost"] is None:
        return
    for name, place in Map(spec).leaves.items():
        if isinstance(place.node, AgentNode):
            model = place.node.spec.model or loop.config.model or getattr(loop.llm, "model", None)
            check_priced(loop.config.prices, model, "a budget of cost", f" of the step {name!r}")


def create_workflow(
    spec: WorkflowSpec | str | Mapping[str, Any], *, parent_loop: Any, executor: Executor | None = None, budget: Budget | None = None,
    parent_session_id: str | None = None,
) -> Workflow:  # fmt: skip
    """A workflow that ``parent_loop`` will run. ``budget`` goes before that of the document.

    Raises `WorkflowSpecError` with all that is wrong with ``spec``.
    """
    if not isinstance(spec, WorkflowSpec):
        spec = WorkflowSpec.from_json(spec)
    return Workflow(spec, parent_loop, executor, budget, parent_session_id)


async def run_detached(wf: Workflow, *, eager_wake: bool = False) -> WorkflowRunHandle:
    """Begin a run that outlives this call, and this process; its end is posted to the parent session, once.

    The parent is driven by whoever drives sessions (a `Worker`), and with ``eager_wake`` by this process at once.
    Raises `ValueError` without a parent session that is there.
    """
    handle = await wf.detach()
    return _woken(wf._loop, wf.parent_session_id or "", handle) if eager_wake else handle  # pyright: ignore[reportPrivateUsage]  # its own module


def register_wake_guard(loop: Any) -> None:
    """Accepted from programs of 3.x, and without effect: a run's end waits in its parent's inbox, where it is heard once in any case."""


def _woken(loop: Any, parent_sid: str, handle: WorkflowRunHandle) -> WorkflowRunHandle:
    async def to_the_parent() -> WorkflowResult:
        result = await handle.task
        await wake(loop, parent_sid)
        return result

    return handle._replace(task=asyncio.create_task(to_the_parent()))


async def wake(loop: Any, session_id: str) -> None:
    """Have the session hear what waits for it, in this process and now."""
    try:
        await loop.drivers.hear(session_id)
    except Exception:  # of the model, or of the host's hooks and tools; the word stays for a worker
        log.warning("session %s: it was told of the end of a workflow, and could not be driven", session_id, exc_info=True)


async def resume_run(
    loop: Any, parent_sid: str | None, run_id: str, *, executor: Executor | None = None, budget: Budget | None = None,
    on_change: OnChange = "error", spec: WorkflowSpec | str | Mapping[str, Any] | None = None, stop_event: CancellationLike = None,
) -> WorkflowResult:  # fmt: skip
    """Go on with a run: finished steps are read, unfinished ones run, failed ones run again.

    ``spec`` is the workflow as it is now, where it was changed since. ``on_change`` says what becomes of finished steps that would
    be asked something else by it: "error" refuses before anything runs, "keep" takes their results, "rerun" runs them again.
    Raises `WorkflowRunError` for an unknown run, one that is driven elsewhere (``workflow.busy``), and ``workflow.changed``.
    """
    if on_change not in ("error", "keep", "rerun"):
        raise ValueError(f"on_change is {on_change!r}; it must be 'error', 'keep' or 'rerun'")
    loop.drivers.refuse_when_closed("resume_run")
    await of_parent(await loop.ensure_store(), parent_sid, run_id)
    token = CancellationToken.from_any(stop_event) if stop_event is not None else None
    return await _gone_on_with(loop, run_id, _resuming(executor, budget, on_change, spec, detached=False), token)


async def resume_detached(
    loop: Any, parent_sid: str, run_id: str, *, executor: Executor | None = None, budget: Budget | None = None,
    on_change: OnChange = "error", spec: WorkflowSpec | str | Mapping[str, Any] | None = None, eager_wake: bool = False,
) -> WorkflowRunHandle:  # fmt: skip
    """The same, in a task; its end is posted to the parent session."""
    loop.drivers.refuse_when_closed("resume_detached")
    await of_parent(await loop.ensure_store(), parent_sid, run_id)
    token = CancellationToken()
    work = _gone_on_with(loop, run_id, _resuming(executor, budget, on_change, spec, detached=True), token)
    handle = WorkflowRunHandle(run_id, asyncio.create_task(work), token)
    return _woken(loop, parent_sid, handle) if eager_wake else handle


async def _gone_on_with(loop: Any, run_id: str, driving: Driving, token: CancellationToken | None) -> WorkflowResult:
    """Drive the run, and look once more where a leaf heard its answer from somebody who was stopped before the run was told."""
    engine = WorkflowEngine(loop)
    result = await engine.drive(run_id, driving, token)
    if result.status == "waiting_for_input" and await wake_for_those_below(await loop.ensure_store(), driver_id(run_id)):
        return await engine.drive(run_id, driving._replace(opening="look", changed=None), token)
    return result


def _resuming(executor: Executor | None, budget: Budget | None, on_change: OnChange, spec: Any, *, detached: bool) -> Driving:
    changed: dict[str, Any] = {"detached": True} if detached else {}
    if spec is not None:
        changed["workflow"] = (spec if isinstance(spec, WorkflowSpec) else WorkflowSpec.from_json(spec)).to_dict()
    if budget is not None:
        changed["budget"] = numbers_of(budget)
    asked = None if on_change == "error" else on_change
    return Driving("resume", None, executor, _shared(budget), asked, changed or None)


def _shared(budget: Budget | None) -> SharedBudget | None:
    """A budget that others share, and count; one of the run's own is in its order, and what the run has used counts."""
    return budget if isinstance(budget, SharedBudget) else None


async def of_parent(store: Any, parent_sid: str | None, run_id: str) -> Any:
    """The session of this run. Raises `WorkflowRunError` when that parent has no such run."""
    try:
        row = await store.get_session(driver_id(run_id))
    except (SessionNotFoundError, ValueError):
        raise unknown(run_id) from None
    if row.kind != SessionKind.WORKFLOW or row.parent_session_id != parent_sid:
        raise unknown(run_id)
    return row
