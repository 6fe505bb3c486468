"""A Python that is warm: each command runs in a fork of one process that has imported already what commands import.

    done = warm.run(["-m", "power_loop", "--version"], cwd=folder, env=env)

A command has its own arguments, directory, environment and input, ends as it would cold, and shares nothing with the
next. Warnings are errors, also while the imports are made, unless the tests themselves were told otherwise. What holds
only for a cold start is shown with one.
"""

from __future__ import annotations

import atexit
import importlib
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from pkgutil import walk_packages
from tempfile import TemporaryDirectory
from traceback import print_exc
from typing import NoReturn

from forks import ForkServer, Job, serve

import power_loop

LIMIT_S = 100
WARNINGS = os.environ.get("PYTHONWARNINGS", "error")
# Where one of them is not installed, the command that needs it says so.
IMPORTED = (
    "anthropic", "cronsim", "hypothesis", "jsonschema", "lark", "mcp", "mcp.client.stdio", "mcp.server.mcpserver", "openai",
    "opentelemetry.sdk.trace.export", "prometheus_client", "pydantic", "starlette.applications", "starlette.testclient", "uvicorn",
)  # fmt: skip

_running: list[ForkServer] = []


def run(arguments: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str], input: str = "") -> subprocess.CompletedProcess[str]:
    """What ``python ARGUMENTS`` does: a script, or a module behind ``-m``. After ``LIMIT_S`` it is ended by SIGALRM."""
    if not _running:
        _running.append(ForkServer(Path(__file__), Path(tempfile.gettempdir()), PYTHONPATH="", PYTHONWARNINGS=WARNINGS))
    with TemporaryDirectory(prefix="warm-") as streams:
        stdin, stdout, stderr = (Path(streams, name) for name in ("stdin", "stdout", "stderr"))
        stdin.write_text(input, encoding="utf-8")
        job = {"arguments": [*arguments], "cwd": str(cwd or Path.cwd()), "env": {**env}, "streams": [str(stdin), str(stdout), str(stderr)]}
        code = _running[0].run(job)[0]
        return subprocess.CompletedProcess(job["arguments"], code, stdout.read_text("utf-8"), stderr.read_text("utf-8"))


def stop() -> None:
    """At the end of a session, before it looks for what was left running."""
    while _running:
        _running.pop().close()


# --- the other side ------------------------------------------------------------------------------------


def _command(job: Job) -> NoReturn:
    """Become that command, to its end."""
    signal.alarm(LIMIT_S)
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    flags = (os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_CREAT)
    for number, (path, flag) in enumerate(zip(job["streams"], flags, strict=True)):
        os.dup2(os.open(path, flag), number)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    code = _run(job["arguments"])
    # What an interpreter does at its end, but for taking itself apart.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code)


def _run(arguments: list[str]) -> int:
    """The exit code."""
    try:
        if arguments[0] == "-m":
            sys.argv, sys.path[0] = arguments[1:], os.getcwd()
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv, sys.path[0] = arguments, str(Path(arguments[0]).parent)
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as left:
        if isinstance(left.code, str):
            print(left.code, file=sys.stderr)
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        print_exc()
        return 1
    return 0


if __name__ == "__main__":
    ours = (found.name for found in walk_packages(power_loop.__path__, "power_loop.") if not found.name.endswith("__main__"))
    for module in (*IMPORTED, *ours):
        with suppress(ImportError):
            importlib.import_module(module)
    serve(_command)
