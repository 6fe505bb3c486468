"""Leaves in processes of their own: what they are given, what of theirs counts, and that none of them outlives its leaf."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from loops import kept

from power_loop import AgentSpec, CancellationToken, SessionStore, StatefulAgentLoop, Worker, open_store
from power_loop.errors import WorkerBootstrapError
from power_loop.testing import Died, DyingStore, FunctionLLM, ManualClock
from power_loop.workflow import (
    BubblewrapLauncher,
    DirectWorkerLauncher,
    SubprocessExecutor,
    WorkerBootstrap,
    WorkflowRunError,
    cleanup_run,
    create_workflow,
    list_workflows,
    reap_runs,
    resume_detached,
    resume_run,
    run_detached,
    run_spec_isolated,
)

pytestmark = pytest.mark.usefixtures("loops_closed")

ECHO = {"POWER_LOOP_PROVIDER": "echo"}
BOOT = WorkerBootstrap(llm_from_env=True, tool_preset="core")


async def a_loop() -> StatefulAgentLoop:
    return kept(StatefulAgentLoop(llm=FunctionLLM(lambda _: "in process"), store=await open_store()))


def leaf(ident: str, **more: Any) -> dict[str, Any]:
    return {"type": "agent", "id": ident, "spec": {"name": ident, "system_prompt": "You work.", "tools": []}, **more}


class Script:
    """A launcher that starts a script of the test's in the worker's place."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tools: list[Any] = []

    def build(
        self, *, base_argv: Sequence[str], base_env: Mapping[str, str], spec: AgentSpec, db_path: str, workspace_dir: str
    ) -> tuple[Sequence[str], Mapping[str, str]]:
        self.tools.append(spec.tools)
        if spec.name != "bad":
            return base_argv, base_env
        if not self.text:
            raise RuntimeError("no sandbox here")
        return [sys.executable, "-c", self.text], base_env


def started(path: Path) -> list[int]:
    """The process ids that stand there."""
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def database_in(runs: Path) -> bool:
    return any(runs.glob("adhoc/*.db"))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


# acceptance: 108
async def test_each_leaf_runs_in_another_process_with_its_own_file(tmp_path: Path) -> None:
    executor = SubprocessExecutor(bootstrap=BOOT, runs_dir=tmp_path, env=ECHO)
    spec = {"name": "w", "root": {"type": "parallel", "branches": [leaf("a", input="one"), leaf("b", input="two")]}}
    loop = await a_loop()
    result = await create_workflow(spec, parent_loop=loop, executor=executor).run()
    assert result.status == "completed", result.summary()
    assert "one" in result.results["a"].text
    paths = {Path(each.db_path or "") for each in result.results.values()}
    assert len(paths) == 2
    assert all(path.is_file() and path.parent == tmp_path / result.run_id for path in paths)
    assert result.usage["calls"] == 2
    stats = await loop.get_session_stats(f"wf_{result.run_id}")
    assert stats is not None
    assert stats.llm_calls == 2, "what a worker used counts"
    assert reap_runs(tmp_path, older_than_s=3600) == []
    assert cleanup_run(tmp_path, result.run_id)
    assert not cleanup_run(tmp_path, result.run_id)


BAD = {
    "exits": ("import sys; print('oh no', file=sys.stderr); sys.exit(3)", "exited with 3 without a result; it said: oh no"),
    "prints": ("print('power-loop-result 0000 {}'); print('x' * 100_000)", "without a result"),
    "floods": ("import sys; [sys.stdout.write('x' * 1_000_000) for _ in range(70)]", "printed more than 67108864 bytes"),
    "dies": ("import os; os.kill(os.getpid(), 9)", "was ended by signal 9"),
    "hangs": ("import time; time.sleep(60)", "took longer than 0.7 s"),
    "ignores": ("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)", "took longer than 0.7 s"),
    "raises": ("", "RuntimeError: no sandbox here"),
}


