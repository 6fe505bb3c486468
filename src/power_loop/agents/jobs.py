"""Sub-agents and workflows below a session, as jobs: what runs there, or ran, beside what the session itself does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from power_loop.contracts.agents import SPEC_NAME
from power_loop.contracts.clock import Clock
from power_loop.contracts.jobs import Job, JobStatus
from power_loop.contracts.rows import SessionKind, SessionRow
from power_loop.contracts.store import SessionLog
from power_loop.runtime.outcome import final_text
from power_loop.runtime.session import Session

KINDS = {SessionKind.SUBAGENT: "agent", SessionKind.WORKFLOW: "workflow"}
NAMED = {"agent": SPEC_NAME, "workflow": "workflow"}

# How a send ended, as a job's status; whatever is not here did not come to what it was for.
ENDED: dict[str, JobStatus] = {"completed": "completed", "cancelled": "stopped", "timeout": "timeout"}


class Families(SessionLog, Protocol):
    """A store, as far as its families of sessions are looked at."""

    @property
    def clock(self) -> Clock: ...

    async def list_children(self, session_id: str) -> list[SessionRow]: ...


async def jobs_below(store: Families, session_id: str, is_dead: Callable[[str], bool]) -> list[Job]:
    """The sub-agents and workflows that the session began and that are kept, oldest first."""
    jobs: list[Job] = []
    for row in await store.list_children(session_id):
        session = await Session.find(store, row.session_id) if row.kind in KINDS else None
        jobs += [_job(session, session_id, row, is_dead, store.clock.now_ms())] if session is not None else []
    return jobs


def _job(session: Session, parent_id: str, row: SessionRow, is_dead: Callable[[str], bool], now: int) -> Job:
    head, state, kind = session.head, session.state, KINDS[SessionKind(row.kind)]
    held = head.held_at(now) and not is_dead(head.holder or "")
    over = state.idle and head.head > 0
    status = ENDED.get(state.status, "failed") if over else "running" if held else "waiting"
    output = final_text(state.status, state.reason, state.text) if over else ""
    name = str(row.metadata.get(NAMED[kind], ""))
    return Job(
        parent_id, row.session_id, kind, name, status, None, output, head.holder, None, None, row.created_at, row.updated_at
    )  # fmt: skip
