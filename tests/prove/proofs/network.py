"""The line to a server is cut at every piece that a talk sends: before it arrives, after it and before its answer, or silently.

The talk goes on as a caller would, by saying again what was refused; then another one, on a line that holds, says it
all once more under the same keys.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import power_loop.store.mysql_wire as mysql_wire
from power_loop.contracts.errors import StoreUnavailable
from proofs.facts import look_at
from proofs.proxy import Cut, Proxy
from proofs.stores import ready
from proofs.suite import Suite
from proofs.talker import Talker, Watched, persistently

Case = tuple[int, Cut]
"""At which piece, from 1, and how."""

WORDS = ("one tools=2", "+between", "two")
# Whoever hears nothing waits this long before it takes the line for cut.
PATIENCE_S = 0.4
LEASE_S = 0.6
LOCK_WAIT_S = 10  # what a MySQL line adds to that
OPTIONS = {"postgresql": f"?command_timeout={PATIENCE_S}&connect_timeout={PATIENCE_S}", "mysql": "?pool_max=3", "mariadb": "?pool_max=3"}


class Network(Suite):
    """On one server engine."""

    def __init__(self, engine: str) -> None:
        self.name = f"network cuts ({engine})"
        self._engine = engine
        self._talks = 0
        self.pieces = 0

    def open(self, stack: ExitStack) -> None:
        self._ready = stack.enter_context(ready(self._engine))
        self._runner = self._ready.runner
        self.pieces = self._runner.run(self._count())

    def cases(self) -> list[Case]:
        hows: tuple[Cut, ...] = ("request", "reply", "stall")
        return [(piece, how) for how in hows for piece in range(1, self.pieces + 1)]

    def run(self, case: Case) -> list[str]:
        return self._runner.run(self._cut(*case))

    async def _count(self) -> int:
        async with self._proxy() as proxy:
            await self._talk(self._job(), proxy)
            return proxy.pieces

    async def _cut(self, piece: int, how: Cut) -> list[str]:
        job = self._job()
        async with self._proxy() as proxy:
            proxy.cut_at(piece, how)
            try:
                with impatient():
                    await self._talk(job, proxy, OPTIONS[self._engine])
            except StoreUnavailable:
                pass
        wrong = [f"after the cut: {text}" for text in await self._look(job)]
        await self._talk(job, None)
        return wrong + [f"after the next one: {text}" for text in await self._look(job, at_rest=True)]

    async def _talk(self, job: dict[str, Any], proxy: Proxy | None, options: str = "") -> None:
        dsn = job["dsn"] if proxy is None else re.sub(r":\d+/", f":{proxy.port}/", job["dsn"])
        await talk_here(job, lambda: Watched.open(dsn + options))

    async def _look(self, job: dict[str, Any], at_rest: bool = False) -> list[str]:
        return await look_at(self._ready.folder / job["session"], job["dsn"], job["session"], at_rest=at_rest)

    def _job(self) -> dict[str, Any]:
        self._talks += 1
        folder = self._ready.folder / f"s{self._talks}"
        folder.mkdir()
        return {"folder": str(folder), "dsn": self._ready.dsn, "session": folder.name, "words": WORDS, "lease_ttl_s": LEASE_S}

    def _proxy(self) -> Proxy:
        found = re.search(r":(\d+)/", self._ready.dsn)
        assert found is not None
        return Proxy(int(found[1]))


async def talk_here(job: dict[str, Any], open_it: Callable[[], Awaitable[Watched]]) -> None:
    """The talk in this process, everything given back however it ends. Raises `StoreUnavailable`."""
    talker = Talker(job)
    try:
        store = await persistently(open_it)
        try:
            async with talker.loop(store) as loop:
                await talker.say_all(store, loop)
        finally:
            await store.close()
    finally:
        talker.close()


@contextmanager
def impatient() -> Iterator[None]:
    """What has no option in a DSN: how long a MySQL server may take to answer, and a line to be made."""
    wire = cast("Any", mysql_wire)
    before = wire.ANSWER_S, wire.CONNECT_S
    wire.ANSWER_S, wire.CONNECT_S = PATIENCE_S - LOCK_WAIT_S, PATIENCE_S
    try:
        yield
    finally:
        wire.ANSWER_S, wire.CONNECT_S = before
