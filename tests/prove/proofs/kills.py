"""`kill -9` of a real process at every boundary of a talk, on any engine that processes share, and again during recovery.

A boundary is before each batch, while it is on its way, and once it is there; before each model call; before and after
each effect. Then the next process says everything again under the same keys.
"""

from __future__ import annotations

import json
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from forks import ForkServer

from proofs.stores import ready
from proofs.suite import Suite

Case = tuple[str, int, int]
"""Effect class of the tool, at which boundary the first process dies, and the second (0: it does not)."""

WORDS = ("one tools=2", "+between", "two tools=1", "three")
AGAIN = (1, 2, 3, 5, 8, 11)
# No process can die this late: it only counts.
NEVER = 1 << 30


class Kills(Suite):
    def __init__(self, engine: str, mutation: str | None = None) -> None:
        self.name = f"kill -9 ({engine})"
        self._engine, self._mutation = engine, mutation
        self._talks = self.boundaries = 0

    def open(self, stack: ExitStack) -> None:
        self._ready = stack.enter_context(ready(self._engine))
        self._server = stack.enter_context(ForkServer(Path(__file__).with_name("talker.py"), self._ready.folder))
        job = self._job("once")
        assert self._server.run({**job, "verb": "talk", "die_at": NEVER}) == [0]
        self.boundaries = int((Path(job["folder"]) / "boundaries.jsonl").read_text())

    def cases(self) -> list[Case]:
        deaths = range(1, self.boundaries + 1)
        once = [(effects, at, 0) for effects in ("once", "idempotent", "pure") for at in deaths]
        return once + [("once", at, again) for at in deaths for again in AGAIN]

    def run(self, case: Case) -> list[str]:
        effects, at, again = case
        job = self._job(effects)
        ended = self._server.run({**job, "verb": "talk", "die_at": at, "mutation": self._mutation})
        if ended != [-signal.SIGKILL]:
            return [f"it ended with {ended}"]
        if again and self._server.run({**job, "verb": "talk", "die_at": again}) not in ([-signal.SIGKILL], [0]):
            return ["the second one failed"]
        ended = self._server.run({**job, "verb": "go on"})
        return [f"the next one ended with {ended}"] if ended != [0] else json.loads((Path(job["folder"]) / "found.json").read_text())

    def _job(self, effects: str) -> dict[str, Any]:
        self._talks += 1
        folder = self._ready.folder / f"k{self._talks}"
        folder.mkdir()
        return {"folder": str(folder), "dsn": self._ready.dsn, "session": folder.name, "words": WORDS, "effects": effects}
