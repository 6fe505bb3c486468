"""The shell tools on a real loop: cancels, time limits and closing reach the processes."""

# small files, and nobody else in the event loop

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from shells import lives, pid_in, until
from times import time_passes

from power_loop import StatefulAgentLoop
from power_loop.testing import ScriptedLLM, call, say
from power_loop.tools.presets import create_default_tool_registry


def a_loop(workspace: Path, *replies: Any, **more: Any) -> StatefulAgentLoop:
    tools = create_default_tool_registry(include=["bash", "background_run", "check_background"], workspace_dir=workspace)
    return StatefulAgentLoop(llm=ScriptedLLM(list(replies)), dsn=":memory:", tool_registry=tools, **more)


async def results(loop: StatefulAgentLoop, session: str) -> list[str]:
    return [message["content"] for message in await loop.get_messages(session) if message["role"] == "tool"]


async def test_the_model_reads_exit_code_and_output(workspace: Path) -> None:
    async with a_loop(workspace, call("bash", command="echo hi; exit 3"), call("bash", command="sudo ls"), say("done")) as loop:
        session = await loop.new_session()
        assert (await loop.send("go", session)).final_text == "done"
        first, second = await results(loop, session)
    assert first.startswith("exit_code=3\nhi")
    assert second.startswith("The command was not run. It was refused because sudo runs commands as another user.")


async def test_a_cancelled_send_ends_the_group_and_keeps_the_output(workspace: Path) -> None:
    command = "echo printed; (setsid sh -c 'echo $$ > daemon; exec sleep 1000' &); echo $$ > pid; sleep 1000"
    async with a_loop(workspace, call("bash", command=command), say("never")) as loop:
        session = await loop.new_session()
        sending = asyncio.create_task(loop.send("go", session))
        await until(lambda: bool(pid_in(workspace / "pid") and pid_in(workspace / "daemon")))
        assert await loop.cancel(session)
        assert (await sending).status == "cancelled"
        assert not lives(pid_in(workspace / "pid"))
        assert not lives(pid_in(workspace / "daemon"))
        (said,) = await results(loop, session)
    assert said.startswith("exit_code=130\nprinted\n")
    assert "[cancelled" in said


async def test_a_caller_that_is_cancelled_leaves_no_process(workspace: Path) -> None:
    async with a_loop(workspace, call("bash", command="echo $$ > pid; sleep 1000"), say("never")) as loop:
        session = await loop.new_session()
        sending = asyncio.create_task(loop.send("go", session))
        await until(lambda: bool(pid_in(workspace / "pid")))
        sending.cancel()
        await asyncio.wait([sending])
        assert not lives(pid_in(workspace / "pid"))


# acceptance: 128 (subprocess trees)
async def test_the_time_limit_of_tools_ends_the_group_and_the_outcome_is_unknown(workspace: Path) -> None:
    async with a_loop(workspace, call("bash", command="echo $$ > pid; sleep 1000"), say("seen")) as loop:
        loop.config.tooling = type(loop.config.tooling)(timeout_s=600)
        session = await loop.new_session()
        sending = asyncio.create_task(loop.send("go", session))
        await until(lambda: bool(pid_in(workspace / "pid")))
        time_passes(600)
        assert (await sending).final_text == "seen"
        assert not lives(pid_in(workspace / "pid"))
        (said,) = await results(loop, session)
    assert "may or may not have taken effect" in said


async def test_a_background_command_reports_to_a_later_round(workspace: Path) -> None:
    def ask(request: Any) -> Any:
        task_id = str(request.messages[-1]["content"]).split(";")[0].removeprefix("Started ")
        return call("check_background", task_id=task_id)

    async with a_loop(workspace, call("background_run", command="echo hi"), ask, say("done")) as loop:
        session = await loop.new_session()
        assert (await loop.send("go", session)).final_text == "done"
        _, checked = await results(loop, session)
    assert checked.startswith("bg_")
    assert ": echo hi" in checked


# acceptance: 153 (background command, shell)
async def test_closing_the_loop_or_the_session_leaves_no_process(workspace: Path) -> None:
    command = "sleep 1000 & echo $! > shell; echo hi"
    replies = (call("bash", command=command), call("background_run", command="echo $$ > job; sleep 1000"), say("done"))
    for closes_session in (True, False):
        loop = a_loop(workspace, *replies)
        session = await loop.new_session()
        assert (await loop.send("go", session)).final_text == "done"
        await until(lambda: bool(pid_in(workspace / "job")))
        pids = pid_in(workspace / "shell"), pid_in(workspace / "job")
        assert all(map(lives, pids))
        if closes_session:
            await loop.close_session(session)
            assert not any(map(lives, pids))
        await loop.aclose(drain_timeout_s=0.01)
        assert not any(map(lives, pids))
        for name in ("shell", "job"):
            (workspace / name).unlink()


async def test_a_job_is_written_down_under_the_name_that_drives_the_session(workspace: Path) -> None:
    async with a_loop(workspace, call("background_run", command="true"), say("done")) as loop:
        session = await loop.new_session()
        await loop.send("go", session)
        (job,) = await (await loop.ensure_store()).list_jobs(session)
        assert job.holder == loop.drivers.holder
