"""What a send costs on a database server, beside the bare batches that it wrote: alone, and with eight sessions at once.

    python bench/on_servers.py [engine ...]

The bare work is the same batches again in an empty database of the same server, over one bare connection each: our
driver's fewest round trips, without threads, sessions or a model. The servers are started for it, with fsync on.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parent.parent / "tests" / "support"))

from bare import recording
from claims import claims
from report import Report
from sends import Instant
from started import START, on_each

import inspector
from power_loop import AgentLoopConfig, StatefulAgentLoop, open_store
from power_loop.contracts.store import Batch, Statement
from power_loop.store.server import Line
from timers import timers

SAY = "What is the weather in Lisbon?"
SENDS, WARM_UP = 300, 50
# Other programs come and go on a machine, so both sides take turns, and many of them.
SESSIONS, ROUNDS, EACH = 8, 12, 15


async def measure(report: Report, engines: Sequence[str] = tuple(START)) -> None:
    async def everything(engine: str, server: Any) -> None:
        await plain(report, engine, server)
        await side_by_side(report, engine, server)
        await server.create("claims")
        await claims(report, engine, server.dsn("claims"))
        await server.create("timers")
        await timers(report, engine, server.dsn("timers"))
        await inspector.pages_on(report, engine, server)

    await on_each(report, engines, everything)


async def plain(report: Report, engine: str, server: Any) -> None:
    """A warm send is two batches; what stands beside each is the time of those two, done again."""
    sent: list[float] = []
    bare: list[float] = []
    async with await opened(server, "plain") as loop, Bare(server, "plain_bare", 1) as again:
        recorder = recording(await loop.ensure_store())
        session_id = await loop.new_session()
        for n in range(WARM_UP + SENDS):
            began = time.perf_counter()
            await loop.send(SAY, session_id)
            took = time.perf_counter() - began
            bare_took = await again.write(recorder.batches)
            if n >= WARM_UP:
                sent.append(took)
                bare.append(bare_took)
    ours, theirs = statistics.median(sent), statistics.median(bare)
    beside = f"two bare batches {theirs * 1000:.3f} ms, ratio {ours / theirs:.2f}"
    report.add(f"plain warm send, {engine}", f"{ours * 1000:.3f} ms", beside, "<= 2 x bare", ours <= 2 * theirs)


async def side_by_side(report: Report, engine: str, server: Any) -> None:
    sent: list[float] = []
    bare: list[float] = []
    async with await opened(server, "eight") as loop, Bare(server, "eight_bare", SESSIONS) as again:
        recorder = recording(await loop.ensure_store())
        ids = [await loop.new_session() for _ in range(SESSIONS)]

        async def talk(session_id: str) -> None:
            for _ in range(EACH):
                await loop.send(SAY, session_id)

        for n in range(ROUNDS):
            began = time.perf_counter()
            await asyncio.gather(*(talk(session_id) for session_id in ids))
            took = time.perf_counter() - began
            bare_took = await again.write(recorder.batches)
            if n:
                sent.append(took)
                bare.append(bare_took)
    ours, theirs = (SESSIONS * EACH / statistics.median(each) for each in (sent, bare))
    beside = f"bare {theirs:,.0f}/s, ratio {ours / theirs:.2f}"
    report.add(f"{SESSIONS} sessions at once, {engine}", f"{ours:,.0f} sends/s", beside, ">= 0.6 x bare", ours >= 0.6 * theirs)


async def opened(server: Any, database: str) -> StatefulAgentLoop:
    await server.create(database)
    config = AgentLoopConfig(context_tokens=10_000_000)
    return StatefulAgentLoop(llm=Instant(), dsn=server.dsn(database), config=config)


# --- the bare work ------------------------------------------------------------------------------------


class Bare:
    """The same batches in an empty database of the same server, each session's over a connection of its own."""

    def __init__(self, server: Any, database: str, sessions: int) -> None:
        self._server, self._database, self._sessions = server, database, sessions
        self._done = 0

    async def __aenter__(self) -> Bare:
        await self._server.create(self._database)
        self._store = await open_store(self._server.dsn(self._database))
        self._lines: list[Line] = [self._store.database._new_line() for _ in range(self._sessions)]
        self._line_of: dict[str, Line] = {}
        return self

    async def __aexit__(self, *_: object) -> None:
        for line in self._lines:
            await line.close()
        await self._store.close()

    async def write(self, batches: Sequence[Batch]) -> float:
        """Do those that were not done yet; the seconds that it took."""
        by_session: defaultdict[str, list[Batch]] = defaultdict(list)
        for batch in batches[self._done :]:
            by_session[session_of(batch)].append(batch)
        self._done = len(batches)
        for session_id, its in by_session.items():
            if session_id not in self._line_of:
                self._line_of[session_id] = self._lines[len(self._line_of)]
                its.insert(1, [first_epoch(its[1])])
        began = time.perf_counter()
        await asyncio.gather(*(self._all(session_id, its) for session_id, its in by_session.items()))
        return time.perf_counter() - began

    async def _all(self, session_id: str, its: list[Batch]) -> None:
        for batch in its:
            await self._line_of[session_id].write(batch)


def first_epoch(take: Batch) -> Statement:
    """What sets the epoch that the fence expects: a session's first one is the time at which it was created."""
    return Statement("UPDATE pl_sessions SET epoch = ? WHERE session_id = ?", (take[0].params[-4], session_of(take)))


def session_of(batch: Batch) -> str:
    first = batch[0]
    return first.params[0] if first.sql.startswith("INSERT") else first.params[-5]


async def main() -> None:
    report = Report()
    await measure(report, sys.argv[1:] or tuple(START))
    print(report.text())


if __name__ == "__main__":
    asyncio.run(main())
