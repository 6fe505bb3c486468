"""What timers cost: a look at 10,000 of which none is due, and firing them all into their inboxes.

python bench/timers.py DSN      # a SQLite file, or a server; its tables (prefix bench_) are left empty
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from report import Report

from power_loop import open_store
from power_loop.contracts.store import Statement
from power_loop.store.sql_store import SessionStore

PREFIX, TIMERS, SESSIONS = "bench_", 10_000, 500
SCAN_BAR_MS, RATE_BAR = 5, 1_000
SESSION = "INSERT INTO bench_sessions (session_id, agent, created_at, updated_at) VALUES (?, 'agent', 1, 1)"
TIMER = """INSERT INTO bench_timers (session_id, status, due_at, anchor_at, note, tz, created_at, updated_at)
 VALUES (?, 'armed', ?, ?, 'look again', 'UTC', 1, 1)"""
AGENTS = ["agent"]


async def timers(report: Report, name: str, dsn: str) -> None:
    """Add the figures of one engine to ``report``."""
    store = await open_store(dsn, table_prefix=PREFIX)
    await _fill(store)
    looks = [await _timed_scan(store) for _ in range(20)]
    await store.database.write([Statement("UPDATE bench_timers SET due_at = 1")])
    begun, fired = time.perf_counter(), 0
    while count := await store.fire_due(agents=AGENTS):
        fired += count
    rate = fired / (time.perf_counter() - begun)
    scan_ms = sorted(looks)[len(looks) // 2]
    beside = f"{TIMERS:,} armed, {SESSIONS} sessions"
    report.add(f"timers: a scan, none due, {name}", f"{scan_ms:.2f} ms", beside, f"<= {SCAN_BAR_MS} ms", scan_ms <= SCAN_BAR_MS)
    kept = rate >= RATE_BAR and fired == TIMERS
    report.add(f"timers: due to enqueued, {name}", f"{rate:,.0f}/s", f"{fired:,} of {TIMERS:,}", f">= {RATE_BAR:,}/s", kept)
    for table in ("timers", "inbox", "sessions"):
        await store.database.write([Statement(f"DELETE FROM bench_{table}")])
    await store.close()


async def _fill(store: SessionStore) -> None:
    await store.database.write([Statement(SESSION, (f"s{n}",)) for n in range(SESSIONS)])
    for first in range(0, TIMERS, 500):
        due = store.clock.now_ms() + 3_600_000
        rows = [Statement(TIMER, (f"s{n % SESSIONS}", due + n, due + n)) for n in range(first, first + 500)]
        await store.database.write(rows)


async def _timed_scan(store: SessionStore) -> float:
    begun = time.perf_counter()
    assert await store.fire_due(agents=AGENTS) == 0
    return (time.perf_counter() - begun) * 1000


async def measure(dsns: list[str]) -> Report:
    report = Report()
    for dsn in dsns:
        await timers(report, dsn.partition(":")[0], dsn)
    return report


if __name__ == "__main__":
    print(asyncio.run(measure(sys.argv[1:])).text())