class Apart:
    """Runs the leaf ``bad`` with one executor and all others with another: a limit strikes only the leaf that it is about."""

    def __init__(self, bad: SubprocessExecutor, others: SubprocessExecutor) -> None:
        self.bad, self.others = bad, others

    async def run_agent(self, spec: AgentSpec, user_input: str, **more: Any) -> Mapping[str, Any]:
        return await (self.bad if spec.name == "bad" else self.others).run_agent(spec, user_input, **more)


# acceptance: 108
@pytest.mark.parametrize("how", BAD)
async def test_a_worker_that_fails_in_any_way_fails_its_leaf_only(tmp_path: Path, how: str) -> None:
    text, said = BAD[how]
    launcher = Script(text)
    limit_s = 0.7 if "took longer" in said else None
    given: dict[str, Any] = {"bootstrap": BOOT, "runs_dir": tmp_path, "env": ECHO, "launcher": launcher, "term_grace_s": 0.2}
    executor = Apart(SubprocessExecutor(timeout_s=limit_s, **given), SubprocessExecutor(**given))
    spec = {"name": "w", "root": {"type": "parallel", "on_error": "continue", "branches": [leaf("bad"), leaf("good", input="fine")]}}
    result = await create_workflow(spec, parent_loop=await a_loop(), executor=executor).run()
    assert said in (result.results["bad"].error or "")
    assert result.results["good"].status == "completed", result.summary()
    assert launcher.tools == [(), ()] or launcher.tools == [[], []]


class Wrapped:
    """A launcher that starts each worker through a shell, which leaves a note of it."""

    def __init__(self, note: Path) -> None:
        self.note, self.tools = note, list[Any]()

    def build(
        self, *, base_argv: Sequence[str], base_env: Mapping[str, str], spec: AgentSpec, **_: Any
    ) -> tuple[Sequence[str], Mapping[str, str]]:
        self.tools.append(list(spec.tools or ()))
        return ["sh", "-c", 'echo wrapped > "$0"; exec "$@"', str(self.note), *base_argv], base_env


# acceptance: 108 (the launcher)
async def test_a_launcher_sees_the_tools_of_its_leaf_and_may_wrap_the_command(tmp_path: Path) -> None:
    launcher = Wrapped(tmp_path / "note")
    executor = SubprocessExecutor(bootstrap=BOOT, runs_dir=tmp_path / "runs", env=ECHO, launcher=launcher)
    node = leaf("a", input="hello") | {"spec": {"name": "a", "system_prompt": "You work.", "tools": ["grep"]}}
    result = await create_workflow({"name": "w", "root": node}, parent_loop=await a_loop(), executor=executor).run()
    assert result.status == "completed", result.summary()
    assert (launcher.tools, launcher.note.read_text()) == ([["grep"]], "wrapped\n")


# acceptance: 72 (worker processes), 108 (no process is left behind)
@pytest.mark.parametrize("kind", ["cancel", CancellationToken, threading.Event, asyncio.Event, "callable"])
async def test_nothing_that_a_worker_started_is_left_behind(tmp_path: Path, kind: Any) -> None:
    stopped = threading.Event()
    source = {"cancel": None, "callable": stopped.is_set}.get(kind) if isinstance(kind, str) else kind()
    pids = tmp_path / "pids"
    text = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "time.sleep(60)"
    )
    executor = SubprocessExecutor(bootstrap=BOOT, runs_dir=tmp_path / "runs", env=ECHO, launcher=Script(text), term_grace_s=0.2)
    wf = create_workflow({"name": "w", "root": leaf("bad")}, parent_loop=await a_loop(), executor=executor)
    running = asyncio.create_task(wf.run(stop_event=source))
    while len(started(pids)) < 2:
        await asyncio.sleep(0.01)
    match kind:
        case "cancel":
            wf.cancel()
        case "callable":
            stopped.set()
        case _:
            source.cancel() if kind is CancellationToken else source.set()
    assert (await running).status == "cancelled"
    while [pid for pid in started(pids) if alive(pid)]:  # killed with the group, and dead once the machine gets to it
        await asyncio.sleep(0.01)


LEAVES_SOMETHING = (
    "import json, subprocess, sys, time\n"
    "job = json.loads(sys.stdin.readline())\n"
    "left = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
    "open({pids!r}, 'w').write(str(left.pid))\n"
    "print('power-loop-result', job['word'], json.dumps({{'status': 'completed', 'final_text': 'done'}}), flush=True)\n"
)


