"""What does not grow: the cost of a send in a long session, opening one again, bytes on disk."""

from __future__ import annotations

import statistics
import time
from itertools import pairwise
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


async def talk(loop: StatefulAgentLoop, session_id: str, times: int) -> None:
    for _ in range(times):
        await loop.send("What is the weather in Lisbon?", session_id)


async def send_ten_and_send_many(report: Report, folder: Path, long: int) -> None:
    """Medians over whole folding cycles, so that both see the same windows; then without any fold."""
    async with folded(folder / "long.db") as late, folded(folder / "short.db") as early:
        await early_and_late(report, early, late, long, "folded", 1.2, begun=SAMPLE)
    async with loop_on(folder / "unfolded.db", "normal") as late, loop_on(folder / "short-unfolded.db", "normal") as early:
        await early_and_late(report, early, late, long, "unfolded", 1.4, begun=10)


async def early_and_late(
    report: Report, early: StatefulAgentLoop, late: StatefulAgentLoop, long: int, how: str, bar: float, *, begun: int
) -> None:
    """A session of ``long`` sends, and one of ``begun``, each in a database of its own; sends of both by turns."""
    loops = ((early, await early.new_session()), (late, await late.new_session()))
    for (loop, session_id), times in zip(loops, (begun, max(begun, long - SAMPLE)), strict=True):
        await talk(loop, session_id, times)
    costs: list[tuple[float, ...]] = []
    for _ in range(SAMPLE):
        marks = [time.perf_counter()]
        for loop, session_id in loops:
            await talk(loop, session_id, 1)
            marks.append(time.perf_counter())
        costs.append(tuple(end - begin for begin, end in pairwise(marks)))
    of_early, of_late = (statistics.median(each) for each in zip(*costs, strict=True))
    window = estimate_tokens(await late.get_messages(loops[1][1]))
    beside = f"early {of_early * 1000:.3f} ms, window {window:,} tokens"
    what = f"send {long:,} beside an early one, {how}"
    report.add(what, f"{of_late * 1000:.3f} ms", beside, f"<= {bar} x", of_late <= bar * of_early)


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
