"""Eight processes on one SQLite file, each with a session of its own: how long the unluckiest of them waits."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

from report import Report
from sends import loop_on

PROCESSES, SENDS = 8, 150


async def eight_processes(report: Report, folder: Path) -> None:
    """Add the longest send of all, beside what one sync of the disk takes; a send that fails ends its process."""
    path = folder / "eight.db"
    async with loop_on(path, "full") as loop:
        await loop.ensure_store()
    context = multiprocessing.get_context("spawn")
    ready, results = context.Barrier(PROCESSES), context.Queue()
    processes = [context.Process(target=_process, args=(path, ready, results)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    took = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    longest, median = max(max(each) for each in took), sorted(seconds for each in took for seconds in each)[PROCESSES * SENDS // 2]
    failed = sum(process.exitcode != 0 for process in processes)
    sync = _sync_s(folder)
    beside = f"median {median * 1000:.1f} ms, one sync {sync * 1000:.2f} ms, {failed} failed"
    kept, bar = failed == 0 and longest <= max(0.1, 100 * sync), "<= 100 ms where a sync takes 1 ms"
    report.add(f"longest send of {PROCESSES} processes on one file", f"{longest * 1000:.1f} ms", beside, bar, kept)


def _process(path: Path, ready: Any, results: Any) -> None:
    asyncio.run(_send(path, ready, results))


async def _send(path: Path, ready: Any, results: Any) -> None:
    async with loop_on(path, "full") as loop:
        session_id = await loop.new_session()
        await loop.send("warm", session_id)
        ready.wait()
        took: list[float] = []
        for _ in range(SENDS):
            began = time.perf_counter()
            await loop.send("What is the weather in Lisbon?", session_id)
            took.append(time.perf_counter() - began)
    results.put(took)


def _sync_s(folder: Path, times: int = 50) -> float:
    """The median seconds of a 4 KiB write that is synced."""
    took: list[float] = []
    with (folder / "sync").open("wb") as file:
        for _ in range(times):
            began = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    return sorted(took)[times // 2]
