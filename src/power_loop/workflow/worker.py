"""``python -m power_loop.workflow.worker``: one leaf, told on standard input, its result in one line on standard output.

Standard input stays open for the life of the worker; its end means that the parent is gone, and ends the worker too. What
tools print goes to standard error, so that the result is the only thing on standard output.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from typing import Any

from power_loop.contracts.agents import AgentSpec
from power_loop.contracts.cancel import CancellationToken
from power_loop.contracts.outcome import described
from power_loop.workflow.bootstrap import RESULT, WorkerBootstrap
from power_loop.workflow.isolated import run_spec_isolated

EXIT_TERMINATED = 143


def main() -> int:
    """Read the job, run it, write the result; the exit code."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="surrogatepass")
    os.dup2(2, 1)
    job = json.loads(sys.stdin.buffer.readline())
    stop = CancellationToken()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.cancel("terminated"))
    threading.Thread(target=_mind_the_parent, daemon=True).start()
    try:
        told = asyncio.run(_run(job, stop))
    except asyncio.CancelledError:
        return EXIT_TERMINATED
    except Exception as error:  # whatever it is, the parent is told of it
        told = {"status": "failed", "error": described(error), "db_path": job["db_path"]}
    out.write(f"\n{RESULT} {job['word']} {json.dumps(told)}\n")
    out.close()
    return 0


async def _run(job: dict[str, Any], stop: CancellationToken) -> dict[str, Any]:
    bootstrap, spec = WorkerBootstrap.from_dict(job["bootstrap"]), AgentSpec.from_dict(job["spec"])
    return await run_spec_isolated(
        spec, job["input"], bootstrap=bootstrap, db_path=job["db_path"], key=job["key"], stop_event=stop, workspace_dir=job["workspace_dir"]
    )  # fmt: skip


def _mind_the_parent() -> None:
    """The parent closes the pipe when it dies, however it dies."""
    while os.read(0, 4096):
        continue
    # Not only this process: what its tools started is in its group.
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(EXIT_TERMINATED)


if __name__ == "__main__":
    sys.exit(main())
