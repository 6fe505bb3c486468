"""Background commands: they run on, end as they end, and every end is written down, also that of a lost process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from shells import Tools, lives, pid_in, until

from power_loop.contracts.jobs import Job
from power_loop.contracts.store import Conflict
from power_loop.contracts.tool import ToolRun
from power_loop.store.sql_store import SessionStore, open_store
from power_loop.tools.builtin import background as tool
from power_loop.tools.shell import background
from power_loop.tools.shell.background import JOBS
from power_loop.tools.shell.closing import release_loop, release_session, stop_job

FAR_S = 600.0


class Host:
    """Stands for a loop."""


async def a_run(store: SessionStore | None, **more: Any) -> ToolRun:
    session = await store.create_session() if store is not None else "s"
    return ToolRun(session_id=session, store=store, holder="agent@here.1", **more)


async def begun(tools: Tools, run: ToolRun, command: str) -> str:
    result = await tools.call("background_run", run, command=command)
    assert result.ok, result.content
    return result.data["task_id"]


async def is_over(task_id: str) -> None:
    (job,) = JOBS.of(lambda job: job.key.job_id == task_id)
    await asyncio.wrap_future(job.over)


async def said(tools: Tools, run: ToolRun, task_id: str | None = None) -> str:
    result = await tools.call("check_background", run, **({"task_id": task_id} if task_id else {}))
    assert result.ok
    return result.content


@pytest.mark.parametrize(
    ("command", "state", "output"),
    [
        ("echo hi; echo err >&2", "completed", "hi\nerr\n"),
        ("echo hi; exit 3", "failed(3)", "hi\n"),
        ("false", "failed(1)", ""),
        ("kill -9 $$", "failed(137)", ""),
        ('cat; read x; echo "[$x]"', "completed", "[]\n"),
    ],
)
@pytest.mark.parametrize("stored", [True, False])
async def test_a_command_ends_as_it_ends(tools: Tools, store: SessionStore, command: str, state: str, output: str, stored: bool) -> None:
    run = await a_run(store if stored else None)
    task = await begun(tools, run, command)
    await is_over(task)
    assert await said(tools, run, task) == f"{task}: {state}: {command}\n{output}".rstrip("\n")
    assert (await said(tools, run)).split("\n") == [f"{task}: {state}: {command}"]
    if stored:
        row = await store.get_background_task(run.session_id or "", task)
        assert row is not None
        assert (row.command, row.status, row.output_tail) == (command, state.partition("(")[0], output)


async def test_the_call_returns_while_the_command_runs(tools: Tools, store: SessionStore, workspace: Path) -> None:
    run = await a_run(store)
    task = await begun(tools, run, "echo so far; touch up; while [ ! -e go ]; do sleep 0.01; done; echo on")
    await until((workspace / "up").exists)
    assert (await said(tools, run, task)).endswith("\nso far")
    assert (await said(tools, run, task)).startswith(f"{task}: running: ")
    row = await store.get_background_task(run.session_id or "", task)
    assert row is not None
    assert row.status == "running"
    (workspace / "go").touch()
    await is_over(task)
    assert (await said(tools, run, task)).endswith("\nso far\non")


async def test_a_command_that_takes_too_long_is_ended_with_all_that_it_started(
    tools: Tools, store: SessionStore, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "TIMEOUT_S", 0.3)
    run = await a_run(store)
    task = await begun(tools, run, "(setsid sh -c 'echo $$ > pid; exec sleep 1000' &); echo out; sleep 1000")
    await is_over(task)
    assert await said(tools, run, task) == f"{task}: timeout: (setsid sh -c 'echo $$ > pid; exec sleep 1000' &); echo out; sleep 1000\nout"
    assert not lives(pid_in(workspace / "pid"))


async def test_of_long_output_the_end_is_kept(tools: Tools, store: SessionStore) -> None:
    run = await a_run(store)
    task = await begun(tools, run, "seq 1 100000; printf '\\000end'")
    await is_over(task)
    job = await store.get_job(run.session_id or "", task)
    assert job is not None
    assert len(job.output) == background.MAX_OUTPUT_CHARS
    assert job.output.endswith("\n99999\n100000\n�end")
    assert job.output.startswith("[... 588899 bytes in all")


async def test_the_same_check_and_backend_as_for_bash(make_tools: Callable[..., Tools], workspace: Path) -> None:
    run = await a_run(None)
    result = await make_tools().call("background_run", run, command="sudo touch made")
    assert not result.ok
    assert "another user" in result.content
    assert (await make_tools(check=lambda command: "not that").call("background_run", run, command="ls")).content == "not that"
    assert JOBS.of(lambda job: True) == []


# acceptance: 43 (background)
async def test_with_an_injected_backend_only_its_process_is_started(
    make_tools: Callable[..., Tools], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["/bin/bash", "--norc", "--noprofile", "-s", "mine"]

    class Backend:
        def launch_argv(self, ws: str) -> list[str]:
            return argv

        def launch_cwd(self, ws: str) -> str | None:
            return ws

        def launch_env(self, ws: str) -> dict[str, str]:
            return {}

        def session_key(self, ws: str) -> str:
            return ws

    started: list[Any] = []
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda argv, **more: (started.append(argv), popen(argv, **more))[1])
    tools, run = make_tools(Backend()), await a_run(None)
    task = await begun(tools, run, "echo $1")
    await is_over(task)
    assert (await said(tools, run, task)).endswith("\nmine")
    assert started == [argv]


async def test_a_shell_that_does_not_start_is_told_and_written_down(
    make_tools: Callable[..., Tools], store: SessionStore, workspace: Path
) -> None:
    os.rmdir(workspace)
    run = await a_run(store)
    result = await make_tools().call("background_run", run, command="ls")
    assert not result.ok
    (job,) = await store.list_jobs(run.session_id or "")
    assert job.status == "error"
    assert "could not be started" in job.output


async def test_one_session_sees_no_job_of_another(tools: Tools, store: SessionStore) -> None:
    mine, other = await a_run(store), await a_run(store)
    task = await begun(tools, mine, "true")
    await is_over(task)
    assert not (await tools.call("check_background", other, task_id=task)).ok
    assert await said(tools, other) == "There are no background commands in this session."


# --- stopping -----------------------------------------------------------------------------------------


async def test_a_job_is_stopped_by_word_and_keeps_what_it_printed(tools: Tools, store: SessionStore, workspace: Path) -> None:
    run = await a_run(store)
    task = await begun(tools, run, "echo out; echo $$ > pid; sleep 1000")
    await until(lambda: bool(pid_in(workspace / "pid")))
    assert await stop_job(store, run.session_id or "", task, "not needed")
    assert not lives(pid_in(workspace / "pid"))
    job = await store.get_job(run.session_id or "", task)
    assert job is not None
    assert (job.status, job.output) == ("stopped", "out\n[stopped: not needed]")
    assert not await stop_job(store, run.session_id or "", task, "again")
    assert not await stop_job(store, run.session_id or "", "bg_none", "nothing")


async def test_a_job_of_another_process_is_stopped_through_the_store(
    tools: Tools, store: SessionStore, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "LOOK_S", 0.01)
    run = await a_run(store)
    task = await begun(tools, run, "echo out; sleep 1000")
    assert await store.ask_job_to_stop(run.session_id or "", task, "from afar")
    assert await store.ask_job_to_stop(run.session_id or "", task, "the first reason stands")
    await is_over(task)
    job = await store.get_job(run.session_id or "", task)
    assert job is not None
    assert job.status == "stopped"
    assert job.output.endswith("[stopped: from afar]")
    assert not await store.ask_job_to_stop(run.session_id or "", task, "too late")


async def test_a_job_whose_session_was_deleted_stops(
    tools: Tools, store: SessionStore, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "LOOK_S", 0.01)
    run = await a_run(store)
    task = await begun(tools, run, "sleep 1000")
    await store.close_session(run.session_id or "")
    await is_over(task)
    assert await store.list_jobs(run.session_id or "") == []


async def test_closing_waits_for_the_jobs_of_the_loop_and_stops_what_is_left(tools: Tools, store: SessionStore, workspace: Path) -> None:
    mine, other = Host(), Host()
    run = await a_run(store, loop=mine)
    short = await begun(tools, run, "while [ ! -e go ]; do sleep 0.01; done; echo done")
    foreign = await begun(tools, await a_run(store, loop=other), "sleep 1000")
    closing = asyncio.create_task(release_loop(mine, FAR_S))
    (workspace / "go").touch()
    await closing
    assert (await said(tools, run, short)).startswith(f"{short}: completed")
    long = await begun(tools, run, "sleep 1000")
    await release_loop(mine, 0.01)
    assert (await said(tools, run, long)).startswith(f"{long}: stopped")
    assert [job.key.job_id for job in JOBS.of(lambda job: not job.over.done())] == [foreign]


# acceptance: 153 (background command)
async def test_nothing_of_a_session_is_left_when_it_is_released(tools: Tools, store: SessionStore, workspace: Path) -> None:
    run = await a_run(store)
    threads = threading.active_count()
    await tools.call("bash", run, command="sleep 1000 & echo $! > shell")
    task = await begun(tools, run, "echo $$ > job; sleep 1000")
    await until(lambda: bool(pid_in(workspace / "job")))
    await release_session(store, run.session_id or "")
    assert not lives(pid_in(workspace / "shell"))
    assert not lives(pid_in(workspace / "job"))
    assert (await said(tools, run, task)).startswith(f"{task}: stopped")
    await until(lambda: threading.active_count() <= threads)


# --- lost processes -----------------------------------------------------------------------------------


async def lost(tools: Tools, store: SessionStore, holder: str | None, run: ToolRun, age_s: float = 0.0) -> tuple[str, Job]:
    """What is said of a job that another process says it runs, and how it stands in the store afterwards."""
    session, task = run.session_id or "", "bg_elsewhere"
    await store.begin_job(session, task, kind="command", command="make", holder=holder, timeout_s=300.0)
    if age_s:
        ago = store.clock.now_ms() - int(age_s * 1000)
        await store.database.write([store_statement(store, ago)])
    told = await said(tools, run, task)
    job = await store.get_job(session, task)
    assert job is not None
    return told, job


def store_statement(store: SessionStore, ago: int) -> Any:
    from power_loop.contracts.store import Statement

    return Statement(f"UPDATE {store.table_prefix}jobs SET created_at = ?", (ago,))


@pytest.mark.parametrize(
    ("holder", "dead", "age_s", "is_lost"),
    [
        ("agent@there.1", False, 0, False),
        ("agent@there.1", True, 0, True),
        ("agent@there.1", False, 301, False),
        ("agent@there.1", False, 361, True),
        ("agent@here.1", False, 0, True),
        (None, False, 0, True),
    ],
)
async def test_a_lost_process_is_reported_as_such(
    tools: Tools, store: SessionStore, holder: str | None, dead: bool, age_s: float, is_lost: bool
) -> None:
    run = await a_run(store, is_dead=lambda name: dead)
    told, job = await lost(tools, store, holder, run, age_s)
    assert told == ("bg_elsewhere: error: make\nlost: the process that ran it has ended, so nobody knows how far it came" if is_lost
                    else "bg_elsewhere: running: make")  # fmt: skip
    assert job.status == ("error" if is_lost else "running")


PROGRAM = """
import asyncio, os, sys
sys.path[:0] = [{support!r}]
from shells import Tools
from power_loop.contracts.tool import ToolRun
from power_loop.store.sql_store import open_store
from power_loop.tools.env import RuntimeEnv

