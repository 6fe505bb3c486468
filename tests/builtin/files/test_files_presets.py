"""Presets, environments, and one registry for many tenants."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from power_loop.contracts.errors import RuntimeEnvError
from power_loop.contracts.tool import ToolRun
from power_loop.loop import StatefulAgentLoop
from power_loop.testing import FunctionLLM, ScriptedLLM, call, say
from power_loop.tools import presets
from power_loop.tools.env import RuntimeEnv, current_runtime_env, runtime_env_context
from power_loop.tools.presets import (
    CORE_TOOL_NAMES,
    DEFAULT_TOOL_HANDLERS,
    EXPLORE_TOOL_NAMES,
    FULL_TOOL_NAMES,
    TOOL_PRESETS,
    create_default_tool_registry,
    get_tool_definitions,
    validate_tool_args,
)
from power_loop.tools.toolbox import build_registry

VARIABLES = ("POWER_LOOP_WORKSPACE", "POWER_LOOP_HOME", "POWER_LOOP_SKILLS_DIR")


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


# acceptance: 42
def test_presets_hold_exactly_the_tools_of_the_contract(tmp_path: Path) -> None:
    core = ["bash", "read_file", "write_file", "edit_file", "apply_patch", "glob", "grep", "load_skill", "request_user_input"]
    more = [
        "todo",
        "note_add",
        "note_update",
        "note_delete",
        "schedule_wakeup",
        "list_wakeups",
        "cancel_wakeup",
        "current_time",
        "recall_compacted",
        "recall_send",
    ]
    explore = ["bash", "read_file", "glob", "grep", "load_skill", "request_user_input"]
    assert list(CORE_TOOL_NAMES) == core
    assert list(EXPLORE_TOOL_NAMES) == explore
    assert list(FULL_TOOL_NAMES) == [*core, *more, "recall_output", "background_run", "check_background"]
    assert not {"write_file", "edit_file", "apply_patch"} & set(EXPLORE_TOOL_NAMES)
    assert TOOL_PRESETS == {"core": CORE_TOOL_NAMES, "explore": EXPLORE_TOOL_NAMES, "full": FULL_TOOL_NAMES}


@pytest.mark.parametrize("preset", [None, "core", "explore", "full"])
def test_a_registry_holds_the_tools_of_its_preset(tmp_path: Path, preset: str | None) -> None:
    registry = create_default_tool_registry(preset=preset, workspace_dir=tmp_path, home_dir=tmp_path / "home")
    assert registry.names() == list(TOOL_PRESETS[preset or "full"])
    assert [each.name for each in get_tool_definitions(preset=preset)] == registry.names()


def test_include_beats_the_preset_and_exclude_takes_away(tmp_path: Path) -> None:
    registry = create_default_tool_registry(preset="full", include=["glob", "grep"], exclude=["grep"], workspace_dir=tmp_path)
    assert registry.names() == ["glob"]
    assert [each.name for each in get_tool_definitions(include=["grep", "glob", "grep"])] == ["grep", "glob"]


@pytest.mark.parametrize(
    "wrong",
    [{"preset": "all"}, {"include": ["read"]}, {"exclude": ["raed"]}, {"include": ["glob"], "command_check": "strict"}],
)
def test_what_is_misspelt_is_refused_by_name(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"all|read|raed|strict"):
        create_default_tool_registry(workspace_dir=tmp_path, **wrong)


def test_a_workspace_is_given_or_a_variable_and_never_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeEnvError, match=r"read_file need a workspace: .* POWER_LOOP_WORKSPACE"):
        create_default_tool_registry(include=["read_file"])
    with pytest.raises(RuntimeEnvError, match="is no folder"):
        create_default_tool_registry(include=["glob"], workspace_dir=tmp_path / "missing")
    monkeypatch.setenv("POWER_LOOP_WORKSPACE", str(tmp_path))
    (tmp_path / "a").write_text("here")
    result = create_default_tool_registry(include=["read_file"]).invoke("read_file", {"path": "a"})
    assert "here" in result.content
    assert create_default_tool_registry(include=["grep"], bind=False).names() == ["grep"]


def test_an_environment_reads_its_variables_when_it_is_made(tmp_path: Path) -> None:
    env = RuntimeEnv.from_env({"POWER_LOOP_WORKSPACE": str(tmp_path), "POWER_LOOP_HOME": "", "POWER_LOOP_SKILLS_DIR": "~/skills"})
    assert (env.workspace_dir, env.home_dir, env.skills_dir) == (tmp_path, None, Path.home() / "skills")
    assert RuntimeEnv("x").workspace == Path.cwd() / "x"
    with pytest.raises(RuntimeEnvError):
        _ = RuntimeEnv().workspace
    with pytest.raises(AttributeError):
        env.workspace_dir = tmp_path  # type: ignore[misc]  # frozen: this line is the test


def test_the_home_is_made_when_it_is_first_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = RuntimeEnv(home_dir=tmp_path / "deep" / "home")
    assert not (tmp_path / "deep").exists()
    assert env.home.is_dir()
    monkeypatch.setenv("POWER_LOOP_HOME", str(tmp_path / "other"))
    assert RuntimeEnv().home == tmp_path / "other"
    assert RuntimeEnv().skills == tmp_path / "other" / "skills"


def test_a_safe_path_is_absolute_and_without_links(tmp_path: Path) -> None:
    env = RuntimeEnv(tmp_path, tmp_path / "home")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for text in ("link/a", "@workspace/link/a", str(tmp_path / "link" / "a"), "./x/../link/a"):
        assert env.safe_path(text) == tmp_path / "real" / "a"
    assert env.safe_path("@home/.cache/a") == tmp_path / "home" / ".cache" / "a"
    assert env.safe_path("@workspace") == tmp_path
    assert env.safe_path("@homely") == tmp_path / "@homely"
    for text in ("..", "@home/a", "/", "~"):
        if text != "@home/a":
            with pytest.raises(ValueError, match="outside"):
                env.safe_path(text)


# --- tenants ------------------------------------------------------------------------------------------


# acceptance: 27
async def test_one_registry_reads_different_files_for_two_tenants_at_once(tmp_path: Path) -> None:
    """Both sends meet inside of their first model call, so their tools run side by side."""
    registry = create_default_tool_registry(include=["read_file", "write_file"], bind=False)
    both = asyncio.Barrier(2)

    async def answer(request: Any) -> Any:
        if request.messages[-1]["role"] == "user":
            await both.wait()
            return call("read_file", path="who.txt")
        return say(request.messages[-1]["content"])

    async def tenant(name: str, loop: StatefulAgentLoop) -> str:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "who.txt").write_text(f"I am {name}")
        with runtime_env_context(RuntimeEnv(folder, tmp_path / "home")):
            return (await loop.send("who?", await loop.new_session())).final_text

    async with StatefulAgentLoop(llm=FunctionLLM(answer), dsn=":memory:", tool_registry=registry) as loop:
        said = await asyncio.gather(tenant("ann", loop), tenant("bob", loop))
    assert [text.split("|")[1] for text in said] == ["I am ann", "I am bob"]


def test_an_unbound_tool_without_an_environment_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = create_default_tool_registry(include=["read_file"], bind=False)
    assert "workspace" in registry.invoke("read_file", {"path": "a"}).content
    (tmp_path / "a").write_text("mine")
    assert "mine" in registry.invoke("read_file", {"path": "a"}, run=ToolRun(env=RuntimeEnv(tmp_path))).content


def test_a_bound_tool_keeps_its_own_environment(tmp_path: Path) -> None:
    for name in ("own", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text(name)
    registry = create_default_tool_registry(include=["read_file"], workspace_dir=tmp_path / "own")
    with runtime_env_context(RuntimeEnv(tmp_path / "other")):
        assert "|own" in registry.invoke("read_file", {"path": "a"}).content


def test_a_bound_environment_takes_backend_and_board_from_the_context_where_it_has_none(tmp_path: Path) -> None:
    bound, outer = (
        RuntimeEnv(tmp_path, shell_backend="own"),
        RuntimeEnv("/elsewhere", shell_backend="theirs", blackboard="board", blackboard_id="b"),
    )
    of = presets.bound_env(bound)
    assert of(ToolRun()) is bound
    with runtime_env_context(outer) as seen:
        assert current_runtime_env() is seen is outer
        completed = of(ToolRun())
    assert current_runtime_env() is None
    assert (completed.workspace_dir, completed.shell_backend) == (tmp_path, "own")
    assert (completed.blackboard, completed.blackboard_id) == ("board", "b")
    assert completed.safe_path("a") == Path(os.path.realpath(tmp_path)) / "a"


def test_default_handlers_work_in_the_environment_of_the_call(tmp_path: Path) -> None:
    names = ["write_file", "edit_file"]
    registry = build_registry(get_tool_definitions(include=names), DEFAULT_TOOL_HANDLERS)
    assert len(DEFAULT_TOOL_HANDLERS) == len(list(DEFAULT_TOOL_HANDLERS)) == 22
    with runtime_env_context(RuntimeEnv(tmp_path)):
        assert registry.invoke("write_file", {"path": "a", "content": "one"}).ok
        assert registry.invoke("edit_file", {"path": "a", "old_text": "one", "new_text": "two"}).ok
    assert (tmp_path / "a").read_text() == "two"


def test_arguments_can_be_checked_without_a_registry() -> None:
    assert validate_tool_args("read_file", {"path": "a"}) is None
    assert "/path" in (validate_tool_args("read_file", {"pth": "a"}) or "")
    with pytest.raises(ValueError, match="raed"):
        validate_tool_args("raed", {})


# acceptance: 175 (made again under the id of a deleted one)
async def test_a_new_session_has_not_read_what_a_deleted_one_of_its_id_has(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    registry = create_default_tool_registry(include=["read_file", "write_file"], workspace_dir=tmp_path, home_dir=tmp_path / "home")
    model = ScriptedLLM([call("read_file", path="a"), say("read"), call("write_file", path="a", content="new"), say("tried")])
    async with StatefulAgentLoop(llm=model, dsn=":memory:", tool_registry=registry) as loop:
        session = await loop.new_session()
        await loop.send("read it", session)
        await loop.close_session(session)
        await loop.new_session(session_id=session)
        await loop.send("write it", session)
    assert "has not been read in this session" in model.requests[-1].messages[-1]["content"]
    assert (tmp_path / "a").read_text() == "old"


# acceptance: 175 (in a loop)
async def test_two_sessions_of_a_loop_do_not_share_what_they_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    registry = create_default_tool_registry(include=["read_file", "write_file"], workspace_dir=tmp_path, home_dir=tmp_path / "home")
    model = ScriptedLLM([call("read_file", path="a"), say("read"), call("write_file", path="a", content="new"), say("tried")])
    async with StatefulAgentLoop(llm=model, dsn=":memory:", tool_registry=registry) as loop:
        one, two = await loop.new_session(), await loop.new_session()
        await loop.send("read it", one)
        await loop.send("write it", two)
        (result,) = [message["content"] for message in await loop.get_messages(two) if message["role"] == "tool"]
    assert "has not been read in this session" in result
    assert (tmp_path / "a").read_text() == "old"
