"""Workers and clients in processes of their own, to be stopped and killed; and a server that forks them.

A request is one JSON line: ``{"start": {job}}`` answers with a pid, ``{"wait": pid}`` with how it ended: 0, an exit code,
or minus a signal. A job has a ``dsn``, a ``verb`` and a ``pipe``: every process writes there what it does, one line each,
so that a test goes by what has happened and never by time.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys

from forks import Job, forked, rehearse

import power_loop.store.mysql
import power_loop.store.postgres  # noqa: F401 - with the drivers, which each child would load for itself
from power_loop import AgentLoopConfig, RunPolicy, SessionStore, StatefulAgentLoop
from power_loop.contracts.errors import SessionBusyError, SessionLeaseLost, SessionPendingError
from power_loop.contracts.model import LLMRequest, LLMResponse, LLMTokenUsage
from power_loop.worker import Worker

MODEL_S = 0.002
POLL_S = 0.05


class Program:
    """One process, and its model."""

    model, provider_name, capabilities = "echo", "tests", None

    def __init__(self, job: Job) -> None:
        self.job, self.chance = job, random.Random(job.get("seed", 0))
        self.pipe = os.open(job["pipe"], os.O_WRONLY)

    def tell(self, what: str, text: str = "") -> None:
        """One line; a write of less than PIPE_BUF bytes is never torn."""
        os.write(self.pipe, (json.dumps([self.job["name"], what, text]) + "\n").encode())

    async def complete(self, request: LLMRequest, **callbacks: object) -> LLMResponse:
        text = str(request.messages[-1]["content"])
        hangs = "first_hangs" in self.job and _is_first(self.job["first_hangs"])
        self.tell("asked", text)
        if hangs:
            await asyncio.Event().wait()
        await asyncio.sleep(self.chance.uniform(0, self.job.get("model_s", MODEL_S)))
        return LLMResponse(content_text=f"answer to {text}", token_usage=LLMTokenUsage(prompt=5, completion=2, total=7))

    async def run(self) -> None:
        config = AgentLoopConfig(running=RunPolicy(lease_ttl_s=self.job.get("lease_s", 30.0)))
        async with StatefulAgentLoop(llm=self, dsn=self.job["dsn"], config=config) as loop:
            await getattr(self, self.job["verb"])(loop)

    # --- verbs ---------------------------------------------------------------------------------------

    async def work(self, loop: StatefulAgentLoop) -> None:
        """Until SIGTERM."""
        self.tell("works")
        await Worker(loop, concurrency=4, poll_s=POLL_S).run()
        self.tell("drained")

    async def finish(self, loop: StatefulAgentLoop) -> None:
        """Until nothing is left to do."""
        store, worker = await loop.ensure_store(), Worker(loop, poll_s=POLL_S)
        while await worker.run_once() or await store.database.read("SELECT 1 FROM pl_sessions WHERE runnable_at IS NOT NULL"):
            await asyncio.sleep(POLL_S)

    async def steal(self, loop: StatefulAgentLoop) -> None:
        """Send on one session, among others who do the same, as long as there is something to say."""
        for n in range(self.job["count"]):
            text = f"{self.job['name']}.{n}"
            try:
                result = await loop.send(text, "s", heal_pending=True)
                assert (result.status, result.final_text) == ("completed", f"answer to {text}"), result
                self.tell("sent", text)
            except SessionLeaseLost:
                self.tell("lost", text)
            except (SessionBusyError, SessionPendingError) as error:
                self.tell("refused", f"{text}: {error}")
        self.tell("done")

    async def append(self, loop: StatefulAgentLoop) -> None:
        """Bring history and send, by turns, on one session where others do the same."""
        store = await loop.ensure_store()
        for n in range(self.job["count"]):
            text = f"{self.job['name']}.{n}"
            if n % 2:
                await loop.send(text, "s")
            else:
                await self.bring(store, text)
            self.tell("there", text)

    async def bring(self, store: SessionStore, text: str) -> None:
        """Until nobody drives the session."""
        while True:
            try:
                await store.append_message("s", role="user", content=text)
            except SessionBusyError:
                await asyncio.sleep(MODEL_S)
            else:
                return

    async def send_keyed(self, loop: StatefulAgentLoop) -> None:
        """One send, under a key that others use at the same time."""
        result = await loop.send("pay the bill", "s", key="the key")
        self.tell("sent", f"{result.send_index} {result.status} {result.final_text}")


def _is_first(mark: str) -> bool:
    """True for the first process that asks, of all that share the path ``mark``."""
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def run(job: Job) -> None:
    asyncio.run(Program(job).run())


def main() -> None:
    rehearse()
    for line in sys.stdin:
        request = json.loads(line)
        if "start" in request:
            answer = forked(run, request["start"])
        else:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
