"""`SubprocessExecutor`: each leaf in a process of its own, with its own SQLite file and an environment that holds what it was given.

A worker that dies, hangs, prints garbage or cannot be started fails its leaf, and nothing else.
"""

from __future__ import annotations

import asyncio
import glob
import json
import os
import re
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

from power_loop.contracts.agents import AgentSpec
from power_loop.contracts.cancel import CancellationLike, CancellationToken
from power_loop.contracts.children import leaf_key
from power_loop.contracts.errors import WorkflowRunError
from power_loop.contracts.to_end import to_its_end
from power_loop.contracts.usage import Usage
from power_loop.tools.shell.backend import shell_environment
from power_loop.workflow.bootstrap import RESULT, WorkerBootstrap, place_of, workspace_of
from power_loop.workflow.executors import leaf_path
from power_loop.workflow.isolated import spent_in
from power_loop.workflow.launchers import DirectWorkerLauncher, WorkerLauncher

# A worker that prints more than this instead of a result is out of hand; of its complaints the end is kept.
MAX_OUTPUT_BYTES = 64 * 1024 * 1024
MAX_STDERR_BYTES = 8 * 1024
# What a worker has printed is read long before this is over; after it, only what it left behind holds its pipes open.
LAST_WORDS_S = 2.0
# Whether a worker has ended is looked at so often; its pipes tell sooner.
LOOK_EVERY_S = 0.01


class SubprocessExecutor:
    """Runs each leaf with ``python -m power_loop.workflow.worker``."""

    def __init__(
        self, *, bootstrap: WorkerBootstrap, runs_dir: str | os.PathLike[str] | None = None, python_executable: str | None = None,
        env: Mapping[str, str] | None = None, timeout_s: float | None = None, term_grace_s: float = 3.0, delete_on_success: bool = False,
        launcher: WorkerLauncher | None = None,
    ) -> None:  # fmt: skip
        """``runs_dir``: where the files of runs are (default: ``runs`` below the home); ``env``: variables set in every worker.

        Raises `WorkerBootstrapError` for a bootstrap that holds code, `ValueError` for times that make no sense.
        """
        if (timeout_s is not None and timeout_s <= 0) or term_grace_s < 0:
            raise ValueError(f"timeout_s={timeout_s!r}, term_grace_s={term_grace_s!r}: give seconds above 0")
        self._bootstrap, self._described = bootstrap, bootstrap.to_dict()
        home = os.environ.get("POWER_LOOP_HOME") or os.path.join(os.path.expanduser("~"), ".power_loop")
        self.runs_dir: str = os.path.abspath(runs_dir if runs_dir is not None else os.path.join(home, "runs"))
        self._python, self._env = python_executable or sys.executable, dict(env or {})
        self._timeout_s, self._grace_s, self._delete = timeout_s, term_grace_s, delete_on_success
        self._launcher = launcher or DirectWorkerLauncher()

    async def run_agent(
        self, spec: AgentSpec, user_input: str, *, parent_loop: Any, driver_sid: str, stop_event: CancellationLike = None
    ) -> Mapping[str, Any]:
        """See `Executor`. Raises what the launcher raises, `OSError`, and `WorkflowRunError` for a worker without a result."""
        db_path = place_of(self.path_of(spec))
        workspace = workspace_of(self._bootstrap, db_path)
        base = [self._python, "-m", "power_loop.workflow.worker"]
        argv, env = self._launcher.build(
            base_argv=base, base_env=self._environment(workspace), spec=spec, db_path=db_path, workspace_dir=workspace
        )  # fmt: skip
        job = {
            "spec": spec.to_dict(), "input": user_input, "db_path": db_path, "key": leaf_key(spec.metadata), "workspace_dir": workspace,
            "bootstrap": self._described, "word": secrets.token_hex(8),
        }  # fmt: skip
        told = await Worker(list(argv), dict(env), workspace, job, self._grace_s).result(self._timeout_s, stop_event)
        if told.get("status") == "completed" and self._delete:
            told["after"] = lambda: delete_leaf(db_path)
        return told

    async def spent(self, spec: AgentSpec, *, parent_loop: Any, driver_sid: str) -> Usage:
        """See `Accountable`: a worker that was killed has written down what it paid for."""
        key = leaf_key(spec.metadata)
        return await spent_in(self.path_of(spec), key) if key is not None else Usage()

    def path_of(self, spec: AgentSpec) -> str:
        """The leaf's database: the same for the same leaf and attempt."""
        return leaf_path(self.runs_dir, spec)

    def _environment(self, workspace: str) -> dict[str, str]:
        # A parent whose shells inherit everything hands on no more to its workers all the same.
        source = {name: value for name, value in os.environ.items() if name != "POWER_LOOP_SHELL_ENV"}
        env = shell_environment(source=source) | self._bootstrap.provider_environment(source)
        env |= {name: source[name] for name in ("POWER_LOOP_HOME", "POWER_LOOP_SKILLS_DIR") if name in source}
        if self._bootstrap.home_dir is not None:
            env["POWER_LOOP_HOME"] = os.path.abspath(self._bootstrap.home_dir)
        return env | {"POWER_LOOP_WORKSPACE": workspace} | self._env


