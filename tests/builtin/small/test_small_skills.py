"""Skills: found, described, loaded by name, read again when they change; a broken one takes nobody along."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from power_loop.contracts.tool import ToolRun
from power_loop.loop import StatefulAgentLoop
from power_loop.testing import ScriptedLLM, call, say
from power_loop.tools import skills as module
from power_loop.tools.env import RuntimeEnv, runtime_env_context
from power_loop.tools.front_matter import split
from power_loop.tools.presets import create_default_tool_registry
from power_loop.tools.skills import LOAD_SKILL_DEFINITION, SkillLoader, get_default_loader, register_skill_tools
from power_loop.tools.toolbox import ToolRegistry


def put(folder: Path, name: str, text: str | None = None, body: str = "Be brief.") -> Path:
    path = folder / name / "SKILL.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if text is not None else f"---\nname: {name}\ndescription: How to {name}\n---\n\n{body}\n", "utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path / "skills", "write")
    put(tmp_path / "skills", "bake")
    return tmp_path / "skills"


# acceptance: 47 (described and loadable by name)
def test_skills_are_described_and_loaded_by_name(folder: Path, tmp_path: Path) -> None:
    (folder / "notes").mkdir()
    loader = SkillLoader(folder)
    assert loader.names == ["bake", "write"]
    assert loader.get_descriptions() == "- bake: How to bake\n- write: How to write"
    assert loader.get_content("bake") == "Be brief."
    assert loader.get_content("swim") is None
    assert loader.get_descriptions() in loader.build_system_prompt_section()
    with runtime_env_context(RuntimeEnv(tmp_path, tmp_path / "home", folder)):
        loaded = loader.handle_load_skill("bake")
        assert get_default_loader().names == ["bake", "write"]
    where = f'name="bake" root="{folder / "bake"}" home="{tmp_path / "home"}" workspace="{tmp_path}"'
    assert (loaded.ok, loaded.content) == (True, f"<skill {where}>\nBe brief.\n</skill>")
    refused = loader.handle_load_skill("swim")
    assert (refused.ok, refused.content) == (False, "There is no skill 'swim'; there are bake, write.")


# acceptance: 47 (a broken one removes only itself)
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Just text", "does not begin with a line of ---"),
        ("---\nname: swim\n", "no closing line of ---"),
        ("---\nname: sing\ndescription: x\n---\n", "its name is 'sing', but that of its folder 'swim'"),
        ("---\nname: swim\n---\n", "no description"),
        ("---\nname: swim\ndescription: {a: [b\n---\n", "front matter is"),
        ("---\nname: swim\ndescription: x\nsure: !!bool maybe\n---\n", "front matter is"),
        ("---\nname: swim\ndescription: x\nwhen: !!timestamp y\n---\n", "front matter is"),
        (f"---\nname: swim\ndescription: x\ndeep: {'[' * 3000}\n---\n", "front matter is"),
        ("---\nname: swim\ndescription: x\n---\n" + "x" * (1024 * 1024), "longer than"),
    ],
)
def test_a_broken_skill_is_left_out_with_one_warning(folder: Path, text: str, why: str, caplog: pytest.LogCaptureFixture) -> None:
    put(folder, "swim", text)
    loader = SkillLoader(folder)
    with caplog.at_level(logging.WARNING, "power_loop"):
        assert loader.names == loader.names == ["bake", "write"]
    (warning,) = caplog.messages
    assert why in warning


def test_a_link_or_bytes_that_are_no_text_make_a_skill_broken(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("---\nname: link\ndescription: x\n---\nsecret")
    (folder / "link").mkdir()
    (folder / "link" / "SKILL.md").symlink_to(tmp_path / "secret")
    put(folder, "bytes").write_bytes(b"---\nname: bytes\ndescription: \xff\n---\n")
    assert SkillLoader(folder).names == ["bake", "write"]


def test_a_file_is_read_again_only_when_its_time_or_size_has_changed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = module.read_skill
    monkeypatch.setattr(module, "read_skill", lambda name, path: (read.append(name), real(name, path))[1])
    loader = SkillLoader(folder)
    assert loader.names == loader.names
    assert read == ["bake", "write"]
    path = put(folder, "bake", body="Preheat.")
    os.utime(path, ns=(1, 1))
    assert loader.get_content("bake") == "Preheat."
    assert read == ["bake", "write", "bake"]
    put(folder, "swim")
    path.unlink()
    assert loader.names == ["swim", "write"]
    loader.reload()
    assert read[3:] == ["swim", "swim", "write"]


def test_a_folder_that_is_not_there_holds_no_skills(tmp_path: Path) -> None:
    loader = SkillLoader(tmp_path / "none")
    assert (loader.names, loader.build_system_prompt_section()) == ([], "")
    assert loader.handle_load_skill("x").content == "There is no skill 'x'; there are none here."


def test_a_skill_tool_can_be_put_into_any_registry(folder: Path, tmp_path: Path) -> None:
    registry = ToolRegistry()
    assert register_skill_tools(registry, skills_dir=folder).names == ["bake", "write"]
    assert registry.names() == [LOAD_SKILL_DEFINITION.name] == ["load_skill"]
    run = ToolRun(env=RuntimeEnv(tmp_path, tmp_path / "home"))
    assert "Be brief." in registry.invoke("load_skill", {"name": "write"}, run=run).content


# acceptance: 47 (its files can be read afterwards)
async def test_the_files_of_a_skill_can_be_read_once_it_is_loaded_and_only_by_that_session(folder: Path, tmp_path: Path) -> None:
    (folder / "bake" / "oven.txt").write_text("220 degrees")
    (tmp_path / "work").mkdir()
    path = str(folder / "bake" / "oven.txt")
    registry = create_default_tool_registry(
        include=["load_skill", "read_file", "grep", "glob"], workspace_dir=tmp_path / "work", home_dir=tmp_path / "home", skills_dir=folder
    )
    script: list[Any] = [call("read_file", path=path), call("load_skill", name="bake"), call("read_file", path=path)]
    script += [call("grep", pattern="220", path=str(folder / "bake")), call("glob", pattern="*", path=str(folder / "bake")), say("baked")]
    model = ScriptedLLM([*script, call("read_file", path=path), say("no")])
    async with StatefulAgentLoop(llm=model, dsn=":memory:", tool_registry=registry) as loop:
        one, two = await loop.new_session(), await loop.new_session()
        await loop.send("bake", one)
        await loop.send("peek", two)
        refused, loaded, read, grep, glob = [each["content"] for each in await loop.get_messages(one) if each["role"] == "tool"]
        (peeked,) = [each["content"] for each in await loop.get_messages(two) if each["role"] == "tool"]
    assert "outside of the folders" in refused
    assert loaded.startswith("<skill ")
    assert "220 degrees" in read
    assert "220 degrees" in grep
    assert "oven.txt" in glob
    assert "outside of the folders" in peeked


async def test_an_unbound_registry_loads_the_skills_of_each_tenant(tmp_path: Path) -> None:
    registry = create_default_tool_registry(include=["load_skill"], bind=False)
    for tenant in ("ann", "bob"):
        put(tmp_path / tenant, "greet", body=f"Say {tenant}.")
    for tenant in ("ann", "bob", "ann"):
        with runtime_env_context(RuntimeEnv(home_dir=tmp_path / "home", skills_dir=tmp_path / tenant)):
            assert f"Say {tenant}." in registry.invoke("load_skill", {"name": "greet"}).content


# --- front matter -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "fields"),
    [
        ("name: x\n\n# a remark\ndescription: a: b # why", {"name": "x", "description": "a: b"}),
        ("description: \"it's: fine\"\nlicense: 'a ''b'''", {"description": "it's: fine", "license": "a 'b'"}),
        ("description: >-\n  one\n  two\nname: x", {"description": "one two", "name": "x"}),
        ("description: |\n  one\n    two\n", {"description": "one\n  two"}),
        ("allowed-tools: [bash, grep]\nempty:", {"allowed-tools": ["bash", "grep"], "empty": ""}),
        ("allowed-tools:\n  - bash\n  - grep", {"allowed-tools": ["bash", "grep"]}),
        (
            "allowed-tools:\n- bash\nmetadata:\n  by: us\n  version: '1.0'",
            {"allowed-tools": ["bash"], "metadata": {"by": "us", "version": "1.0"}},
        ),
    ],
)
def test_simple_front_matter_is_read_without_yaml(lines: str, fields: Any) -> None:
    assert split(f"---\n{lines}\n---\nbody\n") == (fields, "body")
    assert split(f"\ufeff---\r\n{lines}\r\n---\r\n\r\nbody")[1] == "body"


@pytest.mark.parametrize("lines", ["a: {b: c}", "a: &x b", 'a: "\\u00e4"', "just words", "a: b\n  c", "a: ['x', 'y']"])
def test_more_than_simple_front_matter_names_the_extra_or_is_read_by_it(lines: str) -> None:
    try:
        import yaml
    except ImportError:
        with pytest.raises(ValueError, match=r"pip install 'power-loop\[skills\]'"):
            split(f"---\n{lines}\n---\n")
        return
    if isinstance(expected := yaml.safe_load(lines), dict):
        assert split(f"---\n{lines}\n---\n")[0] == expected
