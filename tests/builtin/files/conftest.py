"""A desk to work at: a workspace with the file tools of one registry, used by one session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from power_loop.contracts.tool import ToolRun
from power_loop.tools import folders
from power_loop.tools.presets import create_default_tool_registry

FILE_TOOLS = ("read_file", "write_file", "edit_file", "apply_patch", "glob", "grep")


class Desk:
    """The tools of one registry, as a session calls them."""

    def __init__(self, workspace: Path, **environment: Any) -> None:
        self.workspace = workspace
        workspace.mkdir(exist_ok=True)
        environment.setdefault("home_dir", workspace.parent / "home")
        self.registry = create_default_tool_registry(include=FILE_TOOLS, workspace_dir=workspace, **environment)

    def call(self, name: str, *, session: str = "one", run: ToolRun | None = None, **args: Any) -> tuple[bool, str]:
        """(did it work, what the model reads)."""
        result = self.registry.invoke(name, args, run=run or ToolRun(session_id=session, tool_name=name))
        assert isinstance(result.content, str)
        result.content.encode()
        return result.ok, result.content

    def good(self, name: str, **args: Any) -> str:
        ok, text = self.call(name, **args)
        assert ok, text
        return text

    def bad(self, name: str, **args: Any) -> str:
        ok, text = self.call(name, **args)
        assert not ok, text
        assert "Traceback" not in text
        return text

    def put(self, name: str, content: bytes | str) -> Path:
        path = self.workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def names(self, pattern: str, **more: Any) -> list[str]:
        """What glob finds, sorted."""
        text = self.good("glob", pattern=pattern, **more)
        return [] if text == "no file matches" else sorted(text.split("\n"))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "work")


@pytest.fixture(params=["handles", "paths"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to open what lies below a root: by the system's handles, and by paths that are looked at again."""
    if request.param == "handles" and not folders.HAS_HANDLES:
        pytest.skip("this system has no folder handles")
    monkeypatch.setattr(folders, "HAS_HANDLES", request.param == "handles")
    return request.param


@pytest.fixture(params=["ripgrep", "without"])
def searcher(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With ripgrep where there is one, and on a machine that has none."""
    if request.param == "without":
        monkeypatch.setenv("PATH", "")
    return request.param
