"""A long mixed day: ``python scripts/soak.py [--seconds N] [--engine NAME] [--seed N]``, which is `make soak`.

Twenty callers and a worker send, stream, enqueue, cancel, set timers, begin sessions and close them, on one store. Every
tenth of the time it prints what was done, and what the process holds: memory, objects, tasks, threads, files. Ends with 1 where
an invariant of the store is broken, or where more is held at the end than in the middle.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

import engines

from power_loop import AgentLoopConfig, ModelRetry, SessionPendingError, SessionStore, StatefulAgentLoop, Worker, open_store, tool
from power_loop.contracts.model import LLMRequest
from power_loop.testing import FunctionLLM, call, check_invariants, say

CALLERS, SESSIONS, LOOKS = 20, 200, 10
# Small, so that sessions are forgotten and read again, and folded.
CACHED, CONTEXT_TOKENS = 64, 3_000
# What comes and goes may stand a little higher at one moment than at another.
SLACK = 1.15


@tool(effects="pure")
def weather(city: str) -> str:
    """The weather in a city."""
    return f"{city}: sunny"


@tool(effects="once")
async def pay(amount: int) -> str:
    """Pay an amount; every seventh is refused."""
    await asyncio.sleep(0)
    if amount % 7 == 0:
        raise ModelRetry("not that amount")
    return f"paid {amount}"


class Held(NamedTuple):
    """What the process holds at one moment."""

    resident_mb: int
    objects: int
    tasks: int
    threads: int
    files: int

    @classmethod
    def now(cls) -> Held:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        resident_mb = pages * os.sysconf("SC_PAGE_SIZE") >> 20
        return cls(resident_mb, len(gc.get_objects()), len(asyncio.all_tasks()), threading.active_count(), len(os.listdir("/proc/self/fd")))

    def exceeds(self, other: Held) -> list[str]:
        """The names of what there is more of than there was, beyond what comes and goes."""
        pairs = zip(self._fields, self, other, strict=True)
        return [f"{name}: {before} in the middle, {now} at the end" for name, now, before in pairs if now > before * SLACK + CALLERS]


class Model(FunctionLLM):
    """Answers by turns with a tool, the other tool, a long word and a short one; remembers no request."""

    def __init__(self) -> None:
        self._asked = 0
        super().__init__(self._answer)

    def _answer(self, request: LLMRequest) -> Any:
        self._asked += 1
        self.requests.clear()
        if request.messages[-1]["role"] != "user":
            return say("done " + "x" * (self._asked % 300))
        turns = (call("weather", city="Rome"), call("pay", amount=self._asked), say("hello " * 50), say("yes"))
        return turns[self._asked % len(turns)]


class Day:
    """What the callers do until it is over."""

    def __init__(self, loop: StatefulAgentLoop, seconds: float, seed: int) -> None:
        self.done: Counter[str] = Counter()
        self._loop, self._random = loop, random.Random(seed)
        self._until = time.monotonic() + seconds
        self._sessions: list[str] = []
        self._deeds = {
            self.send: 50,
            self.stream: 10,
            self.enqueue: 10,
            self.drop: 10,
            self.timer: 5,
            self.cancel: 5,
            self.read: 5,
            self.visit: 5,
        }

    async def caller(self) -> None:
        deeds, weights = list(self._deeds), list(self._deeds.values())
        while time.monotonic() < self._until:
            [deed] = self._random.choices(deeds, weights)
            try:
                await deed(self._random.choice(self._sessions))
                self.done[deed.__name__] += 1
            except SessionPendingError:  # a dropped send left a call of which nobody knows; the day goes on elsewhere
                self.done["pending"] += 1

    async def all(self) -> list[Held]:
        self._sessions = [await self._loop.new_session() for _ in range(SESSIONS)]
        looks, *_ = await asyncio.gather(self._looks((self._until - time.monotonic()) / LOOKS), *(self.caller() for _ in range(CALLERS)))
        return looks

    async def _looks(self, every_s: float) -> list[Held]:
        looks: list[Held] = []
        for _ in range(LOOKS):
            await asyncio.sleep(every_s)
            looks.append(Held.now())
            print(*(f"{name} {value}" for name, value in looks[-1]._asdict().items()), dict(self.done), flush=True)
        return looks

    async def send(self, session: str) -> None:
        await self._loop.send("hi", session)

    async def stream(self, session: str) -> None:
        async for _ in self._loop.stream("hi", session):
            pass

    async def enqueue(self, session: str) -> None:
        await self._loop.enqueue("more", session_id=session)

    async def drop(self, session: str) -> None:
        """Send, and lose interest in the midst of it."""
        task = asyncio.ensure_future(self._loop.send("hi", session))
        await asyncio.sleep(self._random.random() * 0.01)
        task.cancel()
        await asyncio.wait([task])

    async def timer(self, session: str) -> None:
        await self._loop.schedule_timer(session, delay_s=0.05, note="look again")

    async def cancel(self, session: str) -> None:
        await self._loop.cancel(session)

    async def read(self, session: str) -> None:
        await self._loop.get_messages(session)

    async def visit(self, _: str) -> None:
        """A session of one send."""
        session = await self._loop.new_session()
        await self._loop.send("hi", session)
        await self._loop.close_session(session)


async def soak(dsn: str, seconds: float, seed: int) -> list[str]:
    """What is wrong after it."""
    store = await open_store(dsn)
    config = AgentLoopConfig(context_tokens=CONTEXT_TOKENS)
    loop, beside = (
        StatefulAgentLoop(llm=Model(), store=store, tools=[weather, pay], config=config, session_cache_size=CACHED) for _ in range(2)
    )
    working = asyncio.ensure_future(Worker(beside).run())
    day = Day(loop, seconds, seed)
    looks = await day.all()
    working.cancel()
    await asyncio.wait([working])
    wrong = looks[-1].exceeds(looks[LOOKS // 2]) + await left_behind(store, loop, beside)
    print(f"{sum(day.done.values())} deeds, {len(wrong)} violations")
    return wrong


async def left_behind(store: SessionStore, *loops: StatefulAgentLoop) -> list[str]:
    for loop in loops:
        await loop.aclose()
    wrong = await check_invariants(store)
    await store.close()
    return wrong


async def main() -> int:
    parser = argparse.ArgumentParser(description="A long mixed day on one store.")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--engine", default="sqlite", choices=engines.FILES_AND_SERVERS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{options.engine}, {options.seconds:.0f} s, seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="power-loop-soak-") as folder:
        async with engines.fresh(options.engine, Path(folder)) as dsn:
            wrong = await soak(dsn, options.seconds, options.seed)
    engines.stop_servers()
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
