"""An empty workspace, the shell tools in it, and nothing of them that outlives its test."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from shells import Tools, descriptors

from power_loop.store.sql_store import SessionStore, open_store
from power_loop.tools.env import RuntimeEnv
from power_loop.tools.shell.background import JOBS, end_all_jobs
from power_loop.tools.shell.table import SHELLS, close_all_bash_sessions


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


@pytest.fixture
def make_tools(workspace: Path) -> Callable[..., Tools]:
    def make(backend: Any = None, check: Any = "standard") -> Tools:
        return Tools(RuntimeEnv(workspace, workspace.parent / "home", shell_backend=backend), check)

    return make


@pytest.fixture
def tools(make_tools: Callable[..., Tools]) -> Tools:
    return make_tools()


@pytest.fixture(autouse=True)
async def _nothing_is_left() -> AsyncIterator[None]:
    """No shell, job, thread or descriptor of ours is there after the test that was not before it: within its event loop, which has some."""
    before = descriptors()
    yield
    end_all_jobs()
    close_all_bash_sessions()
    assert len(SHELLS) == 0
    JOBS.forget()
    assert descriptors() <= before, "descriptors were left open"


@pytest.fixture
async def store() -> AsyncGenerator[SessionStore]:
    opened = await open_store(":memory:")
    yield opened
    await opened.close()
