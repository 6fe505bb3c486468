"""Commands that run beside a session, each in a shell and a thread of its own, and the table of those that this process runs.

What has to outlive the process is written to the store by the thread itself, when the command ends.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

from power_loop.contracts.cancel import CancellationToken
from power_loop.contracts.errors import RuntimeEnvError, StoreUnavailable
from power_loop.contracts.jobs import JobStatus, state_of
from power_loop.contracts.log import log
from power_loop.tools.shell.output import Output
from power_loop.tools.shell.processes import Spawner
from power_loop.tools.shell.session import Ran, Shell

TIMEOUT_S = 300.0
MAX_OUTPUT_CHARS = 50_000
# A character has up to four bytes.
KEPT_BYTES = 4 * MAX_OUTPUT_CHARS
# What was asked for through the store, by another process, is looked for so often.
LOOK_S = 2.0
# Jobs that ended and are still known here; the store knows all of them.
KEPT_JOBS = 256
AT_EXIT_S = 3.0


class JobKey(NamedTuple):
    """Which job: a session's, of one store. Without a store, one of a registry."""

    store: int
    session_id: str
    job_id: str


class RunningJob:
    """One command under way, or just over."""

    command: str
    key: JobKey
    timeout_s: float

    def __init__(self, key: JobKey, command: str, shell: Shell, *, timeout_s: float, grace_s: float, store: Any, owner: Any) -> None:
        self.key, self.command, self.timeout_s = key, command, timeout_s
        self.begun: float = time.monotonic()
        self._shell, self._grace_s, self._store = shell, grace_s, store
        self.owner: Callable[[], Any] = weakref.ref(owner) if owner is not None else _nobody
        self._output = Output(head_bytes=0, tail_bytes=KEPT_BYTES)
        self._stop = CancellationToken()
        self.status: JobStatus = "running"
        self.return_code: int | None = None
        self.over: Future[None] = Future()
        """Done when it has ended, and that is written down."""
        self.thread: threading.Thread = threading.Thread(target=self._work, name=f"power-loop-job-{key.job_id}", daemon=True)

    @property
    def state(self) -> str:
        return state_of(self.status, self.return_code)

    @property
    def output(self) -> str:
        """The end of what it printed so far."""
        return self._output.last(MAX_OUTPUT_CHARS)

    def stop(self, reason: str) -> None:
        """Have all of it ended; `over` says when. Safe from any thread."""
        self._stop.cancel(reason)

    def kill(self) -> None:
        self.stop("the process ends")
        self._shell.kill()

    # --- in its thread --------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            asyncio.run(self._run())
        except Exception:  # the store's driver, the machine: whoever waits must not wait for ever
            log.exception("the background command %s ended, but that could not be written down", self.key.job_id)
        finally:
            if self.status == "running":
                self.status = "error"
            self.over.set_result(None)

    async def _run(self) -> None:
        looking = asyncio.ensure_future(self._listen()) if self._store is not None else None
        try:
            ran = await self._shell.run(
                self.command, timeout_s=self.timeout_s, cancel=self._stop, grace_s=self._grace_s, output=self._output
            )
            self.status, self.return_code = status_of(ran, stopped=self._stop.is_cancelled())
            said = self.output
        except RuntimeEnvError as error:
            self.status, said = "error", str(error)
        finally:
            if looking is not None:
                looking.cancel()
            await self._shell.close()
        if self.status == "stopped":
            said = f"{said.rstrip()}\n[stopped: {self._stop.reason}]".lstrip()
        if self._store is not None:
            await self._store.end_job(
                self.key.session_id, self.key.job_id, status=self.status, return_code=self.return_code, output=said
            )  # fmt: skip

    async def _listen(self) -> None:
        """Stop when another process asked for it through the store, or the session is gone."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                job = await self._store.get_job(self.key.session_id, self.key.job_id)
            except StoreUnavailable:
                continue
            if job is None or job.stop is not None:
                self.stop(job.stop if job is not None else "its session was deleted")
                return


class RunningJobs:
    """The jobs of this process by key. Safe from any thread and event loop."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[JobKey, RunningJob] = OrderedDict()
        self._lock = threading.Lock()
        self.spawner: Spawner = Spawner()
        self._ends_at_exit = False

    def begin(self, job: RunningJob) -> None:
        """Raises `RuntimeError` when the system gives no thread; the job is not known then."""
        job.thread.start()
        with self._lock:
            if not self._ends_at_exit:
                self._ends_at_exit = True
                atexit.register(end_all_jobs)
            self._jobs[job.key] = job
            over = [key for key, each in self._jobs.items() if each.over.done()]
            for key in over[: max(0, len(over) - KEPT_JOBS)]:
                del self._jobs[key]

    def get(self, key: JobKey) -> RunningJob | None:
        with self._lock:
            return self._jobs.get(key)

    def of(self, wanted: Callable[[RunningJob], bool]) -> list[RunningJob]:
        with self._lock:
            return [job for job in self._jobs.values() if wanted(job)]

    def forget(self) -> None:
        """In a forked child: they are the parent's, and so are their threads."""
        self._jobs, self._lock, self.spawner, self._ends_at_exit = OrderedDict(), threading.Lock(), Spawner(), False


JOBS = RunningJobs()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=JOBS.forget)


def status_of(ran: Ran, *, stopped: bool = False) -> tuple[JobStatus, int | None]:
    """How a job stands whose command ended like this; one that was ``stopped`` may have been killed before it heard of it."""
    if stopped and ran.ended in ("done", "exited") and ran.exit_code != 0:
        return "stopped", None
    match ran.ended:
        case "timeout":
            return "timeout", None
        case "cancelled":
            return "stopped", None
        case "done" | "exited":
            return ("completed" if ran.exit_code == 0 else "failed"), ran.exit_code


async def close_loop_jobs(loop: Any, drain_timeout_s: float) -> int:
    """Wait for the background commands that ``loop`` started, then stop what is left; how many were stopped."""
    mine = JOBS.of(lambda job: job.owner() is loop and not job.over.done())
    return await _end(mine, drain_timeout_s, "the loop was closed")


async def stop_session_jobs(session_id: str, store_number: int, reason: str = "the session was closed") -> int:
    """Stop the background commands of a session; how many there were."""
    mine = JOBS.of(lambda job: job.key[:2] == (store_number, session_id) and not job.over.done())
    return await _end(mine, 0.0, reason)


async def _end(jobs: list[RunningJob], drain_timeout_s: float, reason: str) -> int:
    waiting = [asyncio.wrap_future(job.over) for job in jobs]
    if not waiting:
        return 0
    if drain_timeout_s > 0:
        await asyncio.wait(waiting, timeout=drain_timeout_s)
    left = [job for job in jobs if not job.over.done()]
    for job in left:
        job.stop(reason)
    await asyncio.wait(waiting)
    for job in jobs:
        job.thread.join()  # it has nothing left to do
    return len(left)


def end_all_jobs() -> None:
    """At the end of the process: nothing runs on under nobody."""
    jobs = JOBS.of(lambda job: not job.over.done())
    for job in jobs:
        job.kill()
    deadline = time.monotonic() + AT_EXIT_S
    for job in jobs:
        job.thread.join(max(0.0, deadline - time.monotonic()))


def _nobody() -> None:
    return None
