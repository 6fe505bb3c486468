"""A run, driven by the verbs that drive sessions: `resume` and `submit_input` go on with it, and so does a worker that finds it due."""

from __future__ import annotations

from typing import Any

from power_loop.contracts.cancel import CancellationToken
from power_loop.contracts.errors import SessionArchivedError, SessionBusyError, SessionLeaseLost, WorkflowRunError
from power_loop.contracts.outcome import StatefulResult
from power_loop.contracts.rows import SessionKind, takes_no_words
from power_loop.runtime.openings import Abort, Opening, Resume
from power_loop.runtime.openings_worker import LookAfter
from power_loop.runtime.outcome import interactions
from power_loop.runtime.patience import Patience
from power_loop.runtime.session import Session
from power_loop.workflow.drive import WorkflowEngine
from power_loop.workflow.executors import InProcessExecutor
from power_loop.workflow.journal import run_id_of
from power_loop.workflow.opening import Driving
from power_loop.workflow.results import WorkflowResult

# Who waits for a run that somebody else drives looks this often.
LOOK_EVERY_S = 0.1


async def drive_run(
    loop: Any, session_id: str, opening: Opening, cancel: CancellationToken | None, patience: Patience
) -> StatefulResult | None:  # fmt: skip
    """Go on with a run as ``opening`` goes on with a session; None when the session is no run.

    Who resumes it waits for whoever drives it now, with ``patience``; who only looks does not.

    Raises as sends do: `SessionBusyError`, `SessionLeaseLost`; and `ValueError` for what a run cannot be told.
    """
    store: Any = await loop.ensure_store()
    if (await store.get_session(session_id)).kind != SessionKind.WORKFLOW:
        return None
    if isinstance(opening, Abort):
        return await _aborted(loop, session_id, opening)
    if not isinstance(opening, (Resume, LookAfter)):
        raise takes_no_words(session_id)
    looks = isinstance(opening, LookAfter)
    if looks and not opening.recovers:
        return StatefulResult(session_id, "completed")
    try:
        result = await (_driven(loop, session_id, Driving("look"), cancel) if looks else _in_turn(loop, session_id, cancel, patience))
    except WorkflowRunError as error:
        if error.code != "workflow.elsewhere":
            raise
        # Its leaves are to run where this process cannot: it is left for one that has their executor.
        return StatefulResult(session_id, "pending_tools", pending_tool_calls=[{"id": session_id}])
    return await _as_result(store, session_id, result, looks)


async def _in_turn(loop: Any, session_id: str, cancel: CancellationToken | None, patience: Patience) -> WorkflowResult:
    """Drive the run once nobody else does. What ended meanwhile stays as it is: whoever drove it heard what was said."""
    clock = (await loop.ensure_store()).clock
    since, timeout_s, driving = clock.monotonic(), patience.busy_timeout_s, Driving("resume")
    while True:
        try:
            return await _driven(loop, session_id, driving, cancel)
        except SessionBusyError:
            if patience.on_busy == "raise" or (timeout_s is not None and clock.monotonic() - since >= timeout_s):
                raise
        driving = Driving("look")
        await clock.sleep(LOOK_EVERY_S)
        if loop.drivers.closing:
            raise RuntimeError(f"the loop was closed while this waited for the run {run_id_of(session_id)!r}; what was said to it is kept")


async def _driven(loop: Any, session_id: str, driving: Driving, cancel: CancellationToken | None) -> WorkflowResult:
    """As `WorkflowEngine.drive`; whoever else drives the run is told of as sends tell of it."""
    try:
        return await WorkflowEngine(loop).drive(run_id_of(session_id), driving, cancel)
    except WorkflowRunError as error:
        if isinstance(error.__cause__, (SessionBusyError, SessionLeaseLost, SessionArchivedError)):
            raise error.__cause__ from None
        if error.code == "workflow.busy":
            head = await (await loop.ensure_store()).look(session_id)
            raise SessionBusyError(session_id, holder=head.holder, expires_at=head.lease_until) from None
        raise


async def _aborted(loop: Any, session_id: str, opening: Abort) -> StatefulResult:
    """End a run that waits for somebody as cancelled; nothing of it runs, so any executor will do."""
    store: Any = await loop.ensure_store()
    asked = len((await Session.load(store, session_id)).state.open_calls)
    stop = CancellationToken()
    stop.cancel(opening.reason)
    result = await _driven(loop, session_id, Driving("abort", executor=InProcessExecutor()), stop)
    opening.written = asked if result.status == "cancelled" else 0
    return await _as_result(store, session_id, result, looks=False)


async def _as_result(store: Any, session_id: str, result: WorkflowResult, looks: bool) -> StatefulResult:
    session = await Session.load(store, session_id)
    # A worker tries a failed send again; a failed workflow has tried what its document says.
    status = "completed" if looks and session.state.idle else result.status
    return StatefulResult(
        session_id, status, result.final, pending_interactions=interactions(session), usage=result.usage, output=result.output,
        pending_tool_calls=[call.to_message() for call in session.state.open_calls], send_index=session.head.send_index,
        send_id=f"{session_id}/{session.head.send_index}", usage_own=result.usage,
    )  # fmt: skip
