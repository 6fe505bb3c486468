"""A process that talks: one session, sends with and without tools, posts; every word has a key, so it may be said again.

What was confirmed to the caller is written to the file ``acks``, batch by batch outcomes to ``batches.jsonl``, effects
to ``effects.jsonl``: what was written survives the process. A word that fails is said again, a few times.
Jobs: ``{"folder", "dsn", "verb": "talk" | "go on", ...}``; see `work`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from forks import Job, serve

import power_loop.store.sqlite_file as sqlite_file
from power_loop import AgentLoopConfig, RunPolicy, StatefulAgentLoop
from power_loop.contracts.errors import SessionLeaseLost, SessionNotFoundError, StoreUnavailable
from power_loop.contracts.model import LLMRequest, LLMResponse, LLMTokenUsage
from power_loop.contracts.records import Record
from power_loop.contracts.store import Append, Batch, Conflict, Database, Row
from power_loop.contracts.tool import Effects, ToolDefinition, ToolRun
from power_loop.store.open import open_database
from power_loop.store.sql_store import SessionStore
from power_loop.tools.toolbox import ToolRegistry
from proofs import faultfs, mutations
from proofs.facts import look_at

SESSION = "s"
TRIES = 3
# Small, so that a short talk has checkpoints and a log that begins anew.
CHECKPOINT_BYTES = 60_000

WORDS = ("one tools=2", "+between", "two", "three tools=1", "four", "+also", "five tools=2", "six")
"""What is said, in order; with a plus it is left in the inbox for the next send."""


class Watched(SessionStore):
    """A store that says what it told its caller of each batch."""

    tell: Callable[[str, dict[str, Any]], None]
    returned: asyncio.Event

    async def append(self, batch: Append) -> None:
        print_of = [[row.seq, batch.next.epoch, batch.take_id, row.cells.kind, row.cells.content, row.cells.call_id] for row in batch.rows]
        try:
            await self._told(super().append(batch), {"rows": print_of})
        finally:
            if any(row.cells.kind == "tool_returned" for row in batch.rows):
                self.returned.set()

    async def post(self, session_id: str, record: Record, *, key: str, **how: Any) -> bool:
        return await self._told(super().post(session_id, record, key=key, **how), {"item": key})

    async def _told(self, work: Awaitable[Any], what: dict[str, Any]) -> Any:
        outcome = "unknown"
        try:
            result = await work
            outcome = "written"
            return result
        except (Conflict, SessionNotFoundError):
            outcome = "refused"
            raise
        except StoreUnavailable as error:
            outcome = "unknown" if "nobody knows" in str(error) else "not written"
            raise
        finally:
            self.tell("batches", {**what, "outcome": outcome})


class Mortal:
    """A database whose process may be killed before a batch, while it is on its way, and once it is there."""

    def __init__(self, inner: Database, boundary: Callable[[], None]) -> None:
        self._inner, self._boundary = inner, boundary

    async def read(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        return await self._inner.read(sql, params)

    async def write(self, batch: Batch) -> None:
        self._boundary()
        writing = self._inner.write(batch)
        self._boundary()
        await writing
        self._boundary()

    async def close(self) -> None:
        await self._inner.close()


class Talker:
    """One process of it."""

    model, provider_name, capabilities = "talker", "tests", None

    def __init__(self, job: Job) -> None:
        self.folder, self.dsn, self.session = Path(job["folder"]), job["dsn"], job.get("session", SESSION)
        self.words: Sequence[str] = job.get("words", WORDS)
        self.lease_ttl_s: float = job.get("lease_ttl_s", 30.0)
        self.effects: Effects = job.get("effects", "once")
        self.tries: int = job.get("tries", TRIES)
        self.among_others: bool = job.get("among_others", False)
        self._die_at: int = job.get("die_at", 0)
        self._stop_at: Sequence[int] = job.get("stop_at", ())
        self.boundaries = 0
        self._returned = asyncio.Event()
        self._returned.set()
        self.acks = os.open(self.folder / "acks", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    # --- what it leaves outside -------------------------------------------------------------------------

    def tell(self, name: str, what: dict[str, Any]) -> None:
        with open(self.folder / f"{name}.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(what) + "\n")

    def acknowledge(self, verb: str, word: str) -> None:
        os.write(self.acks, f"{verb} {word}\n".encode())

    def boundary(self) -> None:
        self.boundaries += 1
        if self.boundaries == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.boundaries in self._stop_at:
            self.tell("stops", {"pid": os.getpid()})
            os.kill(os.getpid(), signal.SIGSTOP)

    # --- the model and the tool ------------------------------------------------------------------------

    async def complete(self, request: LLMRequest, **_: object) -> LLMResponse:
        self.boundary()
        begins = max(n for n, message in enumerate(request.messages) if message["role"] == "user")
        word = str(request.messages[begins]["content"])
        reply = LLMResponse(token_usage=LLMTokenUsage(prompt=5, completion=2, total=7))
        if "tools=" not in word or "tool_calls" in request.messages[-1] or request.messages[-1]["role"] == "tool":
            reply.content_text = f"heard {word}"
            return reply
        for n in range(int(word[-1])):
            function = {"name": "act", "arguments": json.dumps({"n": f"{word}.{n}"})}
            reply.tool_calls.append({"id": f"call_{n}", "type": "function", "function": function})
        return reply

    def tools(self) -> ToolRegistry:
        async def act(run: ToolRun, n: str) -> str:
            self.boundary()
            self.tell("effects", {"n": n, "key": run.idempotency_key, "effects": self.effects})
            self.boundary()
            # The second of two lands alone, behind the first: the boundaries are the same ones, however fast the disk is.
            if n.endswith(".0"):
                self._returned.clear()
            else:
                await self._returned.wait()
            return f"did {n}"

        tools = ToolRegistry()
        schema = {"type": "object", "properties": {"n": {"type": "string"}}, "required": ["n"]}
        tools.register(ToolDefinition("act", "act", schema, effects=self.effects, parallel=True), act)
        return tools

    # --- the talk ------------------------------------------------------------------------------------------

    async def talk(self) -> None:
        """Say every word, each until it is confirmed. Raises `StoreUnavailable` when one was refused several times."""
        store = await persistently(self.open_store)
        loop = self.loop(store)
        await self.say_all(store, loop)  # where that fails the process ends, and with it the proof that it lives
        await loop.aclose()
        await store.close()

    async def open_store(self) -> Watched:
        opened = await open_database(self.dsn)
        mortal = self._die_at or self._stop_at
        return Watched(Mortal(opened.database, self.boundary) if mortal else opened.database, opened.dialect, opened.prefix)

    def loop(self, store: Watched) -> StatefulAgentLoop:
        store.tell, store.returned = self.tell, self._returned
        config = AgentLoopConfig(running=RunPolicy(lease_ttl_s=self.lease_ttl_s))
        return StatefulAgentLoop(llm=self, store=store, tool_registry=self.tools(), config=config)

    async def say_all(self, store: Watched, loop: StatefulAgentLoop) -> None:
        await persistently(lambda: self._begin(store))
        self.acknowledge("session", self.session)
        for word in self.words:
            await persistently(lambda word=word: self._say(loop, word), self.tries)

    async def _begin(self, store: SessionStore) -> None:
        try:
            await store.create_session(session_id=self.session)
        except ValueError:
            await store.look(self.session)  # it was there already

    async def _say(self, loop: StatefulAgentLoop, word: str) -> None:
        if word.startswith("+"):
            await loop.enqueue(word[1:], self.session, key=word[1:])
            self.acknowledge("post", word[1:])
            return
        result = await loop.send(word, self.session, key=word, heal_pending=True)
        # Where others drive the session too, a send of ours that lost its lease was closed by whoever came next.
        assert result.status == "completed" or (self.among_others and result.status == "interrupted"), result
        self.acknowledge("send", word)

    def close(self) -> None:
        os.close(self.acks)


async def persistently(work: Callable[[], Awaitable[Any]], tries: int = TRIES) -> Any:
    """What a caller does whose word must arrive: the same again, a few times."""
    for _ in range(tries - 1):
        try:
            return await work()
        except (StoreUnavailable, SessionLeaseLost):
            continue
    return await work()


def work(job: Job) -> None:
    """``nth`` and ``action``: what the disk does (see `faultfs`); ``trace``: where to write what happened to the files;

    ``die_at``, ``stop_at``: at which boundaries of the program it is killed, or stops itself; ``mutation``: a fault of ours.
    """
    mutations.apply(job.get("mutation"))
    sqlite_file.CHECKPOINT_BYTES, sqlite_file.LOG_BYTES = CHECKPOINT_BYTES, 2 * CHECKPOINT_BYTES
    sqlite_file.COMMITS_A_LOOK = 1
    if job["verb"] == "go on":
        go_on(job)
        return
    if "action" in job:
        faultfs.watch(job["folder"], trace=job.get("trace", ""), nth=job.get("nth", 0), action=job["action"])
    talker = Talker(job)
    try:
        asyncio.run(talker.talk())
    except StoreUnavailable as error:
        talker.tell("gave_up", {"error": str(error)})
    (talker.folder / "boundaries.jsonl").write_text(str(faultfs.seen() if "action" in job else talker.boundaries))


def go_on(job: Job) -> None:
    """What the next process does, and what is found before and after."""
    folder, session, whole = Path(job["folder"]), job.get("session", SESSION), job.get("whole", False)
    found = [f"after the fault: {text}" for text in asyncio.run(look_at(folder, job["dsn"], session, whole=whole))]
    asyncio.run(Talker(job).talk())
    found += [f"after the next one: {text}" for text in asyncio.run(look_at(folder, job["dsn"], session, whole=whole, at_rest=True))]
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    serve(work)
