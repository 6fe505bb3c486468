"""Where each microsecond of one plain send goes: `python bench/timeline.py`.

One send after the other on a SQLite file, with a model that answers at once. A mark is set wherever the send passes from one part to
the next, on either thread, so the parts add up to the whole. Printed is the mean over the fastest tenth of the sends: what the
others took longer is other work of the machine. First with both threads on one core, where Linux has them behind a pause; then as it
spreads them when sends follow each other without one. Behind that: sends behind
pauses, the calls of one send, and the CPU time when fifty sessions talk at once.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from sends import Instant, loop_on, one_core

from power_loop import LLMRequest, LLMResponse
from power_loop.contracts.store import Batch, Database

SENDS, WARM_UP = 3000, 300
SAID = "What is the weather in Lisbon?"

WRITTEN = (
    "the batch goes to SQLite's thread: the thread wakes, the gate is taken",
    "BEGIN and the statements",
    "COMMIT",
    "the outcome goes back: the event loop wakes, the task goes on",
)
PARTS = (
    "the call is checked, the session taken in hand, what was said becomes a row, and the statements of batch 1",
    *WRITTEN,
    "batch 1 is believed; decided: call the model; the request and its digest",
    "the model",
    "the reply becomes a row; decided: the end, and rest; the statements of batch 2",
    *WRITTEN,
    "batch 2 is believed; the result",
)


class Marks:
    """When a send passed from one part to the next; set from both threads, one after the other."""

    def __init__(self) -> None:
        self.at: list[int] = []

    def set(self, _: str = "") -> None:
        self.at.append(time.perf_counter_ns())

    def taken(self) -> list[int]:
        at, self.at = self.at, []
        return [later - earlier for earlier, later in pairwise(at)]


class Marked:
    """A database that marks when a batch is handed over, and when whoever waits for it goes on."""

    def __init__(self, inner: Database, marks: Marks) -> None:
        self._inner, self._marks, self.read, self.close = inner, marks, inner.read, inner.close

    async def write(self, batch: Batch) -> None:
        self._marks.set()
        await self._inner.write(batch)
        self._marks.set()


class MarkedModel(Instant):
    """Marks when it is asked, and when it has answered."""

    def __init__(self, marks: Marks) -> None:
        super().__init__()
        self._marks = marks

    async def complete(self, request: LLMRequest, **callbacks: object) -> LLMResponse:
        self._marks.set()
        response = await super().complete(request, **callbacks)
        self._marks.set()
        return response


async def parts(path: Path, synchronous: str) -> list[float]:
    """Microseconds of each of `PARTS`."""
    marks = Marks()
    async with loop_on(path, synchronous, MarkedModel(marks)) as loop:
        store: Any = await loop.ensure_store()
        session = await loop.new_session()
        await loop.send(SAID, session)
        store._database._worker._faults = marks.set  # called before BEGIN, before COMMIT and after it
        store._database = Marked(store._database, marks)
        marks.taken()
        took: list[list[int]] = []
        for _ in range(WARM_UP + SENDS):
            marks.set()
            await loop.send(SAID, session)
            marks.set()
            took.append(marks.taken())
    fastest = sorted(took[WARM_UP:], key=sum)[: SENDS // 10]
    assert all(len(each) == len(PARTS) for each in fastest), "a send has other parts by now"
    return [fmean(each) / 1000 for each in zip(*fastest, strict=True)]


async def calls(path: Path) -> int:
    """How often a plain send calls a function, those of the standard library and of C included, on the event loop's thread."""
    seen = 0

    def count(_: object, event: str, __: object) -> None:
        nonlocal seen
        seen += event in ("call", "c_call")

    async with loop_on(path, "normal") as loop:
        session = await loop.new_session()
        for _ in range(3):
            await loop.send(SAID, session)
        sys.setprofile(count)
        await loop.send(SAID, session)
        sys.setprofile(None)
    return seen


async def cpu(path: Path, *, sessions: int = 50, each: int = 20, times: int = 25) -> tuple[float, float]:
    """(on the event loop's thread, on all threads): microseconds of CPU a send, the least of some runs of many sessions at once."""
    async with loop_on(path, "normal") as loop:
        ids = [await loop.new_session() for _ in range(sessions)]

        async def talk(session: str) -> None:
            for _ in range(each):
                await loop.send(SAID, session)

        took: list[tuple[float, float]] = []
        for _ in range(1 + times):
            here, everywhere = time.thread_time(), time.process_time()
            await asyncio.gather(*map(talk, ids))
            took.append((time.thread_time() - here, time.process_time() - everywhere))
    least = (min(found) / (sessions * each) * 1e6 for found in zip(*took[1:], strict=True))
    return next(least), next(least)


async def behind_pauses(path: Path, *, pauses: int = 25, sends: int = 40) -> float:
    """The median microseconds of a send, of a few behind each pause, with the threads left to the system."""
    took: list[float] = []
    async with loop_on(path, "normal") as loop:
        session = await loop.new_session()
        for _ in range(pauses):
            await asyncio.sleep(0.05)
            for _ in range(sends):
                began = time.perf_counter()
                await loop.send(SAID, session)
                took.append(time.perf_counter() - began)
    return median(took) * 1e6


def table(columns: dict[str, Sequence[float]]) -> str:
    """Markdown: a row for each part, a column for each way to commit."""
    lines = [f"| part | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    rows = [*zip(PARTS, zip(*columns.values(), strict=True), strict=True), ("**all of it**", tuple(map(sum, columns.values())))]
    return "\n".join([*lines, *(f"| {part} | {' | '.join(f'{value:.0f}' for value in values)} |" for part, values in rows)])


async def measure(folder: Path) -> None:
    with one_core():
        together = await parts(folder / "together.db", "normal")
    spread = {f"{way.upper()}, µs": await parts(folder / f"{way}.db", way) for way in ("normal", "full")}
    print(table({"NORMAL, one core, µs": together, **spread}))
    print(f"\n{await calls(folder / 'calls.db')} calls on the event loop's thread", flush=True)
    print(f"NORMAL, 40 sends behind each pause of 50 ms: {await behind_pauses(folder / 'pauses.db'):.0f} µs (median)")
    here, everywhere = await cpu(folder / "fifty.db")
    print(f"50 sessions at once: {everywhere:.0f} µs of CPU a send, {here:.0f} of them on the event loop's thread")


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="power-loop-bench-", dir=".") as folder:
        asyncio.run(measure(Path(folder)))


if __name__ == "__main__":
    main()
