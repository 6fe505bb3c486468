"""What it costs, as ratios measured in one run: `make bench`.

Every figure stands beside the bare database work of the same rows, done in this process a moment before or
after, on the same file system. A bar is what DESIGN promises; absolute times depend on the machine, and on how its Python was
built: one that was compiled without a profile of what programs do (as pyenv has it by itself) takes a third longer.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sqlite3
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import claims
import growth
import on_servers
import processes
import sends
import start
import workflows
from report import Report

import context
import inspector
import sinks
import timers


async def measure(folder: Path, *, long: int) -> Report:
    report = Report()
    for synchronous in ("full", "normal"):
        await sends.one_after_another(report, folder, synchronous)
        await sends.fifty_at_once(report, folder, synchronous)
    await growth.send_ten_and_send_many(report, folder, long)
    await growth.cold_resume(report, folder, long)
    await growth.bytes_per_send(report, folder)
    await context.context(report, folder)
    await processes.eight_processes(report, folder)
    await claims.claims(report, "SQLite", str(folder / "claims.db"))
    await timers.timers(report, "SQLite", str(folder / "timers.db"))
    await workflows.workflows(report, folder)
    await inspector.pages(report, "SQLite", f"sqlite:///{folder}/inspect.db?synchronous=normal")
    await sinks.sinks(report, folder)
    await on_servers.measure(report)
    start.import_time(report)
    start.idle_memory(report, folder)
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", type=int, default=10_000, help="how many sends the long session has (default %(default)s)")
    options = parser.parse_args()
    print(f"Python {platform.python_version()} ({sys.executable}), SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores", flush=True)
    with tempfile.TemporaryDirectory(prefix="power-loop-bench-", dir=".") as folder:
        report = asyncio.run(measure(Path(folder), long=options.long))
    print(report.text())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
