"""A second program against the public API: built-in tools, their environment, and what a store keeps.

`make check` has pyright read it; a test runs `main` offline. With `typed_api` it names everything that is public.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import assert_type

from power_loop import (
    CORE_TOOL_NAMES,
    DEFAULT_SHELL_BACKEND,
    DEFAULT_TOOL_HANDLERS,
    EXPLORE_TOOL_NAMES,
    FULL_TOOL_NAMES,
    LOAD_SKILL_DEFINITION,
    TOOL_PRESETS,
    BackgroundTaskRow,
    Blackboard,
    BlackboardEntry,
    BubblewrapShellBackend,
    CompactionRow,
    Diagnosis,
    Finding,
    HumanInputRequired,
    Job,
    LocalShellBackend,
    NoteRow,
    ProjectMessageRow,
    RuntimeEnv,
    SessionStore,
    ShellBackend,
    SkillLoader,
    SqliteBlackboard,
    StatefulAgentLoop,
    TimerRow,
    ToolRegistry,
    UsageRow,
    close_all_bash_sessions,
    create_default_tool_registry,
    get_default_loader,
    get_tool_definitions,
    open_store,
    register_blackboard_tools,
    register_skill_tools,
    render_entries,
    request_user_input,
    runtime_env_context,
    validate_tool_args,
)
from power_loop.llm import EchoLLM


def every_backend() -> list[ShellBackend]:
    return [DEFAULT_SHELL_BACKEND, LocalShellBackend(env=("EDITOR",))]


def confined() -> ShellBackend:
    return BubblewrapShellBackend(network=False)


def tools_of(workspace: Path) -> ToolRegistry:
    registry = create_default_tool_registry(preset="explore", workspace_dir=workspace, shell_backend=every_backend()[0])
    assert set(registry.names()) <= set(EXPLORE_TOOL_NAMES)
    assert set(CORE_TOOL_NAMES) < set(FULL_TOOL_NAMES)
    assert sorted(TOOL_PRESETS) == ["core", "explore", "full"]
    assert "glob" in DEFAULT_TOOL_HANDLERS
    assert [each.name for each in get_tool_definitions()]
    assert validate_tool_args("read_file", {}) is not None
    return registry


def skills_of(folder: Path) -> SkillLoader:
    loader = register_skill_tools(ToolRegistry(), skills_dir=folder)
    assert LOAD_SKILL_DEFINITION.name == "load_skill"
    return loader


def asks() -> str:
    try:
        request_user_input(prompt="Which city?")
    except HumanInputRequired as asked:
        return str(asked)
    return ""


async def kept(store: SessionStore, session_id: str) -> None:
    assert_type(await store.list_notes(session_id), list[NoteRow])
    assert_type(await store.list_timers(session_id), list[TimerRow])
    assert_type(await store.list_usage(session_id), list[UsageRow])
    assert_type(await store.list_compactions(session_id), list[CompactionRow])
    assert_type(await store.list_background_tasks(session_id), list[BackgroundTaskRow])


def shown(rows: list[ProjectMessageRow]) -> list[str]:
    return [row.kind for row in rows]


async def on_a_board(store: SessionStore, registry: ToolRegistry) -> str:
    board: Blackboard = SqliteBlackboard(store, max_entries=60, max_text_len=2000)
    register_blackboard_tools(registry, kinds=("note", "task"), statuses=("open", "done"), default_kind="note", overwrite=False)
    entry = assert_type(await board.post("team", "look at the logs", kind="task", author="ann"), BlackboardEntry)
    await board.update("team", entry.id, status="done")
    assert assert_type(await board.remove("team", entry.id), bool)
    return render_entries(await board.read("team"), header="Board:", empty="nothing yet")


async def beside(loop: StatefulAgentLoop, session_id: str) -> list[Job]:
    jobs = await loop.list_jobs(session_id)
    assert not [job for job in jobs if await loop.stop_job(session_id, job.job_id)]
    return jobs


async def examined(loop: StatefulAgentLoop, session_id: str) -> list[Finding]:
    diagnosis: Diagnosis = await loop.doctor(session_id)
    assert diagnosis.state == "idle"
    return list(diagnosis.findings)


async def main() -> None:
    """Everything above that needs neither a sandbox nor a skill."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        store = await open_store(":memory:")
        async with StatefulAgentLoop(llm=EchoLLM(), store=store, tool_registry=tools_of(workspace)) as loop:
            session_id = await loop.new_session()
            await loop.send("hello", session_id)
            await kept(store, session_id)
            assert await beside(loop, session_id) == []
            assert await examined(loop, session_id) == []
        await store.close()
        with runtime_env_context(RuntimeEnv(workspace_dir=folder, skills_dir=folder)):
            assert list(get_default_loader().names) == list(skills_of(workspace).names) == []
        assert asks()
        assert shown([]) == []
        assert close_all_bash_sessions() >= 0


if __name__ == "__main__":
    asyncio.run(main())
