"""What one send, one tool round, and fifty sessions at once cost beside their bare commits.

A send is two threads taking turns. Behind a pause, such as a model's, Linux has both on one core; sends that follow each other
without one are spread over two, and each turn begins by waking a core, which takes longer than all of the work where nothing
waits for a disk. So at NORMAL the bars are read on one core, bare work and sends alike, and what it takes spread stands below.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

from bare import Bare, Recorder, forgetful, recorded
from report import Report

from power_loop import AgentLoopConfig, LLMRequest, LLMResponse, LLMService, LLMTokenUsage, StatefulAgentLoop, tool
from power_loop.contracts.store import Batch

SENDS = 600
WARM_UP = 100
# After so many sends their batches are written again: whatever else the machine does meets both.
TURN = 20
# A send with a round of tools; a plain one has half of them.
MOST_BATCHES = 4 * (SENDS + WARM_UP) + 10


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


class Talk:
    """A session of a loop of its own; what it writes is remembered."""

    def __init__(self, loop: StatefulAgentLoop, recorder: Recorder, session_id: str, ddl: Sequence[str]) -> None:
        self._loop, self._recorder, self._session_id, self.ddl = loop, recorder, session_id, ddl

    async def send(self) -> float:
        """The seconds of one send."""
        began = time.perf_counter()
        await self._loop.send("What is the weather in Lisbon?", self._session_id)
        return time.perf_counter() - began

    def batches(self) -> list[Batch]:
        """What was written since the last time."""
        batches, self._recorder.batches = self._recorder.batches, []
        return batches


@asynccontextmanager
async def talk(loop: StatefulAgentLoop) -> AsyncGenerator[Talk]:
    async with loop:
        recorder = await recorded(loop)
        yield Talk(loop, recorder, await loop.new_session(), (await loop.ensure_store()).ddl())


async def by_turns(path: Path, synchronous: str, *talks: Talk) -> tuple[list[tuple[float, ...]], list[list[float]]]:
    """Taken by turns: the seconds of sends of all; and those of the batches of each send of the first, again in a file at ``path``."""
    sent: list[tuple[float, ...]] = []
    took: list[float] = []
    with closing(Bare(talks[0].ddl, path, synchronous, MOST_BATCHES)) as bare:
        bare.again(talks[0].batches())  # the session itself
        for _ in range(0, WARM_UP + SENDS, TURN):
            sent += [tuple([await each.send() for each in talks]) for _ in range(TURN)]
            took += bare.again(talks[0].batches())
    each = len(took) // len(sent)
    return sent[WARM_UP:], [took[at : at + each] for at in range(WARM_UP * each, len(took), each)]


def verdict(report: Report, what: str, sent: float, bare: float, extra_ms: float | None) -> None:
    """A line of the report; without ``extra_ms`` no bar is read on it."""
    measured, beside = f"{sent * 1000:.3f} ms", f"bare {bare * 1000:.3f} ms, ratio {sent / bare:.2f}"
    if extra_ms is None:
        report.add(what, measured, beside)
    else:
        report.add(what, measured, beside, f"<= 2 x bare + {extra_ms} ms", sent <= 2 * bare + extra_ms / 1000)


@contextmanager
def one_core() -> Generator[None]:
    """This thread, and those that it begins, run on one core meanwhile; where the system lets programs choose."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


async def one_after_another(report: Report, folder: Path, synchronous: str) -> None:
    """Sends and rounds of one session."""
    if synchronous == "normal":
        with one_core():
            await plain(report, folder, synchronous, ", one core")
            await tool_rounds(report, folder, synchronous, ", one core")
        await plain(report, folder, synchronous, ", spread", bar=False)
        await tool_rounds(report, folder, synchronous, ", spread", bar=False)
    else:
        await plain(report, folder, synchronous)
        await tool_rounds(report, folder, synchronous)


async def plain(report: Report, folder: Path, synchronous: str, where: str = "", *, bar: bool = True) -> None:
    mark = f"plain-{synchronous}{where}"
    async with talk(loop_on(folder / f"{mark}.db", synchronous)) as plain:
        sends, batches = await by_turns(folder / f"bare-{mark}.db", synchronous, plain)
    sent, bare = statistics.median(took for (took,) in sends), statistics.median(map(sum, batches))
    verdict(report, f"plain warm send, {synchronous.upper()}{where}", sent, bare, 0.25 if bar else None)


async def tool_rounds(report: Report, folder: Path, synchronous: str, where: str = "", *, bar: bool = True) -> None:
    """A send with one tool round is four batches; the round is the two in the middle, and takes what a plain send does not."""
    for name, handler, extra in (("async", look, 0.25), ("sync", look_sync, 0.35)):
        mark = f"{name}-{synchronous}{where}"
        with_round = loop_on(folder / f"round-{mark}.db", synchronous, Instant(handler.definition.name), handler)
        without = loop_on(folder / f"plain-beside-{mark}.db", synchronous)
        async with talk(with_round) as whole, talk(without) as plain:
            sends, batches = await by_turns(folder / f"bare-round-{mark}.db", synchronous, whole, plain)
        sent = statistics.median(took - beside for took, beside in sends)
        bare = statistics.median(sum(took[1:3]) for took in batches)
        what = f"one pure tool round, {name} handler, {synchronous.upper()}{where}"
        verdict(report, what, sent, bare, extra if bar else None)


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
    some = recorder.batches[:400]
    with closing(Bare(ddl, folder / f"bare-fifty-{synchronous}.db", synchronous, len(some))) as again:
        bare = statistics.median(again.again(some)[sessions:])
    bar = "" if synchronous == "normal" else ">= 8,000/s where a bare commit takes 0.15 ms"
    kept = None if synchronous == "normal" or bare > 0.0002 else max(rates) >= 8000
    beside = f"best {max(rates):,.0f}/s, bare commit {bare * 1000:.3f} ms"
    report.add(f"{sessions} sessions at once, {synchronous.upper()}", f"{statistics.median(rates):,.0f}/s", beside, bar, kept)
