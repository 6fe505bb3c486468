"""How many sessions eight workers claim in a second on one database, and whether any two of them claim the same.

python bench/claims.py DSN      # a SQLite file, or a server; its tables (prefix bench_) are left empty
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from report import Report

from power_loop import open_store
from power_loop.contracts.store import Statement
from power_loop.store.sql_store import SessionStore

PREFIX = "bench_"
WORKERS, SESSIONS, AT_ONCE = 8, 8_000, 8
WAITING = "INSERT INTO bench_sessions (session_id, agent, runnable_at, created_at, updated_at) VALUES (?, 'agent', 1, 1, 1)"


async def claims(report: Report, name: str, dsn: str) -> None:
    """Add the figures of one engine to ``report``."""
    for what, settles in (("claims", False), ("claims, each settled", True)):
        store = await open_store(dsn, table_prefix=PREFIX)
        await _empty(store)
        await _fill(store)
        await store.close()
        seconds, claimed = _raced(dsn, settles=settles)
        twice = sum(times - 1 for times in Counter(claimed).values())
        rate = len(claimed) / seconds
        beside = f"{len(claimed):,} of {SESSIONS:,} sessions, {twice} twice"
        bar = ">= 2,000/s, none twice" if not settles else "none twice"
        kept = (settles or rate >= 2_000) and twice == 0 and len(claimed) >= SESSIONS
        report.add(f"{what} with {WORKERS} workers, {name}", f"{rate:,.0f}/s", beside, bar, kept)
    store = await open_store(dsn, table_prefix=PREFIX)
    await _empty(store)
    await store.close()


async def _empty(store: SessionStore) -> None:
    await store.database.write([Statement("DELETE FROM bench_sessions")])


async def _fill(store: SessionStore) -> None:
    for first in range(0, SESSIONS, 500):
        await store.database.write([Statement(WAITING, (f"s{n}",)) for n in range(first, min(first + 500, SESSIONS))])


def _raced(dsn: str, *, settles: bool) -> tuple[float, list[str]]:
    """Seconds from the first claim to the last, and every session that was claimed, by whichever worker."""
    context = multiprocessing.get_context("spawn")
    ready, results = context.Barrier(WORKERS), context.Queue()
    workers = [context.Process(target=_worker, args=(dsn, settles, n, ready, results)) for n in range(WORKERS)]
    for worker in workers:
        worker.start()
    told = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    seconds = max(ended for _, ended, _ in told) - min(began for began, _, _ in told)
    return seconds, [session_id for _, _, claimed in told for session_id in claimed]


def _worker(dsn: str, settles: bool, n: int, ready: Any, results: Any) -> None:
    results.put(asyncio.run(_claim_all(dsn, settles, n, ready)))


async def _claim_all(dsn: str, settles: bool, n: int, ready: Any) -> tuple[float, float, list[str]]:
    store = await open_store(dsn, table_prefix=PREFIX)
    await store.claim(f"worker {n}", limit=1, agents=["nobody"])  # connected, and every statement prepared
    claimed: list[str] = []
    ready.wait()
    began = time.time()
    while True:
        token, found = await store.claim(f"worker {n}", limit=AT_ONCE, agents=["agent"])
        if not found:
            break
        claimed += [standing.session_id for standing in found]
        if settles:
            await asyncio.gather(*(store.settle(standing, token, due_in_ms=None) for standing in found))
    ended = time.time()
    await store.close()
    return began, ended, claimed


async def measure(dsns: list[str]) -> Report:
    report = Report()
    for dsn in dsns:
        await claims(report, dsn.partition(":")[0], dsn)
    return report


if __name__ == "__main__":
    print(asyncio.run(measure(sys.argv[1:])).text())
