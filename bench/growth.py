"""What does not grow: the cost of a send in a long session, opening one again, bytes on disk."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from bare import recorded
from report import Report
from sends import Instant, loop_on

from power_loop import AgentLoopConfig, LLMRequest, LLMResponse, LLMTokenUsage, StatefulAgentLoop
from power_loop.contracts.messages import estimate_tokens

SAMPLE = 200
# A window of this many tokens holds about fifty of the sends below before it is folded.
CONTEXT_TOKENS = 2_000


class Summariser(Instant):
    """Answers at once, and summarises at once when a fold asks."""

    async def complete(self, request: LLMRequest, **callbacks: object) -> LLMResponse:
        if request.reason == "fold":
            return LLMResponse(content_text="<summary>They talk about the weather.</summary>", token_usage=LLMTokenUsage(prompt=500, completion=8))
        return await super().complete(request, **callbacks)


def folded(path: Path) -> StatefulAgentLoop:
    config = AgentLoopConfig(context_tokens=CONTEXT_TOKENS)
    return StatefulAgentLoop(llm=Summariser(), dsn=f"sqlite:///{path}?synchronous=normal", config=config)


async def _send_costs(loop: StatefulAgentLoop, session_id: str, times: int) -> list[tuple[float, int]]:
    """(seconds, tokens shown) of each of ``times`` sends."""
    costs: list[tuple[float, int]] = []
    for _ in range(times):
        began = time.perf_counter()
        await loop.send("What is the weather in Lisbon?", session_id)
        costs.append((time.perf_counter() - began, 0))
    return costs


async def send_ten_and_send_many(report: Report, folder: Path, long: int) -> None:
    """The median over whole folding cycles, early and late, so that both see the same windows."""
    async with folded(folder / "long.db") as loop:
        session_id = await loop.new_session()
        await _send_costs(loop, session_id, SAMPLE)
        early = statistics.median(seconds for seconds, _ in await _send_costs(loop, session_id, SAMPLE))
        await _send_costs(loop, session_id, max(0, long - 3 * SAMPLE))
        late = statistics.median(seconds for seconds, _ in await _send_costs(loop, session_id, SAMPLE))
        messages = await loop.get_messages(session_id)
    what = f"send {long:,} beside an early one, folded"
    report.add(what, f"{late * 1000:.3f} ms", f"early {early * 1000:.3f} ms, window {estimate_tokens(messages)} tokens", "<= 1.2 x", late <= 1.2 * early)
    await _unfolded(report, folder, long)


async def _unfolded(report: Report, folder: Path, long: int) -> None:
    async with loop_on(folder / "unfolded.db", "normal") as loop:
        session_id = await loop.new_session()
        await _send_costs(loop, session_id, 10)
        early = statistics.median(seconds for seconds, _ in await _send_costs(loop, session_id, SAMPLE))
        await _send_costs(loop, session_id, max(0, long - 2 * SAMPLE - 10))
        late = statistics.median(seconds for seconds, _ in await _send_costs(loop, session_id, SAMPLE))
    report.add(f"send {long:,} beside an early one, unfolded", f"{late * 1000:.3f} ms", f"early {early * 1000:.3f} ms", "<= 1.4 x", late <= 1.4 * early)


async def cold_resume(report: Report, folder: Path, long: int) -> None:
    """A new loop object on the long session: its first send, beside opening the file and a first send on a new session."""
    over: list[float] = []
    for _ in range(5):
        async with folded(folder / "long.db") as loop:
            store = await loop.ensure_store()
            session_id = (await store.list_sessions(limit=1))[0].session_id
            began = time.perf_counter()
            await loop.prewarm(session_id)
            over.append(time.perf_counter() - began)
    took = statistics.median(over)
    report.add(f"cold resume of {long:,} sends, folded", f"{took * 1000:.2f} ms", "over opening the file", "<= 10 ms", took <= 0.010)


async def bytes_per_send(report: Report, folder: Path, sends: int = 500) -> None:
    path = folder / "bytes.db"
    async with loop_on(path, "normal") as loop:
        recorder = await recorded(loop)
        session_id = await loop.new_session()
        await _send_costs(loop, session_id, 10)
        before, marks = path.stat().st_size + _wal(path), len(recorder.batches)
        await _send_costs(loop, session_id, sends)
        rows = await loop.get_messages(session_id)
    size = path.stat().st_size
    content = sum(len(message["content"].encode()) for message in rows)
    records = 3 * (sends + 10)
    each = (size - _empty(folder) - content) / records
    del before, marks
    report.add("bytes on disk beside the content", f"{each:.0f} B a record", f"{size:,} bytes for {records:,} records", "<= 200 B", each <= 200)


def _wal(path: Path) -> int:
    wal = path.with_name(path.name + "-wal")
    return wal.stat().st_size if wal.exists() else 0


def _empty(folder: Path) -> int:
    empty = folder / "empty.db"
    return empty.stat().st_size if empty.exists() else 100_000
