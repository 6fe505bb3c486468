"""The tool ``bash``: commands in a shell that belongs to the session and lives on between them.

How a shell is driven and ended stands in `tools.shell`; where it runs is the backend's word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from power_loop.contracts.errors import RuntimeEnvError
from power_loop.contracts.tool import ToolDefinition, ToolHandlerResult, ToolRun
from power_loop.tools.builtin.given import Given, failed
from power_loop.tools.env import RuntimeEnv
from power_loop.tools.shell.commands import grace_of, ground_of, refused, told
from power_loop.tools.shell.session import Shell
from power_loop.tools.shell.table import SHELLS

TIMEOUT_S = 120.0


def one_line(args: Mapping[str, Any], result: str | None) -> str:
    """The command, and its exit code once it is known."""
    command = " ".join(str(args.get("command") or "restart").split())
    return f"bash: {command[:120]}" + (f" → {result.partition(chr(10))[0][:40]}" if result else "")


DEFINITIONS = (
    ToolDefinition(
        "bash",
        "Run a command in a bash shell that keeps its directory, variables and functions between calls, starting in the workspace. "
        "The first line of the result is exit_code=N; then follows what was printed, of long output the first and last lines. "
        "There is no input: a command that asks something reads end of file. A command that takes longer than its timeout is ended, "
        "and the shell with it; use background_run, where it is on offer, for what shall run on.",
        {
            "type": "object",
            "properties": {
                "command": {"type": "string", "description": "What to run; may have several lines."},
                "restart": {"type": "boolean", "description": "Start a fresh shell first; alone, or before the command."},
                "timeout": {"type": "number", "minimum": 1, "maximum": 600, "description": "Seconds; 120 if not given."},
            },
            "additionalProperties": False,
        },
        project=one_line,
        effects="once",
        parallel=False,
    ),
)


def handlers(given: Given) -> dict[str, Callable[..., Any]]:
    """``bash`` for one registry."""

    async def bash(run: ToolRun, command: str | None = None, restart: bool = False, timeout: float = TIMEOUT_S) -> ToolHandlerResult:
        if command is None and not restart:
            return failed("Nothing was run: give a command, or restart=true for a fresh shell.")
        try:
            env = given.env(run)
            if command is not None and (refusal := refused(command, given, env)) is not None:
                return refusal
            return await in_shell(run, given, env, command, restart=restart, timeout_s=timeout)
        except RuntimeEnvError as error:
            return failed(f"Nothing was run: {error}")

    return {"bash": bash}


async def in_shell(
    run: ToolRun, given: Given, env: RuntimeEnv, command: str | None, *, restart: bool, timeout_s: float
) -> ToolHandlerResult:
    """The command in the shell of the session; without one, only a fresh shell. Raises `RuntimeEnvError`."""
    backend, workspace = ground_of(env)
    whose = run.store if run.store is not None else given.memory
    async with SHELLS.use(SHELLS.key(whose, run.session_id, backend.session_key(workspace)), run.loop) as place:
        if restart and place.shell is not None:
            await place.shell.close()
            place.shell = None
        if command is None:
            return ToolHandlerResult(True, "The shell was restarted: the next command runs in a fresh one, in the workspace.")
        if place.shell is None:
            place.shell = Shell.start(backend, workspace, SHELLS.spawner)
        ran = await place.shell.run(command, timeout_s=timeout_s, cancel=run.cancel, grace_s=grace_of(run))
    return told(ran, timeout_s)
