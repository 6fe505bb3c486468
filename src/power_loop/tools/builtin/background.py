"""The tools ``background_run`` and ``check_background``: commands that run on while the session goes on.

A job is a row of the store that says it runs; the process that runs it writes how it ended. When that process is lost,
whoever looks next says so.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

from power_loop.contracts.errors import RuntimeEnvError
from power_loop.contracts.jobs import Job
from power_loop.contracts.tool import ToolDefinition, ToolHandlerResult, ToolRun
from power_loop.tools.builtin.given import Given, failed
from power_loop.tools.env import RuntimeEnv
from power_loop.tools.projectors import LATE_MS, LOST
from power_loop.tools.shell.background import JOBS, TIMEOUT_S, JobKey, RunningJob
from power_loop.tools.shell.commands import grace_of, ground_of, refused
from power_loop.tools.shell.session import Shell
from power_loop.tools.shell.table import SHELLS

LISTED_COMMAND = 120


def about_run(args: Mapping[str, Any], result: str | None) -> str:
    return f"background_run: {' '.join(str(args.get('command', '')).split())[:120]}"


def about_check(args: Mapping[str, Any], result: str | None) -> str:
    return f"check_background: {args.get('task_id') or 'all'}" + (f" → {result.partition(chr(10))[0][:80]}" if result else "")


DEFINITIONS = (
    ToolDefinition(
        "background_run",
        "Start a command that runs on by itself, in a shell of its own in the workspace, for at most 300 seconds. "
        "Gives a task id at once; ask check_background how it stands.",
        {
            "type": "object",
            "properties": {"command": {"type": "string", "description": "What to run; may have several lines."}},
            "required": ["command"],
            "additionalProperties": False,
        },
        project=about_run,
        effects="once",
    ),
    ToolDefinition(
        "check_background",
        "How a background command stands (running, completed, failed(N), timeout, error or stopped) and the end of what it printed; "
        "without a task id, all background commands of this session.",
        {
            "type": "object",
            "properties": {"task_id": {"type": "string", "description": "What background_run gave."}},
            "additionalProperties": False,
        },
        project=about_check,
        effects="pure",
    ),
)


def handlers(given: Given) -> dict[str, Callable[..., Any]]:
    """Both tools for one registry."""

    async def background_run(run: ToolRun, command: str) -> ToolHandlerResult:
        try:
            env = given.env(run)
            if (refusal := refused(command, given, env)) is not None:
                return refusal
            return await started(run, given, env, command)
        except RuntimeEnvError as error:
            return failed(f"Nothing was started: {error}")

    async def check_background(run: ToolRun, task_id: str | None = None) -> ToolHandlerResult:
        if task_id is None:
            return ToolHandlerResult(True, await all_of(run, given))
        told = await one_of(run, given, task_id)
        return ToolHandlerResult(True, told) if told is not None else failed(f"There is no background command {task_id!r} in this session.")

    return {"background_run": background_run, "check_background": check_background}


async def started(run: ToolRun, given: Given, env: RuntimeEnv, command: str) -> ToolHandlerResult:
    """Write down that it runs, then start it: a crash in between leaves a job that is reported lost, never one unknown to all."""
    backend, workspace = ground_of(env)
    key = key_of(run, given, f"bg_{os.urandom(6).hex()}")
    store = run.store if run.has_session_store else None
    if store is not None:
        await store.begin_job(
            key.session_id, key.job_id, kind="command", command=command, holder=holder_of(run), timeout_s=TIMEOUT_S
        )  # fmt: skip
    shell: Shell | None = None
    try:
        shell = Shell.start(backend, workspace, JOBS.spawner)
        JOBS.begin(RunningJob(key, command, shell, timeout_s=TIMEOUT_S, grace_s=grace_of(run), store=store, owner=run.loop))
    except BaseException as error:
        if shell is not None:
            await shell.close()
        if store is not None:
            await store.end_job(key.session_id, key.job_id, status="error", output=str(error))
        raise
    return ToolHandlerResult(
        True, f"Started {key.job_id}; it may run for {TIMEOUT_S:g} s. Ask check_background(task_id={key.job_id!r}) how it stands.",
        {"task_id": key.job_id},
    )  # fmt: skip


async def one_of(run: ToolRun, given: Given, task_id: str) -> str | None:
    """How one job stands; None when the session has no such job."""
    here = JOBS.get(key_of(run, given, task_id))
    if here is not None and not (run.has_session_store and here.over.done()):
        return f"{_line(task_id, here.state, here.command)}\n{here.output}".rstrip("\n")
    job = await run.store.get_job(run.session_id, task_id) if run.has_session_store else None
    if job is None:
        return None
    job = await as_it_is(run, given, job)
    return f"{_line(task_id, job.state, job.command)}\n{job.output}".rstrip("\n")


async def all_of(run: ToolRun, given: Given) -> str:
    """A line for each job of the session, oldest first."""
    if run.has_session_store:
        jobs = [await as_it_is(run, given, job) for job in await run.store.list_jobs(run.session_id) if job.kind == "command"]
        lines = [_line(job.job_id, job.state, job.command) for job in jobs]
    else:
        whose = key_of(run, given, "")[:2]
        lines = [_line(job.key.job_id, job.state, job.command) for job in JOBS.of(lambda job: job.key[:2] == whose)]
    return "\n".join(lines) or "There are no background commands in this session."


async def as_it_is(run: ToolRun, given: Given, job: Job) -> Job:
    """``job``; one that says it runs, though it runs nowhere, is written down as what it is first."""
    if job.status != "running":
        return job
    here = JOBS.get(key_of(run, given, job.job_id))
    if here is not None and here.over.done():  # its end could not be written down
        ended = job._replace(status=here.status, return_code=here.return_code, output=here.output)
    elif here is None and is_lost(run, job):
        ended = job._replace(status="error", output=LOST)
    else:
        return job
    await run.store.end_job(job.session_id, job.job_id, status=ended.status, return_code=ended.return_code, output=ended.output)
    return ended


def is_lost(run: ToolRun, job: Job) -> bool:
    """It runs nowhere any more: not in this process, where it should; or its holder died; or its time is long over."""
    if job.holder is None or job.holder == holder_of(run):
        return True
    if run.is_dead is not None and run.is_dead(job.holder):
        return True
    return job.timeout_s is not None and run.store.clock.now_ms() > job.created_at + job.timeout_s * 1000 + LATE_MS


def holder_of(run: ToolRun) -> str:
    return run.holder or f"{socket.gethostname()}.{os.getpid()}"


def key_of(run: ToolRun, given: Given, job_id: str) -> JobKey:
    whose = SHELLS.key(run.store if run.store is not None else given.memory, run.session_id)
    return JobKey(whose.store, run.session_id or "", job_id)


def _line(job_id: str, state: str, command: str) -> str:
    return f"{job_id}: {state}: {' '.join(command.split())[:LISTED_COMMAND]}"
