"""What the shell tools share: may this command run, where, and how its end is told to the model."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from power_loop.contracts.text import encodes
from power_loop.contracts.tool import ToolHandlerResult, ToolRun
from power_loop.tools.builtin.given import Given, failed
from power_loop.tools.env import RuntimeEnv
from power_loop.tools.shell.backend import DEFAULT_SHELL_BACKEND, ShellBackend
from power_loop.tools.shell.check import check_command
from power_loop.tools.shell.places import Places
from power_loop.tools.shell.session import Ran

# What a shell's `timeout` and an interrupt are known by; the command itself ended without a code of its own.
TIMED_OUT, CANCELLED = 124, 130
FRESH = "The next command gets a fresh shell, in the workspace."
# A stopped send waits so long for its tools; what is killed then still has to be written down.
GRACE_S, SHARE_OF_GRACE = 5.0, 0.6


class Ground(NamedTuple):
    """Where a command runs."""

    backend: ShellBackend
    workspace: str


def ground_of(env: RuntimeEnv) -> Ground:
    """Raises `RuntimeEnvError` without a workspace."""
    return Ground(env.shell_backend or DEFAULT_SHELL_BACKEND, os.fspath(env.workspace))


def refused(command: str, given: Given, env: RuntimeEnv) -> ToolHandlerResult | None:
    """The result of a command that must not run; None where it may."""
    if "\0" in command or not encodes(command):
        return failed("The command was not run: it holds a NUL character or a lone surrogate, which no shell can be told.")
    if not command.strip():
        return failed("The command is empty; nothing was run.")
    if given.command_check == "off":
        return None
    if callable(given.command_check):
        return failed(reason) if (reason := given.command_check(command)) is not None else None
    reason = check_command(command, places_of(env))
    if reason is None:
        return None
    return failed(
        f"The command was not run. It was refused because {reason}.\n"
        "Do it in another way, one that touches only the workspace; or ask the user to run it."
    )


def places_of(env: RuntimeEnv) -> Places:
    """The folders of ``env`` that the check knows; nothing is created."""
    said: str | os.PathLike[str] = env.home_dir or os.environ.get("POWER_LOOP_HOME") or "~/.power_loop"
    home = os.path.abspath(os.path.expanduser(said))
    workspace = os.fspath(env.workspace) if env.workspace_dir is not None else ""
    return Places(os.path.expanduser("~"), home, (".cache", "logs", os.fspath(env.skills)), workspace)


def grace_of(run: ToolRun) -> float:
    """Seconds between TERM and KILL when a command is cut off."""
    config: Any = run.config
    return SHARE_OF_GRACE * (GRACE_S if config is None else config.running.cancel_grace_s)


def told(ran: Ran, timeout_s: float) -> ToolHandlerResult:
    """What the model reads of a command that ran: its exit code, what it printed, and what there is to know besides."""
    code, remark = _code_and_remark(ran, timeout_s)
    printed = ran.output.lines()
    lines = [f"exit_code={code}", *([printed.removesuffix("\n")] if printed else []), *([f"[{remark}]"] if remark else [])]
    data = {"exit_code": code, "ended": ran.ended, "output_bytes": ran.output.total}
    return ToolHandlerResult(ran.ended in ("done", "exited"), "\n".join(lines), data)


def _code_and_remark(ran: Ran, timeout_s: float) -> tuple[int, str]:
    match ran.ended:
        case "done":
            return ran.exit_code or 0, ""
        case "exited":
            return ran.exit_code or 0, f"The shell has ended with this command, and what ran in its background. {FRESH}"
        case "timeout":
            return TIMED_OUT, f"timed out after {timeout_s:g} s: it was ended, with everything that it started. {FRESH}"
        case "cancelled":
            return CANCELLED, f"cancelled: it was ended, with everything that it started. {FRESH}"