class Worker:
    """One worker process."""

    def __init__(self, argv: list[str], env: dict[str, str], cwd: str, job: dict[str, Any], grace_s: float) -> None:
        self._argv, self._env, self._cwd, self._job, self._grace_s = argv, env, cwd, job, grace_s
        self._complaints = b""
        self._found: bytes | None = None

    async def result(self, timeout_s: float | None, stop_event: CancellationLike) -> dict[str, Any]:
        """What it told. It has ended, with all that it started, when this returns or raises."""
        process = await asyncio.create_subprocess_exec(
            *self._argv, env=self._env, cwd=self._cwd, start_new_session=True, stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        token = CancellationToken.from_any(stop_event)
        talk = asyncio.ensure_future(self._talk(process))
        stop = asyncio.ensure_future(token.wait())
        try:
            await asyncio.wait((talk, stop), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if stop.done():
                raise asyncio.CancelledError(token.reason)
            if not talk.done():
                raise TimeoutError
            talk.result()
        except TimeoutError:
            raise self._failed(f"the worker took longer than {timeout_s:g} s") from None
        finally:
            stop.cancel()
            await to_its_end(self._ended(process, talk))
        return self._read(process.returncode)

    async def _talk(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(json.dumps(self._job).encode() + b"\n")
        with suppress(ConnectionError):  # it ended before it read its job: its exit code says more
            await process.stdin.drain()
        reading = asyncio.gather(self._listen(process.stdout), self._keep_complaints(process.stderr))
        gone = asyncio.ensure_future(_gone(process))
        try:
            await asyncio.wait((reading, gone), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait((reading,), timeout=LAST_WORDS_S)
            if reading.done():
                reading.result()
                await gone
        finally:
            reading.cancel()
            gone.cancel()

    async def _listen(self, stream: asyncio.StreamReader) -> None:
        """Look for the result in what is printed; all else is thrown away, line by line."""
        mark, line, size = f"{RESULT} {self._job['word']} ".encode(), bytearray(), 0
        while chunk := await stream.read(65_536):
            size += len(chunk)
            if size > MAX_OUTPUT_BYTES:
                raise self._failed(f"the worker printed more than {MAX_OUTPUT_BYTES} bytes")
            *ends, rest = chunk.split(b"\n")
            for end in ends:
                line += end
                if line.startswith(mark):
                    self._found = bytes(line[len(mark) :])
                line.clear()
            line += rest

    async def _keep_complaints(self, stream: asyncio.StreamReader) -> None:
        while chunk := await stream.read(65_536):
            self._complaints = (self._complaints + chunk)[-MAX_STDERR_BYTES:]

    async def _ended(self, process: asyncio.subprocess.Process, talk: asyncio.Future[None]) -> None:
        """Ask it to end, then end it and its whole group."""
        if process.returncode is None and not talk.done():
            _signal(process.pid, signal.SIGTERM)
            await asyncio.wait((talk,), timeout=self._grace_s)
        _signal(process.pid, signal.SIGKILL)
        if not talk.done():
            talk.cancel()
        await asyncio.wait((talk,))
        if not talk.cancelled():
            talk.exception()
        _hang_up(process)
        await process.wait()

    def _read(self, code: int | None) -> dict[str, Any]:
        if self._found is None:
            how = f"exited with {code}" if code is not None and code >= 0 else f"was ended by signal {-(code or 0)}"
            raise self._failed(f"the worker {how} without a result")
        try:
            told: Any = json.loads(self._found)
        except ValueError:
            raise self._failed("the worker's result is no JSON") from None
        if not isinstance(told, dict) or "status" not in told:
            raise self._failed("the worker's result is not of the right shape")
        if code:
            raise self._failed(f"the worker exited with {code}")
        return told  # pyright: ignore[reportUnknownVariableType]  # read with care by whoever journals it

    def _failed(self, text: str) -> WorkflowRunError:
        said = self._complaints.decode("utf-8", "replace").strip()
        return WorkflowRunError(f"{text}; it said: {said}" if said else text)


async def _gone(process: asyncio.subprocess.Process) -> None:
    """Until it has ended; what it started may hold its pipes open, and `Process.wait` waits for those too."""
    while process.returncode is None:
        await asyncio.sleep(LOOK_EVERY_S)


def _hang_up(process: asyncio.subprocess.Process) -> None:
    """Close our ends of its pipes, whoever holds the others."""
    inside: Any = process._transport  # pyright: ignore  # asyncio has no public way to its pipes
    transport = cast("asyncio.SubprocessTransport", inside)
    for number in range(3):
        if (pipe := transport.get_pipe_transport(number)) is not None and not pipe.is_closing():
            pipe.abort() if isinstance(pipe, asyncio.WriteTransport) else pipe.close()


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


# --- files --------------------------------------------------------------------------------


def delete_leaf(db_path: str) -> None:
    """Delete a leaf's database, what lies beside it, and its own folder."""
    for path in glob.glob(f"{glob.escape(db_path)}*"):
        with suppress(FileNotFoundError):
            os.unlink(path)
    shutil.rmtree(f"{db_path.removesuffix('.db')}.work", ignore_errors=True)


def cleanup_run(runs_dir: str | os.PathLike[str], run_id: str) -> bool:
    """Delete the files of a run's leaves; False when there are none. Raises `ValueError` for what is no run id."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", run_id):
        raise ValueError(f"{run_id!r} is no run id")
    folder = os.path.join(os.path.abspath(runs_dir), run_id)
    if not os.path.isdir(folder):
        return False
    shutil.rmtree(folder)
    return True


def reap_runs(runs_dir: str | os.PathLike[str], *, older_than_s: float) -> list[str]:
    """Delete the files of runs that nothing was written to since then; the ids of those that are gone."""
    root, before, gone = os.path.abspath(runs_dir), time.time() - older_than_s, list[str]()
    if not os.path.isdir(root):
        return gone
    for entry in sorted(os.scandir(root), key=lambda each: each.name):
        if entry.is_dir(follow_symlinks=False) and _last_change(entry.path) <= before:
            shutil.rmtree(entry.path, ignore_errors=True)
            gone.append(entry.name)
    return gone


def _last_change(folder: str) -> float:
    return max([os.stat(folder).st_mtime, *(each.stat(follow_symlinks=False).st_mtime for each in os.scandir(folder))])
