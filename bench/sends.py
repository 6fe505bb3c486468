"""What one send, one tool round, and fifty sessions at once cost beside their bare commits."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bare import again, forgetful, recorded
from report import Report

from power_loop import AgentLoopConfig, LLMRequest, LLMResponse, LLMService, LLMTokenUsage, StatefulAgentLoop, tool

SENDS = 600
WARM_UP = 100


class Instant(LLMService):
    """A model without latency: one fixed answer, or a call before each. What it is asked it does not read."""

    def __init__(self, calls_first: str | None = None) -> None:
        self.model = "instant"
        self._tool, self._called = calls_first, False

    async def complete(self, request: LLMRequest, **callbacks: object) -> LLMResponse:
        usage = LLMTokenUsage(prompt=20, completion=4)
        self._called = self._tool is not None and not self._called
        if self._called:
            call = {"id": "", "type": "function", "function": {"name": self._tool, "arguments": '{"n": 1}'}}
            return LLMResponse(tool_calls=[call], token_usage=usage)
        return LLMResponse(content_text="It is twenty degrees and sunny in Lisbon today.", token_usage=usage)


@tool(effects="pure")
async def look(n: int) -> str:
    """Look something up."""
    return f"found {n}"


@tool(effects="pure")
def look_sync(n: int) -> str:
    """Look something up, in a thread."""
    return f"found {n}"


def loop_on(path: Path, synchronous: str, model: LLMService | None = None, *tools: object) -> StatefulAgentLoop:
    config = AgentLoopConfig(context_tokens=10_000_000)
    dsn = f"sqlite:///{path}?synchronous={synchronous}"
    return StatefulAgentLoop(llm=model or Instant(), dsn=dsn, config=config, tools=list(tools) or None)


async def timed(work: Callable[[], Awaitable[object]], times: int) -> float:
    """The median seconds of ``times`` runs."""
    took: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        await work()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


async def beside_bare(loop: StatefulAgentLoop, folder: Path, name: str, synchronous: str, batches_per_send: int) -> tuple[float, float]:
    """(median of a send, median of its bare commits), seconds."""
    async with loop:
        recorder = await recorded(loop)
        store = await loop.ensure_store()
        session_id = await loop.new_session()
        await timed(lambda: loop.send("What is the weather in Lisbon?", session_id), WARM_UP)
        sent = await timed(lambda: loop.send("What is the weather in Lisbon?", session_id), SENDS)
        ddl = store.ddl()
    took = again(recorder.batches, ddl, folder / f"bare-{name}-{synchronous}.db", synchronous)
    each = [sum(took[at : at + batches_per_send]) for at in range(1 + WARM_UP * batches_per_send, len(took), batches_per_send)]
    return sent, statistics.median(each)


def verdict(report: Report, what: str, sent: float, bare: float, extra_ms: float) -> None:
    beside = f"bare {bare * 1000:.3f} ms, ratio {sent / bare:.2f}"
    report.add(what, f"{sent * 1000:.3f} ms", beside, f"<= 2 x bare + {extra_ms} ms", sent <= 2 * bare + extra_ms / 1000)


async def plain(report: Report, folder: Path, synchronous: str) -> None:
    sent, bare = await beside_bare(loop_on(folder / f"plain-{synchronous}.db", synchronous), folder, "plain", synchronous, 2)
    verdict(report, f"plain warm send, {synchronous.upper()}", sent, bare, 0.25)


async def tool_rounds(report: Report, folder: Path, synchronous: str) -> None:
    """A send with one tool round is four batches; the round is two of them, and costs what a plain send does not."""
    for name, handler, extra in (("async", look, 0.25), ("sync", look_sync, 0.35)):
        model = Instant("look" if name == "async" else "look_sync")
        loop = loop_on(folder / f"round-{name}-{synchronous}.db", synchronous, model, handler)
        sent, bare = await beside_bare(loop, folder, f"round-{name}", synchronous, 4)
        plain_loop = loop_on(folder / f"plain-beside-{name}-{synchronous}.db", synchronous)
        plain_sent, plain_bare = await beside_bare(plain_loop, folder, f"plain-beside-{name}", synchronous, 2)
        what = f"one pure tool round, {name} handler, {synchronous.upper()}"
        verdict(report, what, sent - plain_sent, max(bare - plain_bare, 1e-9), extra)


async def fifty_at_once(report: Report, folder: Path, synchronous: str, *, sessions: int = 50, each: int = 60) -> None:
    loop = loop_on(folder / f"fifty-{synchronous}.db", synchronous)
    async with loop:
        recorder = await recorded(loop)
        ids = [await loop.new_session() for _ in range(sessions)]

        async def talk(session_id: str, times: int) -> None:
            for _ in range(times):
                await loop.send("What is the weather in Lisbon?", session_id)

        await asyncio.gather(*(talk(session_id, 10) for session_id in ids))
        store = await loop.ensure_store()
        forgetful(store, recorder)  # what is kept of thousands of sends would be weighed along with them
        rates: list[float] = []
        for _ in range(5):
            began = time.perf_counter()
            await asyncio.gather(*(talk(session_id, each) for session_id in ids))
            rates.append(sessions * each / (time.perf_counter() - began))
        ddl = store.ddl()
    took = again(recorder.batches[:400], ddl, folder / f"bare-fifty-{synchronous}.db", synchronous)
    bare = statistics.median(took[sessions:])
    bar = "" if synchronous == "normal" else ">= 8,000/s where a bare commit takes 0.15 ms"
    kept = None if synchronous == "normal" or bare > 0.0002 else max(rates) >= 8000
    beside = f"best {max(rates):,.0f}/s, bare commit {bare * 1000:.3f} ms"
    report.add(f"{sessions} sessions at once, {synchronous.upper()}", f"{statistics.median(rates):,.0f}/s", beside, bar, kept)