async def main():
    store = await open_store({path!r})
    session = await store.create_session(session_id="s")
    run = ToolRun(session_id=session, store=store, holder="agent@dying")
    print(await Tools(RuntimeEnv({workspace!r})).call("background_run", run, command="echo $$ > pid; sleep 1000"))
    while not os.path.exists("{workspace}/pid"):
        await asyncio.sleep(0.01)
    {end}

asyncio.run(main())
"""


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "pass"])
async def test_after_the_death_of_its_process_a_job_is_never_said_to_run(tools: Tools, tmp_path: Path, workspace: Path, end: str) -> None:
    support = str(Path(__file__).parent.parent / "support")
    program = PROGRAM.format(support=support, path=str(tmp_path / "s.db"), workspace=str(workspace), end=end)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.DEVNULL)
    await process.wait()
    store = await open_store(str(tmp_path / "s.db"))
    try:
        run = ToolRun(session_id="s", store=store, holder="agent@next", is_dead=lambda holder: holder == "agent@dying")
        told = await said(tools, run)
        assert told.partition(": ")[2] in ("error: echo $$ > pid; sleep 1000", "stopped: echo $$ > pid; sleep 1000")
        (job,) = await store.list_jobs("s")
        assert job.status in ("error", "stopped")
    finally:
        await store.close()
        if lives(pid_in(workspace / "pid")):  # its host was killed: nobody could end it
            os.killpg(pid_in(workspace / "pid"), 9)


async def test_of_two_who_write_an_end_the_first_is_kept(store: SessionStore) -> None:
    session = await store.create_session()
    await store.begin_job(session, "bg_1", kind="command", command="ls", holder=None)
    with pytest.raises(Conflict):
        await store.begin_job(session, "bg_1", kind="command", command="ls", holder=None)
    assert await store.end_job(session, "bg_1", status="failed", return_code=2, output="x")
    assert not await store.end_job(session, "bg_1", status="completed")
    job = await store.get_job(session, "bg_1")
    assert job is not None
    assert (job.state, job.output) == ("failed(2)", "x")


def test_a_job_runs_on_when_the_event_loop_that_began_it_has_ended(tools: Tools, workspace: Path) -> None:
    run = ToolRun(session_id="s")
    task = asyncio.run(begun(tools, run, "touch up; while [ ! -e go ]; do sleep 0.01; done; echo on"))
    (workspace / "go").touch()
    asyncio.run(is_over(task))
    assert asyncio.run(said(tools, run, task)).endswith("\non")


async def test_a_command_for_which_no_thread_can_be_had_has_ended(
    tools: Tools, store: SessionStore, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, start = Host(), threading.Thread.start

    def none_left(thread: threading.Thread) -> None:
        if thread.name.startswith("power-loop-job"):
            raise RuntimeError("can't start new thread")
        start(thread)

    run = await a_run(store, loop=host)
    monkeypatch.setattr(threading.Thread, "start", none_left)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        await tools.call("background_run", run, command="sleep 1000")
    monkeypatch.undo()
    [job] = await store.list_jobs(run.session_id)
    assert (job.status, job.output) == ("error", "can't start new thread")
    assert not JOBS.of(lambda job: job.key.session_id == run.session_id)
    async with asyncio.timeout(60):
        await release_loop(host, 0)
