"""Several real processes say their words to one session at the same time; each stops somewhere, and some are killed.

A stop lasts for longer than a lease, so that its holder is taken over in the middle of whatever it did, and goes on as
a zombie. Whoever was killed says everything again; in the end every word is there once.
"""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from forks import ForkServer

from proofs.facts import look_at, told
from proofs.stores import ready
from proofs.suite import Suite

LEASE_S = 0.5
STOPPED_S = 2 * LEASE_S
# Boundaries of a talk that has the session to itself.
BOUNDARIES = 60
LOOK_AGAIN_S = 0.02
# A zombie's words are refused until it says them under a new lease.
TRIES = 100


class Races(Suite):
    """A case is a seed: how many processes there are, and what happens to them."""

    def __init__(self, engine: str, seeds: int, mutation: str | None = None) -> None:
        self.name = f"races of processes ({engine})"
        self._engine, self._seeds, self._mutation = engine, seeds, mutation
        self._runs = self.stops = self.kills = 0

    def open(self, stack: ExitStack) -> None:
        self._ready = stack.enter_context(ready(self._engine))
        self._server = stack.enter_context(ForkServer(Path(__file__).with_name("talker.py"), self._ready.folder))

    def cases(self) -> range:
        return range(self._seeds)

    def done(self) -> str:
        return f"{self.stops} stops, {self.kills} kills"

    def run(self, case: int) -> list[str]:
        chance = random.Random(f"race {case}")
        self._runs += 1
        folder = self._ready.folder / f"r{case}-{self._runs}"
        folder.mkdir()
        jobs = [self._job(folder, name) for name in "abcdefgh"[: chance.choice((2, 3, 4, 8))]]
        self._server.start(*({**job, **_fate(chance), "mutation": self._mutation} for job in jobs))
        self._wake_those_who_stopped(folder)
        ended = self._server.ended()
        self.kills += ended.count(-signal.SIGKILL)
        if not set(ended) <= {0, -signal.SIGKILL}:
            return [f"they ended with {ended}"]
        wrong = [f"they ended with {again}" for again in [self._server.run(*jobs)] if set(again) != {0}]
        return wrong + self._ready.runner.run(self._look(folder))

    def _wake_those_who_stopped(self, folder: Path) -> None:
        """Each of them once its lease is over; until all have ended."""
        woken = 0
        while not self._server.has_ended():
            stops = told(folder, "stops")
            if len(stops) == woken:
                time.sleep(LOOK_AGAIN_S)
                continue
            time.sleep(STOPPED_S)
            for stop in stops[woken:]:
                os.kill(stop["pid"], signal.SIGCONT)
            self.stops, woken = self.stops + len(stops) - woken, len(stops)

    async def _look(self, folder: Path) -> list[str]:
        return await look_at(folder, self._ready.dsn, folder.name, at_rest=True)

    def _job(self, folder: Path, name: str) -> dict[str, Any]:
        words = [f"{name}1", f"{name}2 tools=2", f"+{name}3", f"{name}4", f"{name}5 tools=1", f"{name}6"]
        return {
            "folder": str(folder), "dsn": self._ready.dsn, "session": folder.name, "words": words, "name": name, "verb": "talk",
            "lease_ttl_s": LEASE_S, "tries": TRIES, "among_others": True,
        }  # fmt: skip


def _fate(chance: random.Random) -> dict[str, Any]:
    """Where a process stops, and whether and where it is killed."""
    dies = chance.randint(1, BOUNDARIES) if chance.random() < 0.3 else 0
    return {"stop_at": [chance.randint(1, BOUNDARIES)], "die_at": dies}
