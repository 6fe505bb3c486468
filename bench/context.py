"""What the window costs: built from a long history, warm and cold, in memory, folded, and shown otherwise than it was said.

python bench/context.py      # in a folder of its own, removed afterwards
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from report import Report
from sends import Instant

from power_loop import (
    AgentLoopConfig,
    LLMRequest,
    LLMResponse,
    LLMSummaryFold,
    LLMTokenUsage,
    ProjectedRepresentation,
    StatefulAgentLoop,
    open_store,
)
from power_loop.context.represent import Representation
from power_loop.contracts.messages import estimate_tokens
from power_loop.runtime.session import Session
from power_loop.store.sql_store import SessionStore

SENDS = 10_000
# So many sends stand behind the last fold: about what the default budget leaves of sends of this size.
SHOWN_SENDS = 300
QUESTION, ANSWER = "What is the weather in Lisbon this week, and what should I pack? " * 3, "Mild, with some rain on two of the days. " * 4
WARM_BAR_MS, COLD_BAR_MS, FOLD_BAR_MS, MEMORY_BAR = 1.0, 10.0, 20.0, 1.1
FOLDED_RECORDS = 1_000


class Summariser(Instant):
    """Answers, and summarises, at once."""

    async def complete(self, request: LLMRequest, **callbacks: object) -> LLMResponse:
        if request.reason == "fold":
            return LLMResponse(
                content_text="<summary>They talk about the weather.</summary>", token_usage=LLMTokenUsage(prompt=500, completion=8)
            )
        return await super().complete(request, **callbacks)


async def context(report: Report, folder: Path, sends: int = SENDS) -> None:
    store = await open_store(f"sqlite:///{folder / 'context.db'}?synchronous=normal")
    whole = await store.import_session(history(sends, 0))
    folded = await store.import_session(history(sends, sends - SHOWN_SENDS))
    short = await store.import_session(history(2 * SHOWN_SENDS, SHOWN_SENDS))
    await _warm(report, store, whole, sends)
    await _cold(report, store, folded, f"cold window of {sends:,} sends, folded", None)
    await _memory(report, store, folded, short, sends)
    await _projected(report, store, folded, sends)
    await _fold(report, store)
    await store.close()


def history(sends: int, folded: int) -> dict[str, Any]:
    """An archive of ``sends`` sends, of which the first ``folded`` are summarised."""
    said = (("user", QUESTION), ("assistant", ANSWER))
    rows = [{"seq": 2 * n + at + 1, "role": role, "content": f"{n}: {text}"} for n in range(sends) for at, (role, text) in enumerate(said)]
    compactions = [{"to_seq": 2 * folded, "summary": "They talk about the weather."}] if folded else []
    return {"messages": rows, "compactions": compactions}


async def _warm(report: Report, store: SessionStore, session_id: str, sends: int) -> None:
    """What each request of a session in hand needs: its messages, their digest, and how long they are."""
    window = (await Session.load(store, session_id)).window
    window.digest()

    async def build() -> None:
        window.snapshot()()
        window.digest().text()
        window.estimate(100)

    took = await median_ms(build, 50)
    beside = f"{len(window.messages):,} messages, none folded"
    report.add(f"warm window of {sends:,} sends", f"{took:.3f} ms", beside, f"<= {WARM_BAR_MS:g} ms", took <= WARM_BAR_MS)
    took = await median_ms(lambda: asyncio.sleep(0, estimate_tokens(window.messages[-2 * SHOWN_SENDS :])), 20)
    report.add(f"estimating {2 * SHOWN_SENDS} messages anew", f"{took:.2f} ms")


async def _cold(report: Report, store: SessionStore, session_id: str, what: str, shown_as: Representation | None) -> None:
    session = await Session.load(store, session_id, shown_as)
    took = await median_ms(lambda: Session.load(store, session_id, shown_as), 20)
    beside = f"{len(session.window.messages):,} messages, {session.window.tokens:,} tokens shown"
    report.add(what, f"{took:.2f} ms", beside, f"<= {COLD_BAR_MS:g} ms", took <= COLD_BAR_MS)


async def _memory(report: Report, store: SessionStore, long: str, short: str, sends: int) -> None:
    """The same is shown of both; what lies behind the fold differs."""
    peaks: list[int] = []
    for session_id in (short, long):
        tracemalloc.start()
        await Session.load(store, session_id)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    kept = peaks[1] <= MEMORY_BAR * peaks[0]
    beside = f"{peaks[0] / 1024:,.0f} KiB with {SHOWN_SENDS} sends behind it"
    report.add(
        f"peak memory, {sends - SHOWN_SENDS:,} sends behind the fold", f"{peaks[1] / 1024:,.0f} KiB", beside, f"<= {MEMORY_BAR} x", kept
    )


async def _projected(report: Report, store: SessionStore, session_id: str, sends: int) -> None:
    """The first send projects what is shown, once; then each is read as one row."""
    shown_as = ProjectedRepresentation()
    config = AgentLoopConfig(representation=shown_as, context_tokens=1_000_000)
    async with StatefulAgentLoop(llm=Instant(), store=store, config=config) as loop:
        begun = time.perf_counter()
        await loop.send("And tomorrow?", session_id)
        once = (time.perf_counter() - begun) * 1000
    report.add(f"projecting {SHOWN_SENDS} sends, once", f"{once:.1f} ms")
    await _cold(report, store, session_id, f"cold window of {sends:,} sends, projected", shown_as)


async def _fold(report: Report, store: SessionStore) -> None:
    """A send that has to fold first, beside one that has not; the summary itself comes at once."""
    costs: list[float] = []
    for _ in range(5):
        session_id = await store.import_session(history(FOLDED_RECORDS // 2, 0))
        plain = await _send_ms(store, session_id, AgentLoopConfig(context_tokens=1_000_000))
        tight = AgentLoopConfig(context_tokens=20_000, fold_strategy=LLMSummaryFold(keep_last_sends=2))
        costs.append(await _send_ms(store, session_id, tight) - plain)
        rows = await store.rows(session_id, after=0)
        assert [row.cells.kind for row in rows].count("context_folded") == 1
    took = statistics.median(costs)
    report.add(
        f"a fold of {FOLDED_RECORDS:,} messages", f"{took:.2f} ms", "besides the model", f"<= {FOLD_BAR_MS:g} ms", took <= FOLD_BAR_MS
    )


async def _send_ms(store: SessionStore, session_id: str, config: AgentLoopConfig) -> float:
    async with StatefulAgentLoop(llm=Summariser(), store=store, config=config) as loop:
        await loop.send("Hello.", await loop.new_session())  # what a process does once
        await loop.prewarm(session_id)
        begun = time.perf_counter()
        await loop.send("And tomorrow?", session_id)
        return (time.perf_counter() - begun) * 1000


async def median_ms(work: Callable[[], Awaitable[object]], times: int) -> float:
    costs: list[float] = []
    for _ in range(times):
        begun = time.perf_counter()
        await work()
        costs.append((time.perf_counter() - begun) * 1000)
    return statistics.median(costs)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="power-loop-bench-", dir=".") as place:
        table = Report()
        asyncio.run(context(table, Path(place)))
    print(table.text())
