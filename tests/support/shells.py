"""The shell tools as a loop would call them, on real processes; and looking at what the system does with those."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from power_loop.contracts.tool import ToolHandlerResult, ToolRun
from power_loop.tools.builtin import background, shell
from power_loop.tools.builtin.given import Given
from power_loop.tools.env import RuntimeEnv

LIMIT_S = 100.0


class Tools:
    """``await tools.bash("echo hi")``: the text that the model would read."""

    def __init__(self, env: RuntimeEnv, check: Any = "standard") -> None:
        self.given = Given(lambda run: env, command_check=check)
        self.handlers = {**shell.handlers(self.given), **background.handlers(self.given)}

    async def call(self, name: str, run: ToolRun | None = None, **arguments: Any) -> ToolHandlerResult:
        return await self.handlers[name](run or ToolRun(session_id="s"), **arguments)

    async def bash(self, command: str | None = None, *, session: str = "s", run: ToolRun | None = None, **arguments: Any) -> str:
        result = await self.call("bash", run or ToolRun(session_id=session), command=command, **arguments)
        return result.content


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def lives(pid: int) -> bool:
    """It runs; a zombie does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return pid > 0 and state[:1] not in ("", "Z", "X")


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what the system does in its own time."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


def pid_in(path: Path) -> int:
    """The process that wrote its id into ``path``; 0 while it has not."""
    try:
        return int(path.read_text(encoding="utf-8") or 0)
    except FileNotFoundError:
        return 0
