"""Whether the code that asks runs inside of a workflow: in a leaf, or in something that a leaf began."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from power_loop.contracts.rows import SessionKind

REFUSED = "A workflow inside a workflow is refused: this agent is a leaf of one already. Do the task yourself."

INSIDE: ContextVar[bool] = ContextVar("power_loop_in_workflow", default=False)


def in_workflow() -> bool:
    """The running task is part of a leaf of a workflow, in this process or in one that was begun for the leaf."""
    return INSIDE.get()


async def is_below_a_run(store: Any, session_id: str | None) -> bool:
    """The session stands below a run, however far."""
    while session_id is not None:
        row = await store.get_session(session_id)
        if row.kind == SessionKind.WORKFLOW:
            return True
        session_id = row.parent_session_id
    return False
