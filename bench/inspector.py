"""What a page of the inspector costs where there is much to look at: 100,000 sessions, and one of 10,000 sends."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from report import Report

from power_loop import AgentLoopConfig, StatefulAgentLoop, open_store
from power_loop.contracts.store import Statement
from power_loop.inspector.views import Views
from power_loop.store.sql_store import SessionStore
from power_loop.testing import FunctionLLM

SESSIONS, SENDS, BAR_MS = 100_000, 10_000, 200
ROW = """INSERT INTO pl_sessions (session_id, agent, head, send_index, sends, prompt_tokens, last_send_at, created_at, updated_at)
 VALUES (?, 'agent', 0, 9, 9, 4000, ?, ?, ?)"""
INFO = "INSERT INTO pl_session_info (session_id, metadata, kind) VALUES (?, ?, 'root')"


async def pages(report: Report, folder: Path) -> None:
    """Add the slowest of three looks at each page to ``report``."""
    store = await open_store(f"sqlite:///{folder}/inspect.db?synchronous=normal")
    config = AgentLoopConfig(context_tokens=100_000)
    loop = StatefulAgentLoop(llm=FunctionLLM(lambda request: "An answer of some length, as they are."), store=store, config=config)
    await loop.new_session(session_id="long")
    for _ in range(SENDS):
        await loop.send("A question of some length, as they are.", "long")
    await _fill(store)
    views = Views(loop, store)
    reply = max(row.seq for row in await store.rows("long", after=0, whole_from=3 * SENDS) if row.cells.kind == "model_replied")
    asked: dict[str, Callable[[], Awaitable[Any]]] = {
        "sessions": views.sessions,
        "a search": lambda: views.sessions(search="tenant-7"),
        "charts": views.charts,
        "a session": lambda: views.session("long"),
        "what its doctor says": lambda: views.doctor("long"),
        "its timeline": lambda: views.timeline("long", send=SENDS // 2),
        "its charts": lambda: views.session_charts("long"),
        "a request": lambda: views.request("long", reply),
    }
    for name, page in asked.items():
        slowest = max([await _timed(page) for _ in range(3)])
        report.add(
            f"inspector: {name}",
            f"{slowest:.0f} ms",
            f"{SESSIONS:,} sessions, one of {SENDS:,} sends",
            f"<= {BAR_MS} ms",
            slowest <= BAR_MS,
        )
    await loop.aclose()
    await store.close()


async def _fill(store: SessionStore) -> None:
    for first in range(0, SESSIONS, 1_000):
        batch: list[Statement] = []
        for n in range(first, first + 1_000):
            at = 1_700_000_000_000 + n * 60_000
            batch.append(Statement(ROW, (f"s{n}", at, at, at)))
            batch.append(Statement(INFO, (f"s{n}", json.dumps({"tenant": f"tenant-{n % 97}"}))))
        await store.database.write(batch)


async def _timed(page: Callable[[], Awaitable[Any]]) -> float:
    """Milliseconds, the JSON included."""
    began = time.perf_counter()
    json.dumps(await page(), default=str)
    return (time.perf_counter() - began) * 1000