@pytest.mark.parametrize(("then", "limit_s", "said"), [("", None, "done"), ("time.sleep(600)", 2, "took longer than 2 s")])
async def test_what_a_worker_left_behind_with_its_pipes_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str, limit_s: float | None, said: str
) -> None:
    monkeypatch.setattr("power_loop.workflow.subprocess.LAST_WORDS_S", 0.3)
    pids, launcher = tmp_path / "pids", Script(LEAVES_SOMETHING.format(pids=str(tmp_path / "pids")) + then)
    executor = SubprocessExecutor(
        bootstrap=BOOT, runs_dir=tmp_path / "runs", env=ECHO, launcher=launcher, timeout_s=limit_s, term_grace_s=0.2
    )  # fmt: skip
    try:
        result = await create_workflow({"name": "w", "root": leaf("bad")}, parent_loop=await a_loop(), executor=executor).run()
    finally:
        for pid in started(pids):
            os.kill(pid, signal.SIGKILL)
    assert said in (result.results["bad"].error or result.final)


async def test_a_worker_whose_parent_is_killed_goes_with_it(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from power_loop import AgentSpec\n"
        "from power_loop.workflow import SubprocessExecutor, WorkerBootstrap\n"
        f"executor = SubprocessExecutor(bootstrap=WorkerBootstrap(llm_from_env=True), runs_dir={str(tmp_path)!r},\n"
        "    env={'POWER_LOOP_PROVIDER': 'echo', 'POWER_LOOP_ECHO_SLEEP': '60'})\n"
        "asyncio.run(executor.run_agent(AgentSpec('a', 'You.', []), 'go', parent_loop=None, driver_sid=''))\n"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    worker = 0
    while not worker or not database_in(tmp_path):
        await asyncio.sleep(0.02)
        worker = next(iter(started(Path(f"/proc/{parent.pid}/task/{parent.pid}/children"))), 0)
    parent.send_signal(signal.SIGKILL)
    await parent.wait()
    while alive(worker):
        await asyncio.sleep(0.02)


async def test_a_worker_has_the_allow_listed_environment_and_what_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, str] = {}

    class Looking(DirectWorkerLauncher):
        def build(self, **given: Any) -> Any:
            seen.update(given["base_env"])
            return super().build(**given)

    for name, value in {"SECRET_TOKEN": "s", "POWER_LOOP_SHELL_ENV": "inherit", "POWER_LOOP_API_KEY": "k", "POWER_LOOP_DSN": "d"}.items():
        monkeypatch.setenv(name, value)
    executor = SubprocessExecutor(bootstrap=BOOT, runs_dir=tmp_path, env=ECHO | {"MINE": "1"}, launcher=Looking())
    told = await executor.run_agent(AgentSpec("a", "You.", []), "go", parent_loop=None, driver_sid="")
    assert told["status"] == "completed"
    assert {"SECRET_TOKEN", "POWER_LOOP_DSN", "POWER_LOOP_SHELL_ENV"}.isdisjoint(seen)
    assert (seen["POWER_LOOP_API_KEY"], seen["MINE"]) == ("k", "1")
    assert seen["POWER_LOOP_WORKSPACE"].startswith(str(tmp_path))
    assert "PATH" in seen


async def test_the_same_leaf_again_finds_its_work(tmp_path: Path) -> None:
    executor = SubprocessExecutor(bootstrap=BOOT, runs_dir=tmp_path, env=ECHO)
    spec = AgentSpec("a", "You.", [], metadata={"idempotency_key": "r:a", "workflow_run_id": "r", "workflow_node_id": "a"})
    first = await executor.run_agent(spec, "go", parent_loop=None, driver_sid="")
    again = await executor.run_agent(spec, "go", parent_loop=None, driver_sid="")
    assert first == again
    assert first["usage"]["calls"] == 1


