"""What the model is shown beside the transcript: the list of what is left to do, and how background commands ended.

The port, and when a projector is asked, is in `contracts.projection`. Light, since every configuration names these two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from power_loop.tools.todos import counted, render_todos, todos_of

if TYPE_CHECKING:
    from power_loop.contracts.jobs import Job
    from power_loop.contracts.messages import Message
    from power_loop.contracts.projection import ProjectionContext, RuntimeProjector

# Of the output of a command its end is shown; all that was kept of it is what `check_background` gives.
SHOWN_OUTPUT_CHARS = 1000
# A job that says it runs so long after its time was up runs nowhere.
LATE_MS = 60_000
LOST = "lost: the process that ran it has ended, so nobody knows how far it came"


class _Alike:
    """Any two of a kind are the same: they keep nothing."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


class TodoRuntimeProjector(_Alike):
    """The session's list, as the tool ``todo`` wrote it last."""

    tools: tuple[str, ...] = ("todo",)

    async def project(self, *, store: Any, session_id: str, round_index: int, context: ProjectionContext) -> Sequence[Message]:
        items = await todos_of(store, session_id)
        return [shown("current_todos", f"{counted(items)}\n{render_todos(items)}")] if items else []


class BackgroundRuntimeProjector(_Alike):
    """How background commands ended: told until a reply that was told of it is stored, then never again."""

    tools: tuple[str, ...] = ("background_run",)

    async def project(self, *, store: Any, session_id: str, round_index: int, context: ProjectionContext) -> Sequence[Message]:
        jobs: list[Job] = [await as_far_as_known(job, store, context) for job in await store.unseen_jobs(session_id)]
        context.ask_again = any(job.status == "running" for job in jobs)
        ended = [job for job in jobs if job.status != "running"]
        context.seen_jobs += ended
        return [shown("background_updates", "\n".join(map(told, ended)))] if ended else []


def default_runtime_projectors() -> tuple[RuntimeProjector, ...]:
    """Those of a configuration that names none: the list of todos, and the news of background commands."""
    return TodoRuntimeProjector(), BackgroundRuntimeProjector()


def shown(name: str, text: str) -> Message:
    """``text`` as what it is: no word of the user."""
    return {"role": "system", "name": name, "content": f"<{name}>\n{text}\n</{name}>"}


def told(job: Job) -> str:
    """How it ended, and the end of what it printed."""
    line = f"{job.job_id}: {job.state}: {' '.join(job.command.split())[:120]}"
    output = job.output.strip()
    if not output:
        return line
    cut = len(output) - SHOWN_OUTPUT_CHARS
    before = f"[… {cut} characters before this; check_background(task_id={job.job_id!r}) gives more …]\n" if cut > 0 else ""
    return f"{line}\n{before}{output[-SHOWN_OUTPUT_CHARS:]}"


async def as_far_as_known(job: Job, store: Any, context: ProjectionContext) -> Job:
    """``job``; one that says it runs, though its process is gone, is written down as lost first."""
    if job.status != "running":
        return job
    late = job.timeout_s is not None and context.now_ms > job.created_at + job.timeout_s * 1000 + LATE_MS
    dead = job.holder is not None and context.is_dead is not None and context.is_dead(job.holder)
    if not (late or dead):
        return job
    await store.end_job(job.session_id, job.job_id, status="error", output=LOST)
    return await store.get_job(job.session_id, job.job_id) or job._replace(status="error", output=LOST)
