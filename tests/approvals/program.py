"""A program that waits for people and kills itself at a boundary; a job is ``{"dir", "verb", "kind", "effects", "die_at"}``.

A boundary is before BEGIN, before COMMIT and after COMMIT of each transaction, and before
and after the effect.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

from forks import Job, serve

from power_loop import HumanInputRequired, StatefulAgentLoop, ToolRun, tool
from power_loop.store.sql_store import SessionStore
from power_loop.store.sqlite import SqliteDatabase
from power_loop.testing import FunctionLLM, call, calls
from power_loop.testing.invariants import check_invariants

SESSION = "s"


class Program:
    """One process."""

    def __init__(self, job: Job) -> None:
        self.job, self.folder, self.boundaries = job, Path(job["dir"]), 0

    def boundary(self, where: str) -> None:
        self.boundaries += 1
        if self.boundaries == self.job.get("die_at"):
            os.kill(os.getpid(), signal.SIGKILL)

    def tell(self, name: str, what: Any) -> None:
        with open(self.folder / f"{name}.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(what) + "\n")

    def tools(self) -> list[Any]:
        @tool(needs_approval=True, effects=self.job["effects"])
        async def pay(run: ToolRun, euros: int) -> str:
            """Pay."""
            self.boundary("before the effect")
            self.tell("paid", {"euros": euros, "key": run.idempotency_key})
            self.boundary("after the effect")
            return f"paid {euros}"

        @tool(effects="pure")
        async def ask(what: str) -> str:
            """Ask."""
            raise HumanInputRequired(f"Which {what}?")

        return [pay, ask]

    def answer(self, request: Any) -> Any:
        said = [message["content"] for message in request.messages if message["role"] == "tool"]
        return "so: " + " | ".join(said) if said else calls(call("pay", euros=5), call("ask", what="colour"))

    async def run(self) -> None:
        store = SessionStore(SqliteDatabase(self.folder / "app.db", faults=self.boundary), SqliteDatabase.dialect, "pl_")
        loop = StatefulAgentLoop(llm=FunctionLLM(self.answer), store=store, tools=self.tools())
        await self.goes_on(loop, store)
        await loop.aclose()
        await store.close()
        (self.folder / "boundaries").write_text(str(self.boundaries))

    async def goes_on(self, loop: StatefulAgentLoop, store: SessionStore) -> None:
        """All there is to do, from wherever the process before was killed: send, approve, answer, go on."""
        fresh = (await store.look(SESSION)).head == 0
        result = await loop.send("go", SESSION) if fresh else await loop.resume(SESSION)
        while result.status == "waiting_for_input":
            for approval in await loop.list_approvals(SESSION):
                self.tell("asked", {"id": approval.interaction_id, "digest": approval.digest})
                await loop.approve(SESSION, approval.interaction_id, digest=approval.digest, by=f"process {os.getpid()}")
            questions = [each for each in result.pending_interactions if each["kind"] == "text"]
            for question in questions:
                result = await loop.submit_input(SESSION, question["interaction_id"], "blue", key="k")
            result = result if questions else await loop.resume(SESSION)
        self.tell("ended", {"status": result.status, "text": result.final_text})
        self.tell("violations", await check_invariants(store, at_rest=True))


if __name__ == "__main__":
    serve(lambda job: asyncio.run(Program(job).run()))
