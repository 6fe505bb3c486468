"""Giving back what the built-in tools keep beside sessions: for whoever closes a session, a loop, or stops one job.

Loads nothing: a process that never ran a shell has none to close.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

# The parts that keep something, once they are loaded.
FILES_MODULE = "power_loop.tools.builtin.given"
SHELLS_MODULE = "power_loop.tools.shell.table"
JOBS_MODULE = "power_loop.tools.shell.background"


async def release_session(store: Any, session_id: str) -> None:
    """End the shell and the background commands of a session that was deleted, or is about to be, and forget what it has read."""
    if (files := sys.modules.get(FILES_MODULE)) is not None:
        files.forget_session(store, session_id)
    if (jobs := sys.modules.get(JOBS_MODULE)) is not None:
        await jobs.stop_session_jobs(session_id, sys.modules[SHELLS_MODULE].SHELLS.key(store, session_id).store)
    if (shells := sys.modules.get(SHELLS_MODULE)) is not None:
        await shells.close_session_shells(session_id, store)


async def release_loop(loop: Any, drain_timeout_s: float) -> None:
    """Wait for the background commands of a loop that closes, stop what is left, end its shells. Before its store closes."""
    if (jobs := sys.modules.get(JOBS_MODULE)) is not None:
        await jobs.close_loop_jobs(loop, drain_timeout_s)
    if (shells := sys.modules.get(SHELLS_MODULE)) is not None:
        await shells.close_loop_shells(loop)


async def stop_job(store: Any, session_id: str, job_id: str, reason: str) -> bool:
    """Stop a background command, in whatever process it runs; False when it does not run. Here: wait until it has ended."""
    if (jobs := sys.modules.get(JOBS_MODULE)) is not None:
        number = sys.modules[SHELLS_MODULE].SHELLS.key(store, session_id).store
        job = jobs.JOBS.get(jobs.JobKey(number, session_id, job_id))
        if job is not None and not job.over.done():
            job.stop(reason)
            await asyncio.wrap_future(job.over)
            return True
    return await store.ask_job_to_stop(session_id, job_id, reason)
