"""What it costs to be there: importing, and one idle loop."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from report import Report

IMPORT = "import time; t = time.perf_counter()\nfrom power_loop import StatefulAgentLoop\nprint((time.perf_counter() - t) * 1000)"
BARE = "import time; t = time.perf_counter()\nimport asyncio, sqlite3, json, dataclasses, logging\nprint((time.perf_counter() - t) * 1000)"
IDLE = """
import asyncio, resource, sys
from power_loop import StatefulAgentLoop, LLMService
async def main():
    loop = StatefulAgentLoop(llm=LLMService(), dsn=sys.argv[1])
    await loop.new_session()
    print(int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS"))) / 1024)
asyncio.run(main())
"""


def _runs(code: str, *arguments: str, times: int = 9) -> list[float]:
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-X", f"pycache_prefix={cache}", "-c", code, *arguments]
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parent.parent / "src")}
        outputs = [subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout for _ in range(times + 1)]
    return [float(output) for output in outputs[1:]]


def import_time(report: Report) -> None:
    took, bare = statistics.median(_runs(IMPORT)), statistics.median(_runs(BARE))
    report.add("import StatefulAgentLoop", f"{took:.1f} ms", f"its standard library alone {bare:.1f} ms", "<= 60 ms", took <= 60)


def idle_memory(report: Report, folder: Path) -> None:
    if not Path("/proc/self/status").exists():
        return
    used = statistics.median(_runs(IDLE, str(folder / "idle.db"), times=3))
    report.add("resident memory, one idle loop", f"{used:.1f} MB", "", "<= 30 MB", used <= 30)