async def test_files_of_a_leaf_that_did_well_go_when_that_is_wanted(tmp_path: Path) -> None:
    executor = SubprocessExecutor(bootstrap=BOOT, runs_dir=tmp_path, env=ECHO, delete_on_success=True)
    result = await create_workflow({"name": "w", "root": leaf("a")}, parent_loop=await a_loop(), executor=executor).run()
    assert result.status == "completed"
    assert not list((tmp_path / result.run_id).iterdir())
    assert reap_runs(tmp_path, older_than_s=-1) == [result.run_id]


async def test_leaves_that_ran_elsewhere_are_not_run_in_this_process_because_nobody_said_so(tmp_path: Path) -> None:
    executor = SubprocessExecutor(bootstrap=BOOT, runs_dir=tmp_path, env=ECHO, launcher=Script(""))
    loop = await a_loop()
    failed = await create_workflow({"name": "w", "root": leaf("bad")}, parent_loop=loop, executor=executor).run()
    assert failed.status == "failed"
    with pytest.raises(WorkflowRunError, match="give executor="):
        await resume_run(loop, None, failed.run_id)
    good = SubprocessExecutor(bootstrap=BOOT, runs_dir=tmp_path, env=ECHO)
    assert (await resume_run(loop, None, failed.run_id, executor=good)).status == "completed"


def test_a_bootstrap_that_holds_code_is_refused_and_so_is_one_without_a_model() -> None:
    with pytest.raises(WorkerBootstrapError, match="needs a model"):
        WorkerBootstrap()
    for boot in (WorkerBootstrap(llm_factory=dict), WorkerBootstrap(llm_from_env=True, registry_factory=dict)):
        with pytest.raises(WorkerBootstrapError, match="another process"):
            SubprocessExecutor(bootstrap=boot)
    assert WorkerBootstrap.from_dict(BOOT.to_dict()) == BOOT


async def test_a_spec_runs_by_itself_with_a_model_of_the_callers(tmp_path: Path) -> None:
    boot = WorkerBootstrap(llm_factory=lambda: FunctionLLM(lambda _: "mine"))
    told = await run_spec_isolated(AgentSpec("a", "You.", []), "go", bootstrap=boot, db_path=str(tmp_path / "x" / "leaf.db"))
    assert (told["status"], told["final_text"]) == ("completed", "mine")


# acceptance: 108
@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
async def test_a_worker_in_bubblewrap_runs_and_sees_only_what_it_was_given(tmp_path: Path) -> None:
    executor = SubprocessExecutor(bootstrap=BOOT, runs_dir=tmp_path, env=ECHO, launcher=BubblewrapLauncher(network=False))
    result = await create_workflow({"name": "w", "root": leaf("a", input="boxed")}, parent_loop=await a_loop(), executor=executor).run()
    if "ermission" in str(result.errors) or "not permitted" in str(result.errors):
        pytest.skip("the kernel refuses namespaces here")
    assert "boxed" in result.final, result.errors
    assert (result.results["a"].db_path or "").startswith(str(tmp_path))


async def test_a_worker_leaves_a_detached_run_alone_whose_leaves_belong_elsewhere(tmp_path: Path) -> None:
    opened, clock = await open_store(), ManualClock()
    store = SessionStore(opened.database, opened.dialect, clock=clock)
    executor = SubprocessExecutor(bootstrap=BOOT, runs_dir=tmp_path, env=ECHO)
    first = StatefulAgentLoop(llm=FunctionLLM(lambda _: "in process"), store=DyingStore(store, 4))
    parent = await first.new_session()
    handle = await run_detached(
        create_workflow({"name": "w", "root": leaf("a")}, parent_loop=first, executor=executor, parent_session_id=parent)
    )  # fmt: skip
    with suppress(Died):
        await handle.task
    second = kept(StatefulAgentLoop(llm=FunctionLLM(lambda _: "in process"), store=store))
    for _ in range(4):
        clock.jump(120)
        await Worker(second).run_once()
    assert (await list_workflows(second, parent))[0]["status"] in ("interrupted", "running")
    assert await Worker(second).run_once() == 0, "it is not looked at again and again"
    again = await resume_detached(second, parent, handle.run_id, executor=executor)
    assert (await again.task).status == "completed"
