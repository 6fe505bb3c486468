"""Looking at runs without taking them: which there are, how far each is, what it came to; and deleting them."""

from __future__ import annotations

from typing import Any

from power_loop.contracts.codec import from_cells
from power_loop.contracts.errors import SessionNotFoundError
from power_loop.contracts.records import SendEnded, SendRested
from power_loop.contracts.rows import SessionKind
from power_loop.contracts.store import RecordRow
from power_loop.runtime.outcome import interactions
from power_loop.runtime.session import Session
from power_loop.workflow.draw import mermaid
from power_loop.workflow.journal import Order, driver_id, rows_of, run_id_of, told_by
from power_loop.workflow.plan import Plan
from power_loop.workflow.results import WorkflowResult
from power_loop.workflow.run import of_parent


async def list_workflows(loop: Any, parent_sid: str | None) -> list[dict[str, Any]]:
    """The runs of a session, oldest first: ``run_id``, ``name``, ``status``, ``session_id``, ``created_at``, ``updated_at``.

    ``status`` is how it ended; ``waiting_for_input``; ``running`` while somebody drives it; ``interrupted`` when nobody does.
    """
    store: Any = await loop.ensure_store()
    if parent_sid is None:
        rows = [row for row in await store.list_sessions(kind=SessionKind.WORKFLOW, limit=1_000_000) if row.parent_session_id is None]
        rows.reverse()
    else:
        rows = [row for row in await store.list_children(parent_sid) if row.kind == SessionKind.WORKFLOW]
    return [await _line(loop, store, row) for row in rows]


async def get_workflow(loop: Any, parent_sid: str | None, run_id: str, *, detail: bool = False) -> dict[str, Any]:
    """One run: as in `list_workflows`, and ``progress`` by step, ``waiting_for``, ``usage``, ``errors``, ``warnings``.

    ``detail`` adds the whole ``result``, the ``spec``, and a drawing (``mermaid``). Raises `WorkflowRunError` for an unknown run.
    """
    store: Any = await loop.ensure_store()
    row = await of_parent(store, parent_sid, run_id)
    found = await _line(loop, store, row)
    plan = await plan_of(store, row, run_id)
    result = plan.result()
    asked = interactions(await Session.load(store, driver_id(run_id)))
    found |= {
        "progress": plan.progress(), "waiting_for": asked, "usage": dict(result.usage), "errors": result.errors,
        "warnings": list(plan.spec.warnings), "final": result.final,
    }  # fmt: skip
    return found | ({"result": result.to_dict(), "spec": plan.spec.to_dict(), "mermaid": mermaid(plan)} if detail else {})


async def delete_workflow(loop: Any, parent_sid: str | None, run_id: str) -> int:
    """Cancel the run if it runs, then delete it with all its leaves' sessions; how many sessions are gone."""
    await of_parent(await loop.ensure_store(), parent_sid, run_id)
    return await loop.close_session(driver_id(run_id))


async def prune_workflows(loop: Any, *, older_than_ms: int) -> int:
    """Delete runs that are over, and that nobody touched since then (an age, or a point in time, in ms); how many sessions are gone."""
    store: Any = await loop.ensure_store()
    gone = 0
    for session_id in await store.workflows_over(older_than_ms=older_than_ms):
        try:
            gone += await loop.close_session(session_id)
        except SessionNotFoundError:
            continue  # gone with the run that it was begun in
    return gone


async def rehydrate(store: Any, parent_sid: str | None, run_id: str) -> WorkflowResult:
    """What a run has come to, as its journal tells. Raises `WorkflowRunError` for an unknown run."""
    return (await plan_of(store, await of_parent(store, parent_sid, run_id), run_id)).result()


async def plan_of(store: Any, row: Any, run_id: str) -> Plan:
    """The plan of the run that the session ``row`` is, as its journal has it; nobody runs what was begun."""
    records = [from_cells(row.cells) for row in await store.rows(row.session_id, after=0)]
    given: dict[str, Any] = row.config or {}
    return Plan(Order.of({**given, **told_by(records)}).spec, rows_of(records), run_id=run_id)


async def _line(loop: Any, store: Any, row: Any) -> dict[str, Any]:
    return {
        "run_id": run_id_of(row.session_id), "name": row.metadata.get("workflow", ""),
        "status": await _status(loop, store, row.session_id), "session_id": row.session_id, "created_at": row.created_at,
        "updated_at": row.updated_at,
    }  # fmt: skip


async def _status(loop: Any, store: Any, session_id: str) -> str:
    head = await store.look(session_id)
    if head.held_at(store.clock.now_ms()) and not loop.drivers.lifeline.is_dead(head.holder):
        return "running"
    last = await _last(store, session_id, head.head)
    if isinstance(last, (SendEnded, SendRested)):
        return last.status
    return "running" if not head.head and await _in_hand(loop, session_id) else "interrupted"


async def _in_hand(loop: Any, session_id: str) -> bool:
    """This loop is about to take the run: it has no record yet, nor a holder."""
    _, driver = await loop.drivers.open()
    return session_id in driver.lines.names()


async def _last(store: Any, session_id: str, head: int) -> Any:
    rows: list[RecordRow] = await store.rows(session_id, after=head - 1) if head else []
    return from_cells(rows[-1].cells) if rows else None
