"""What a page of the inspector costs where there is much to look at: 100,000 sessions, and one of 10,000 sends."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from report import Report

from power_loop import AgentLoopConfig, StatefulAgentLoop, open_store
from power_loop.contracts.records import ModelReplied, SendEnded, UserSaid
from power_loop.contracts.store import Statement
from power_loop.contracts.usage import CallUsage
from power_loop.inspector.views import Views
from power_loop.store.sql_store import SessionStore
from power_loop.testing import FunctionLLM
from power_loop.testing.hand import Hand
from power_loop.workflow import create_workflow

SESSIONS, SENDS, LEAVES, BAR_MS = 100_000, 10_000, 300, 200
ROW = """INSERT INTO pl_sessions (session_id, agent, head, send_index, sends, prompt_tokens, last_send_at, created_at, updated_at)
 VALUES (?, 'agent', 0, 9, 9, 4000, ?, ?, ?)"""
QUESTION, ANSWER = "A question of some length, as they are.", "An answer of some length, as they are."
PAID = CallUsage(4_000, 12, 3_500, calls=1)
INFO = "INSERT INTO pl_session_info (session_id, metadata, kind) VALUES (?, ?, 'root')"


async def pages(report: Report, dsn: str) -> None:
    """Add the slowest of three looks at each page to ``report``; ``dsn`` is of an empty database."""
    store = await open_store(dsn)
    engine = dsn.split(":")[0]
    config = AgentLoopConfig(context_tokens=100_000)
    loop = StatefulAgentLoop(llm=FunctionLLM(lambda request: ANSWER, keep_requests=False), store=store, config=config)
    await _talk(store)
    await _fill(store)
    run = await _run(loop)
    views = Views(loop, store)
    reply = max(row.seq for row in await store.rows("long", after=0, whole_from=3 * SENDS) if row.cells.kind == "model_replied")
    asked: dict[str, Callable[[], Awaitable[Any]]] = {
        "sessions": views.sessions,
        "a search": lambda: views.sessions(search="tenant-7"),
        "charts": views.charts,
        "a session": lambda: views.session("long"),
        "what its doctor says": lambda: views.doctor("long"),
        "its timeline": lambda: views.timeline("long", send=SENDS // 2),
        "what runs": lambda: views.sessions(running=True),
        "a run of a workflow": lambda: views.workflow(run),
        "its charts": lambda: views.session_charts("long"),
        "a request": lambda: views.request("long", reply),
    }
    for name, page in asked.items():
        slowest = max([await _timed(page) for _ in range(3)])
        report.add(
            f"inspector, {engine}: {name}",
            f"{slowest:.0f} ms",
            f"{SESSIONS:,} sessions, one of {SENDS:,} sends",
            f"<= {BAR_MS} ms",
            slowest <= BAR_MS,
        )
    await loop.aclose()
    await store.close()


async def _talk(store: SessionStore) -> None:
    """The session of many sends: its records as sends would write them, in few batches."""
    await store.create_session(session_id="long")
    hand = await Hand.of(store, "long", "bench")
    await hand.take()
    for first in range(0, SENDS, 100):
        sends = [(UserSaid(QUESTION), ModelReplied(ANSWER, usage=PAID), SendEnded("completed")) for _ in range(first, first + 100)]
        await hand.append(*(record for send in sends for record in send))
    await hand.release()


async def _run(loop: StatefulAgentLoop) -> str:
    """The session of a run with many leaves."""
    leaf = {"type": "agent", "id": "r", "spec": {"name": "r", "system_prompt": "Be brief."}, "input": "{{item}}"}
    root = {"type": "foreach", "id": "each", "as": "item", "items": list(range(LEAVES)), "body": leaf}
    return f"wf_{(await create_workflow({'name': 'many', 'root': root}, parent_loop=loop).run()).run_id}"


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
