"""A process that drives a detached workflow, and fires a timer of its parent, dies at one commit after the other; workers go on.

Whatever it was, the run comes to the same end, its parent hears of that once and of the timer once, no leaf is asked again
whose answer is stored, and nothing is left that holds or waits.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Any

from power_loop import AgentLoopConfig, RunPolicy, StatefulAgentLoop, Worker
from power_loop.contracts.model import LLMRequest
from power_loop.store.sql_store import SessionStore
from power_loop.testing import Died, DyingStore, FunctionLLM
from power_loop.testing.invariants import check_invariants
from power_loop.workflow import create_workflow, list_workflows, run_detached
from proofs.stores import ready
from proofs.suite import Suite

# The dead one's lease is waited for in real time: on a server nobody else's clock counts.
SHORT = AgentLoopConfig(running=RunPolicy(lease_ttl_s=0.3))
PATIENCE_S = 30.0
NEVER = 1_000_000

LEAF = {"name": "leaf", "system_prompt": "You are a leaf.", "tools": []}
SPEC: dict[str, Any] = {
    "name": "runs", "root": {"type": "sequence", "steps": [
        {
            "type": "foreach", "id": "fan", "as": "n", "items": [0, 1, 2], "max_concurrency": 2,
            "body": {"type": "agent", "id": "one", "spec": LEAF, "input": "item {{n}}"},
        },
        {"type": "agent", "id": "sum", "spec": LEAF, "input": "sum of {{fan}}"},
    ]},
}  # fmt: skip
FINAL = "<sum of <item 0>\n\n<item 1>\n\n<item 2>>"
LEAVES = 4
STORED = """SELECT COUNT(*) FROM pl_records asked JOIN pl_records told ON told.session_id = asked.session_id
 WHERE asked.kind = 'user_said' AND asked.content = '{text}' AND told.kind = 'model_replied'"""


class Runs(Suite):
    """A case is (the commit, before or after it)."""

    def __init__(self, engine: str) -> None:
        self.name, self._engine = f"runs and timers, {engine}", engine

    def open(self, stack: ExitStack) -> None:
        self._it = stack.enter_context(ready(self._engine))
        # What the tasks of a dead process say is heard by nobody.
        self._it.runner.get_loop().set_exception_handler(lambda *_: None)
        undisturbed = Story(self._it.store, DyingStore(self._it.store, NEVER))
        wrong = self._it.runner.run(undisturbed.wrong())
        assert not wrong, wrong
        self._commits = undisturbed.dying.dying.commits

    def cases(self) -> list[tuple[int, str]]:
        return [(at, when) for at in range(1, self._commits + 1) for when in ("before", "after")]

    def run(self, case: tuple[int, str]) -> list[str]:
        at, when = case
        return self._it.runner.run(Story(self._it.store, DyingStore(self._it.store, at, "before" if when == "before" else "after")).wrong())


class Story:
    """One parent, its run and its timer."""

    def __init__(self, store: SessionStore, dying: DyingStore) -> None:
        self.store, self.dying = store, dying
        self.ran: set[str] = set()
        self.paid_again: list[str] = []

    async def _answer(self, request: LLMRequest) -> str:
        text = str(request.messages[-1]["content"])
        if "You are a leaf." in str(request.system_prompt):
            self.ran.add(text)
            if (await self.store.database.read(STORED.format(text=text)))[0][0]:
                self.paid_again.append(text)
        return f"<{text}>"

    def _loop(self, store: SessionStore) -> StatefulAgentLoop:
        return StatefulAgentLoop(llm=FunctionLLM(self._answer), store=store, config=SHORT)

    async def wrong(self) -> list[str]:
        """What is not as it should be once all is at rest."""
        async with self._loop(self.store) as heir:
            parent = await heir.new_session()
            begun = await self._first(parent)
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self._to_rest(heir, parent, begun)
            except TimeoutError:
                return [f"it does not come to rest: {await list_workflows(heir, parent)}"]
            found = await self._compared(heir, parent, begun)
            await heir.close_session(parent)
            return found

    async def _first(self, parent: str) -> bool:
        """What the process does that dies; whether its caller was told that the run is begun."""
        loop, begun = self._loop(self.dying), False
        try:
            await loop.schedule_timer(parent, delay_s=0, note="tick")
            wf = create_workflow(SPEC, parent_loop=loop, parent_session_id=parent)
            handle = await run_detached(wf)
            begun = True
            await handle.task
            await Worker(loop).run_once()
            await loop.aclose(drain_timeout_s=1)
        except Died:
            pass
        return begun

    async def _to_rest(self, heir: StatefulAgentLoop, parent: str, begun: bool) -> None:
        while not await self._rests(heir, parent, begun):
            await Worker(heir).run_once()
            await asyncio.sleep(0.02)

    async def _rests(self, heir: StatefulAgentLoop, parent: str, begun: bool) -> bool:
        runs = await self._runs(heir, parent)
        if any(run["status"] != "completed" for run in runs) or (begun and not runs):
            return False
        due = await self.store.list_timers(parent)
        return not due and not await self.store.inbox(parent) and (await self.store.look(parent)).holder is None

    async def _runs(self, heir: StatefulAgentLoop, parent: str) -> list[dict[str, Any]]:
        """Those that were begun: of a run whose process died before its first word nobody was told."""
        runs = await list_workflows(heir, parent)
        return [run for run in runs if (await self.store.look(run["session_id"])).head or await self.store.inbox(run["session_id"])]

    async def _compared(self, heir: StatefulAgentLoop, parent: str, begun: bool) -> list[str]:
        wrong = await self._told(heir, parent)
        if self.paid_again:
            wrong.append(f"paid again, although the answer is stored: {self.paid_again}")
        if begun and len(self.ran) != LEAVES:
            wrong.append(f"these leaves ran: {sorted(self.ran)}")
        return wrong + [str(each) for each in await check_invariants(self.store, at_rest=True)]

    async def _told(self, heir: StatefulAgentLoop, parent: str) -> list[str]:
        """What the parent was told too often, or not at all."""
        said = "\n".join(str(each["content"]) for each in await heir.get_messages(parent) if each["role"] == "user")
        ended, ticks = said.count(f"ended: completed]\n{FINAL}"), said.count(">tick</timer>")
        runs, timers = await self._runs(heir, parent), await self.store.list_timers(parent, statuses=("fired",))
        as_it_should_be = ended == len(runs) and ticks == len(timers)
        return [] if as_it_should_be else [f"{len(runs)} runs, {len(timers)} timers, and the parent was told {said!r}"]
