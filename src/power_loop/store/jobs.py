"""What runs beside a session: background commands, and whatever else is started there. Whoever starts it writes these rows."""

from __future__ import annotations

import json
from typing import Any

from power_loop.contracts.codec import dumps
from power_loop.contracts.jobs import Job, JobStatus
from power_loop.contracts.kept_rows import BackgroundTaskRow
from power_loop.contracts.store import Conflict, Statement
from power_loop.store.part import Part

TASKS = """SELECT session_id, job_id, command, status, return_code, output_tail, output_path, created_at, updated_at
 FROM {p}jobs WHERE session_id = ? AND kind = 'command'"""
UNSEEN = " AND (status = 'running' OR body IS NULL OR body NOT LIKE ?) ORDER BY created_at, job_id"
SEEN = "UPDATE {p}jobs SET body = ? WHERE session_id = ? AND job_id = ? AND status = ?"
# As `dumps` spells it. Within a text of the body its quotes would be escaped.
SEEN_MARK = '%"seen":true%'
RUNNING = "SELECT job_id, kind, holder FROM {p}jobs WHERE session_id = ? AND status = 'running' ORDER BY job_id"
JOBS = """SELECT session_id, job_id, kind, command, status, return_code, output_tail, holder, body, created_at, updated_at
 FROM {p}jobs WHERE session_id = ?"""
BEGIN = """INSERT INTO {p}jobs (session_id, job_id, kind, status, command, holder, body, created_at, updated_at)
 VALUES (?, ?, ?, 'running', ?, ?, ?, ?, ?)"""
END = """UPDATE {p}jobs SET status = ?, return_code = ?, output_tail = ?, updated_at = ?
 WHERE session_id = ? AND job_id = ? AND status = 'running'"""
# Only asked for once: the first reason stands.
STOP = "UPDATE {p}jobs SET body = ? WHERE session_id = ? AND job_id = ? AND status = 'running' AND body = ?"


class Jobs(Part):
    """Background work as a host sees it, and as the process that does it writes it down."""

    async def get_background_task(self, session_id: str, task_id: str) -> BackgroundTaskRow | None:
        rows = await self._database.read(self._sql(TASKS) + " AND job_id = ?", (session_id, task_id))
        return BackgroundTaskRow(*rows[0]) if rows else None

    async def list_background_tasks(self, session_id: str) -> list[BackgroundTaskRow]:
        """Oldest first."""
        rows = await self._database.read(self._sql(TASKS) + " ORDER BY created_at, job_id", (session_id,))
        return [BackgroundTaskRow(*row) for row in rows]

    async def running_jobs(self, session_id: str) -> list[tuple[str, str, str | None]]:
        """(id, kind, holder) of what is said to run beside the session."""
        return [(job_id, kind, holder) for job_id, kind, holder in await self._database.read(self._sql(RUNNING), (session_id,))]

    async def get_job(self, session_id: str, job_id: str) -> Job | None:
        rows = await self._database.read(self._sql(JOBS) + " AND job_id = ?", (session_id, job_id))
        return _job(rows[0]) if rows else None

    async def list_jobs(self, session_id: str) -> list[Job]:
        """Oldest first."""
        return [_job(row) for row in await self._database.read(self._sql(JOBS) + " ORDER BY created_at, job_id", (session_id,))]

    async def unseen_jobs(self, session_id: str) -> list[Job]:
        """Background commands that run, or whose end no stored reply was told of; oldest first."""
        rows = await self._database.read(self._sql(JOBS + " AND kind = 'command'" + UNSEEN), (session_id, SEEN_MARK))
        return [_job(row) for row in rows]

    async def begin_job(
        self, session_id: str, job_id: str, *, kind: str, command: str, holder: str | None, timeout_s: float | None = None
    ) -> None:
        """Write down that the job runs from now on, before it does. ``job_id`` is new in its session, else `Conflict`."""
        now = self._clock.now_ms()
        body = _body(timeout_s, None)
        await self._write_once([Statement(self._sql(BEGIN), (session_id, job_id, kind, command, holder, body, now, now), 1)])

    async def end_job(self, session_id: str, job_id: str, *, status: JobStatus, return_code: int | None = None, output: str = "") -> bool:
        """Write down how it ended; False when somebody else did before, or its session is gone."""
        now = self._clock.now_ms()
        # NUL is no text on every engine.
        kept = output.replace("\0", "�")
        end = Statement(self._sql(END), (status, return_code, kept, now, session_id, job_id), 1)
        try:
            return await self._write_once([end]) or (await self.get_job(session_id, job_id)) is not None
        except Conflict:
            return False

    async def ask_job_to_stop(self, session_id: str, job_id: str, reason: str) -> bool:
        """Leave word for whoever runs it, in whatever process; False when it does not run any more."""
        while (job := await self.get_job(session_id, job_id)) is not None and job.status == "running":
            if job.stop is not None:
                return True
            seen, asked = _body(job.timeout_s, None), _body(job.timeout_s, reason)
            try:
                await self._write_once([Statement(self._sql(STOP), (asked, session_id, job_id, seen), 1)])
            except Conflict:
                continue
        return False


def _job(row: tuple[Any, ...]) -> Job:
    session_id, job_id, kind, command, status, return_code, output, holder, body, created_at, updated_at = row
    more: dict[str, Any] = json.loads(body) if body else {}
    return Job(
        session_id, job_id, kind, command or "", status, return_code, output or "", holder, more.get("timeout_s"), more.get("stop"),
        created_at, updated_at,
    )  # fmt: skip


def seen_now(job: Job) -> tuple[Any, ...]:
    """The parameters of `SEEN`: an ended job changes no more, so nobody else writes its body."""
    return (_body(job.timeout_s, job.stop, seen=True), job.session_id, job.job_id, job.status)


def _body(timeout_s: float | None, stop: str | None, *, seen: bool = False) -> str:
    more = {**({"stop": stop} if stop is not None else {}), **({"seen": True} if seen else {})}
    return dumps({"timeout_s": timeout_s, **more})
