"""A process that fires timers and kills itself at a boundary; a job is ``{"dir", "verb", "die_at"}``.

A boundary is before BEGIN, before COMMIT and after COMMIT of each transaction, and before and after each model call.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

from forks import Job, serve

from power_loop import StatefulAgentLoop, TimerRunner
from power_loop.contracts.model import LLMRequest, LLMResponse
from power_loop.store.sql_store import SessionStore
from power_loop.store.sqlite import SqliteDatabase
from power_loop.testing.invariants import check_invariants

SESSION = "s"


class Program:
    model, provider_name, capabilities = "timers", "tests", None

    def __init__(self, job: Job) -> None:
        self.job, self.folder, self.boundaries = job, Path(job["dir"]), 0

    def boundary(self, where: str) -> None:
        self.boundaries += 1
        if self.boundaries == self.job.get("die_at"):
            os.kill(os.getpid(), signal.SIGKILL)

    async def complete(self, request: LLMRequest, **callbacks: object) -> LLMResponse:
        self.boundary("before the model")
        self.boundary("after the model")
        return LLMResponse(content_text="awake")

    async def run(self) -> None:
        store = SessionStore(SqliteDatabase(self.folder / "app.db", faults=self.boundary), SqliteDatabase.dialect, "pl_")
        loop = StatefulAgentLoop(llm=self, store=store)
        if self.job["verb"] == "fire":
            await TimerRunner(loop).scan_once()
        else:  # what comes after a crash: the next scan, and a resume of what was cut off
            await TimerRunner(loop).scan_once()
            await loop.resume(SESSION)
            await TimerRunner(loop).scan_once()
            self.tell("violations", await check_invariants(store, at_rest=True))
        await loop.aclose()
        await store.close()
        self.tell("boundaries", self.boundaries)

    def tell(self, name: str, what: object) -> None:
        (self.folder / name).write_text(json.dumps(what))


if __name__ == "__main__":
    serve(lambda job: asyncio.run(Program(job).run()))
