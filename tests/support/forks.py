"""A server of processes: one warm start, then a fork for each process that is to be hurt.

The program on the other side reads JSON lines, each a list of jobs that run side by side, and answers each line with
how they ended: 0, an exit code, or minus the signal. `serve` is that other side.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from power_loop import StatefulAgentLoop, tool
from power_loop.testing import ScriptedLLM, call, say

Job = dict[str, Any]


class Asked:
    """A process that imports what we can, reads lines of JSON and answers each with one. Close it, or use it with ``with``."""

    def __init__(self, program: Path, folder: Path, **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(folder), **environment},
        )  # fmt: skip

    def ask(self, request: Any) -> Any:
        """The answer to ``request``."""
        self._tell(request)
        return self._answer()

    def _tell(self, request: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the server of processes died"
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


class ForkServer(Asked):
    """Runs jobs of its program, each in a process of its own."""

    def run(self, *jobs: Job) -> list[int]:
        """Run the jobs side by side: the exit code of each, or minus the signal that ended it."""
        return self.ask(jobs)

    def start(self, *jobs: Job) -> None:
        self._tell(jobs)

    def ended(self) -> list[int]:
        """Wait for what was started."""
        return self._answer()

    def has_ended(self) -> bool:
        """All that was started has ended."""
        return bool(select.select([self._process.stdout], [], [], 0)[0])


def serve(work: Callable[[Job], None]) -> None:
    """Fork for each job; the child does ``work(job)`` and ends."""
    rehearse()
    for line in sys.stdin:
        pids = [forked(work, job) for job in json.loads(line)]
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]), flush=True)


def rehearse() -> None:
    """One send in memory: what a loop imports when it is first used is there before the first fork, and not imported by each child."""

    @tool(effects="pure")
    async def act() -> str:
        """Act."""
        return "done"

    async def send() -> None:
        async with StatefulAgentLoop(llm=ScriptedLLM([call("act"), say("done")]), tools=[act], dsn=":memory:") as loop:
            await loop.run("go")

    asyncio.run(send())


def forked(work: Callable[[Job], None], job: Job) -> int:
    """The pid of a child that does ``work(job)`` and ends with 0, or with 1 and a traceback on stderr."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work(job)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
