"""What does not grow: the cost of a send in a long session, opening one again, bytes on disk."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from report import Report
from sends import Instant, loop_on

from power_loop import AgentLoopConfig, LLMRequest, LLMResponse, LLMTokenUsage, StatefulAgentLoop
from power_loop.contracts.messages import estimate_tokens

SAMPLE = 200
# A window of this many tokens holds about fifty of the sends below before it is folded.
CONTEXT_TOKENS = 2_000
SUMMARY = "<summary>They talk about the weather.</summary>"


class Summariser(Instant):
    """Answers at once, and summarises at once when a fold asks."""

    async def complete(self, request: LLMRequest, **callbacks: object) -> LLMResponse:
        if request.reason == "fold":
            return LLMResponse(content_text=SUMMARY, token_usage=LLMTokenUsage(prompt=500, completion=8))
        return await super().complete(request, **callbacks)


def folded(path: Path) -> StatefulAgentLoop:
    config = AgentLoopConfig(context_tokens=CONTEXT_TOKENS)
    return StatefulAgentLoop(llm=Summariser(), dsn=f"sqlite:///{path}?synchronous=normal", config=config)


async def talk(loop: StatefulAgentLoop, session_id: str, times: int) -> float:
    """The median seconds of ``times`` sends."""
    costs: list[float] = [0.0]
    for _ in range(times):
        began = time.perf_counter()
        await loop.send("What is the weather in Lisbon?", session_id)
        costs.append(time.perf_counter() - began)
    return statistics.median(costs[1:] or costs)


async def send_ten_and_send_many(report: Report, folder: Path, long: int) -> None:
    """Medians over whole folding cycles, early and late, so that both see the same windows; then without any fold."""
    async with folded(folder / "long.db") as loop:
        await early_and_late(report, loop, long, "folded", 1.2)
    async with loop_on(folder / "unfolded.db", "normal") as loop:
        await early_and_late(report, loop, long, "unfolded", 1.4)


async def early_and_late(report: Report, loop: StatefulAgentLoop, long: int, how: str, bar: float) -> None:
    session_id = await loop.new_session()
    await talk(loop, session_id, SAMPLE if how == "folded" else 10)
    early = await talk(loop, session_id, SAMPLE)
    await talk(loop, session_id, max(0, long - 3 * SAMPLE))
    late = await talk(loop, session_id, SAMPLE)
    window = estimate_tokens(await loop.get_messages(session_id))
    beside = f"early {early * 1000:.3f} ms, window {window:,} tokens"
    report.add(f"send {long:,} beside an early one, {how}", f"{late * 1000:.3f} ms", beside, f"<= {bar} x", late <= bar * early)


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
    """Each plain send leaves three records; an empty database of the same schema is taken off."""
    path, empty = folder / "bytes.db", folder / "empty.db"
    async with loop_on(empty, "normal") as loop:
        await loop.new_session()
    async with loop_on(path, "normal") as loop:
        session_id = await loop.new_session()
        await talk(loop, session_id, sends)
        content = sum(len(message["content"].encode()) for message in await loop.get_messages(session_id))
    grown = path.stat().st_size - empty.stat().st_size
    each = (grown - content) / (3 * sends)
    report.add(
        "bytes on disk beside the content", f"{each:.0f} B a record", f"{grown:,} bytes for {3 * sends:,} records", "<= 200 B", each <= 200
    )
