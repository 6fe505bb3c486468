"""A small agent program that kills itself at a boundary; a job is ``{"dir", "verb", "effects", "die_at", ...}``.

A boundary is before BEGIN, before COMMIT and after COMMIT of each transaction, and before and after each model call
and each effect. ``die_at`` is the number of one, from 1; a process that does not die leaves the number of all.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import sqlite3
import threading
from pathlib import Path

from forks import Job, serve

from power_loop import StatefulAgentLoop
from power_loop.contracts.model import LLMRequest, LLMResponse, LLMTokenUsage
from power_loop.contracts.tool import ToolDefinition, ToolRun
from power_loop.store import sqlite_worker
from power_loop.store.sql_store import SessionStore
from power_loop.store.sqlite import SqliteDatabase
from power_loop.testing.invariants import check_invariants
from power_loop.tools.toolbox import ToolRegistry

SESSION, PREFIX = "s", "pl_"
TOOL_ROUNDS, CALLS = 2, 2


class Program:
    """One process: its job, its boundaries, and what it leaves behind outside of the database."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.folder = Path(job["dir"])
        self.boundaries = 0

    def boundary(self, where: str) -> None:
        of_a_crowd = self.job["verb"] == "crowd"
        if of_a_crowd and threading.current_thread() is threading.main_thread():
            return  # it dies at its commits, of which it has few
        self.boundaries += 1
        if self.boundaries == self.job.get("die_at"):
            if of_a_crowd:
                self.let_all_hear()
            self.tell("deaths", {"where": where})
            os.kill(os.getpid(), signal.SIGKILL)

    def let_all_hear(self) -> None:
        """Whoever was told something by now goes on with it first."""
        heard = threading.Event()
        self.event_loop.call_soon_threadsafe(heard.set)
        heard.wait(30)

    def tell(self, name: str, what: dict) -> None:
        """Add a line to a file of the outside world; what was written survives the process."""
        with open(self.folder / f"{name}.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(what) + "\n")

    # --- the model and the tool ------------------------------------------------------------------------

    async def complete(self, request: LLMRequest, **callbacks: object) -> LLMResponse:
        self.boundary("before the model")
        begins = max(n for n, message in enumerate(request.messages) if message["role"] == "user")
        done = sum("tool_calls" in message for message in request.messages[begins:])
        reply = LLMResponse(token_usage=LLMTokenUsage(prompt=5, completion=2, total=7))
        if done == self.job.get("rounds", TOOL_ROUNDS):
            reply.content_text = f"done: {request.messages[begins]['content']}"
        for n in range(CALLS if done < self.job.get("rounds", TOOL_ROUNDS) else 0):
            function = {"name": "act", "arguments": json.dumps({"n": f"{done}.{n}"})}
            reply.tool_calls.append({"id": f"call_{n}", "type": "function", "function": function})
        self.tell("model", {"messages": len(request.messages), "last": request.messages[-1]})
        if "in_turn_with" in self.job:
            await self.somebody_waits()
        self.boundary("after the model")
        return reply

    model, provider_name, capabilities = "crash", "tests", None

    def tools(self) -> ToolRegistry:
        async def act(run: ToolRun, n: str) -> str:
            self.boundary("before the effect")
            self.tell("effects", {"n": n, "key": run.idempotency_key})
            self.boundary("after the effect")
            if n == "0.1" and self.job["verb"] == "send":
                await self.something_is_returned()
            return f"did {n}"

        tools = ToolRegistry()
        schema = {"type": "object", "properties": {"n": {"type": "string"}}, "required": ["n"]}
        tools.register(ToolDefinition("act", "act", schema, effects=self.job.get("effects"), parallel=True), act)
        return tools

    async def something_is_returned(self) -> None:
        """Wait for the first result in the store, so that the second call of the first round lands alone, in each run alike."""
        await self.until_stored(f"SELECT 1 FROM {PREFIX}records WHERE kind = 'tool_returned'")

    async def somebody_waits(self) -> None:
        """Until the other one stands in line, or has nothing left to say: then who is next does not depend on who is faster."""
        last = f"{self.job['in_turn_with']}{self.job['count'] - 1}"
        waits = f"SELECT 1 FROM {PREFIX}waiters UNION SELECT 1 FROM {PREFIX}records WHERE kind = 'model_replied' AND content = ?"
        await self.until_stored(waits, f"done: {last}")

    async def until_stored(self, sql: str, *params: str) -> None:
        """Wait until the database, as another connection sees it, has a row for ``sql``."""
        reader = sqlite3.connect(f"file:{self.folder / 'app.db'}?mode=ro", uri=True)
        while not reader.execute(sql, params).fetchone():
            await asyncio.sleep(0.0005)
        reader.close()

    # --- verbs ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        self.event_loop = asyncio.get_running_loop()
        database = SqliteDatabase(self.folder / "app.db", faults=self.boundary)
        store = SessionStore(database, SqliteDatabase.dialect, PREFIX)
        loop = StatefulAgentLoop(llm=self, store=store, tool_registry=self.tools())
        self.tell("holders", {"holder": loop._verbs.holder, "pid": os.getpid()})
        await getattr(self, self.job["verb"])(loop)
        await loop.aclose()
        await store.close()
        (self.folder / "boundaries").write_text(str(self.boundaries))

    async def send(self, loop: StatefulAgentLoop) -> None:
        result = await loop.send("go", SESSION)
        assert (result.status, result.final_text) == ("completed", "done: go"), result

    async def go_on(self, loop: StatefulAgentLoop) -> None:
        """What a supervisor does with a session whose process died."""
        store = await loop.ensure_store()
        if (await store.look(SESSION)).head == 0:
            await self.send(loop)
        else:
            result = await loop.resume(SESSION)
            assert (result.status, result.final_text) == ("completed", "done: go"), result
        self.tell("violations", {"found": await check_invariants(store, at_rest=True)})

    async def send_many(self, loop: StatefulAgentLoop) -> None:
        for n in range(self.job["count"]):
            text = f"{self.job['name']}{n}"
            result = await loop.send(text, SESSION)
            assert (result.status, result.final_text) == ("completed", f"done: {text}"), result
            self.tell("sent", {"text": text, "send_index": result.send_index})

    async def crowd(self, loop: StatefulAgentLoop) -> None:
        """So many at once that one half is written while the other goes on, however slow the disk is."""
        sqlite_worker.QUICK_S = math.inf
        sessions = [await loop.new_session() for _ in range(3 * sqlite_worker.CROWD)]

        async def talk(session: str) -> None:
            for n in range(self.job["count"]):
                await loop.send(str(n), session)
                self.tell("sent", {"session": session, "n": n})

        await asyncio.gather(*map(talk, sessions))

    async def after_the_crowd(self, loop: StatefulAgentLoop) -> None:
        """Whoever comes next finds each session in order, and can talk to it."""
        store = await loop.ensure_store()
        for session in {told["session"] for told in self.job["sent"]}:
            result = await loop.send("again", session, heal_pending=True)
            assert result.status == "completed", result
        self.tell("violations", {"found": await check_invariants(store)})


if __name__ == "__main__":
    serve(lambda job: asyncio.run(Program(job).run()))
