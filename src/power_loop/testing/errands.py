"""The other scenario that this package is held against: timers, detached workflows, and sends that keep books, while things go wrong.

Clients in several processes set timers, begin workflows and send words whose tool runs a workflow, or leaves a word for a
session; workers fire, drive and recover. At rest each timer that fired was heard once for each firing, each run has come to
its end and told its parent once, no leaf whose reply was stored was paid for again, what a tool left was heard once where its
result is stored and never where it is not, and every ledger adds up.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from power_loop.config import AgentLoopConfig, RunPolicy
from power_loop.contracts.messages import text_of
from power_loop.contracts.model import LLMRequest, LLMResponse, LLMTokenUsage
from power_loop.contracts.records import ToolReturned, UserSaid
from power_loop.contracts.tool import ToolDefinition, ToolRun
from power_loop.contracts.usage import UsageLimits
from power_loop.loop import StatefulAgentLoop
from power_loop.runtime.budget import budget_of
from power_loop.testing.clients import Deed, client
from power_loop.testing.faults import AN_HOUR_S
from power_loop.testing.invariants import check_invariants
from power_loop.testing.verdict import records_of
from power_loop.testing.world import NoFaults, Process, World
from power_loop.tools.toolbox import ToolRegistry
from power_loop.worker import Worker
from power_loop.workflow.look import list_workflows
from power_loop.workflow.run import create_workflow, run_detached
from power_loop.workflow.tools import register_workflow_tools

LEASE_S = 0.3
LOOKS_AT_REST = 30


class Errands:
    """One story: what was begun, and what it must come to."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sessions: list[str] = []
        self.count: int = 0
        self.paid: Counter[str] = Counter()
        self.runs: dict[str, str] = {}
        """Tag → parent, of every detached run that a caller was told has begun."""
        self.timers: dict[int, str] = {}
        """Id → session, of every timer that a caller was told is set."""
        world.story = self

    def tag(self) -> str:
        self.count += 1
        return f"e{self.count}"

    def agent(self, process: Process) -> StatefulAgentLoop:
        registry = ToolRegistry()
        register_workflow_tools(registry)
        registry.register(LEAVE, leaving(process))
        config = AgentLoopConfig(running=RunPolicy(lease_ttl_s=LEASE_S, cancel_grace_s=0.05), limits=UsageLimits(total_tokens=10**9))
        return process.agent(Leaves(self, process), config=config, tool_registry=registry)


class Leaves:
    """The model of parents and of leaves; it notices when a leaf is asked whose answer is stored."""

    model = "simulated"
    provider_name = "testing"
    capabilities = None

    def __init__(self, errands: Errands, process: Process) -> None:
        self._errands, self._process = errands, process

    async def complete(self, request: LLMRequest, **callbacks: Any) -> LLMResponse:
        await self._process.gap("before_model")
        text, response = str(request.messages[-1]["content"]), LLMResponse(token_usage=LLMTokenUsage(prompt=7, completion=3, total=10))
        said = text.split() if request.messages[-1]["role"] == "user" else [""]
        if said[0] == "run":
            response.tool_calls = [asking("create_workflow", {"spec": fan(said[1], 2)})]
        elif said[0] == "leave":
            response.tool_calls = [asking("leave", {"tag": said[1], "to": said[2]})]
        else:
            response.content_text = f"<{text[:60]}>"
            if text.startswith("leaf "):
                self._pay(text, request.session_id or "")
        await self._process.gap("after_model")
        return response

    def _pay(self, text: str, session_id: str) -> None:
        world = self._errands.world
        rows = world.look("SELECT holder FROM {p}sessions WHERE session_id = ?", session_id)
        stored = world.look("SELECT session_id FROM {p}records WHERE content = ? AND kind = 'model_replied'", f"<{text}>")
        journaled = world.look("SELECT seq FROM {p}records WHERE kind = 'step_changed' AND body LIKE ?", f'%"text":"<{text}>"%')
        # Where the database was away, leaves fail, and what failed is tried again.
        if rows and rows[0][0] == self._process.name and (stored or journaled) and not world.database_was_away:
            world.violated(f"{session_id}: the answer to {text!r} is stored and was paid for again")
        self._errands.paid[text] += 1


def asking(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"id": "c", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


LEFT = re.compile(r"left (e\d+)\.")
TEXT = {"type": "string"}
LEAVE = ToolDefinition("leave", "", {"type": "object", "properties": {"tag": TEXT, "to": TEXT}}, ("tag", "to"), effects="idempotent")


def leaving(process: Process) -> Callable[..., Any]:
    async def leave(run: ToolRun, tag: str, to: str) -> str:
        await process.gap("before_effect")
        await run.enqueue(f"left {tag}.", to)
        await process.gap("after_effect")
        return tag

    return leave


def fan(tag: str, count: int) -> dict[str, Any]:
    """A workflow of ``count`` leaves side by side, and one that puts them together."""
    leaf: dict[str, Any] = {"type": "agent", "spec": {"name": "leaf", "system_prompt": "You work.", "tools": []}}
    body = {**leaf, "id": "one", "input": f"leaf {tag} {{{{n}}}}"}
    fan = {"type": "foreach", "id": "fan", "as": "n", "items": list(range(count)), "body": body, "max_concurrency": 2}
    return {"name": tag, "root": {"type": "sequence", "steps": [fan, {**leaf, "id": "sum", "input": f"leaf {tag} sum {{{{fan}}}}"}]}}


# --- clients ---------------------------------------------------------------------------------------------


async def errands(world: World) -> None:
    """Run errands while faults strike; then let everything come to rest, and look."""
    faults, world.faults = world.faults, NoFaults()
    story, chance = Errands(world), world.chance
    first = story.agent(world.process())
    story.sessions = [await first.new_session(session_id=f"s{n}") for n in range(2)]
    world.faults = faults
    await asyncio.gather(*(client(story, DEEDS, chance.randint(2, 4), PAUSES_S) for _ in range(chance.randint(1, 3))))
    world.faults = NoFaults()
    # What was set while the clock was an hour ahead is due an hour later.
    await asyncio.sleep(2 * AN_HOUR_S)
    await _rest(story)
    for text in await _verdict(story):
        world.violated(text)


async def set_timer(story: Errands, loop: StatefulAgentLoop, session_id: str) -> None:
    chance = story.world.chance
    every = chance.choice((None, None, 1.0))
    timer = await loop.schedule_timer(session_id, delay_s=chance.uniform(0.0, 1.0), note="look", interval_s=every)
    story.timers[timer.timer_id] = session_id


async def begin_run(story: Errands, loop: StatefulAgentLoop, session_id: str) -> None:
    tag = story.tag()
    handle = await run_detached(create_workflow(fan(tag, story.world.chance.randint(1, 3)), parent_loop=loop, parent_session_id=session_id))
    story.runs[tag] = session_id
    await handle.task


async def send_a_run(story: Errands, loop: StatefulAgentLoop, session_id: str) -> None:
    await loop.send(f"run {story.tag()}", session_id, heal_pending=True)


async def send_a_word_to_leave(story: Errands, loop: StatefulAgentLoop, session_id: str) -> None:
    await loop.send(f"leave {story.tag()} {story.world.chance.choice(story.sessions)}", session_id, heal_pending=True)


async def work(story: Errands, loop: StatefulAgentLoop, session_id: str) -> None:
    await Worker(loop, concurrency=2).run_once()


PAUSES_S = (0.0, 0.05, 0.3)
DEEDS: tuple[Deed[Errands], ...] = (set_timer, begin_run, begin_run, send_a_run, send_a_word_to_leave, send_a_word_to_leave, work, work)


# --- rest --------------------------------------------------------------------------------------------------


async def _rest(story: Errands) -> None:
    """A worker that nothing happens to, until there is nothing to do; recurring timers are set no more."""
    process = story.world.process("rest")
    loop = story.agent(process)
    for session_id in story.sessions:
        for timer in await loop.list_timers(session_id):
            if timer.interval_s is not None:
                await loop.cancel_timer(session_id, timer.timer_id)
    await _work_on(loop)
    for session_id in story.sessions:
        await loop.resume(session_id)
        for run in await list_workflows(loop, session_id):
            if run["name"] not in story.runs:  # nobody was told of it, or its call was given up: whoever wants to may go on
                await loop.resume(run["session_id"])
    await _work_on(loop)
    await loop.aclose()


async def _work_on(loop: StatefulAgentLoop) -> None:
    for _ in range(LOOKS_AT_REST):
        await Worker(loop).run_once()
        await asyncio.sleep(2.0)


async def _verdict(story: Errands) -> Iterable[str]:
    world, store = story.world, story.world.onlooker()
    # Where the database was away, leaves fail, and those beside them are cut off for good.
    wrong = await check_invariants(store, at_rest=not world.database_was_away)
    looking = story.agent(world.process("looking"))
    for session_id in story.sessions:
        said = [text_of(record.content) for _, record in records_of(world, session_id) if isinstance(record, UserSaid)]
        heard = "\n".join(said)
        runs = await list_workflows(looking, session_id)
        for run in runs:
            told = heard.count(f"(run {run['run_id']}) ended")
            ended = ("completed", "failed") if world.database_was_away else ("completed",)
            if run["name"] in story.runs and not (run["status"] in ended and told == 1):
                wrong.append(f"{session_id}: the run {run['name']} stands {run['status']}, and its parent was told {told} times")
        missing = {tag for tag, parent in story.runs.items() if parent == session_id} - {run["name"] for run in runs}
        wrong += [f"{session_id}: the run {tag} was begun and is gone" for tag in sorted(missing)]
        for timer in await looking.list_timers(session_id):
            times = heard.count(f"<timer id={timer.timer_id}>")
            if times != timer.fire_count or (timer.interval_s is None and times != 1):
                wrong.append(f"{session_id}: timer {timer.timer_id} fired {timer.fire_count} times and was heard {times} times")
        wrong += await _books(store, session_id)
    await looking.aclose()
    return [*wrong, *_left(story)]


def _left(story: Errands) -> Iterable[str]:
    """What tools left is heard once for each result that is stored, and never without one."""
    records = [record for session_id in story.sessions for _, record in records_of(story.world, session_id)]
    heard = Counter(tag for record in records if isinstance(record, UserSaid) for tag in LEFT.findall(text_of(record.content)))
    told = Counter(
        record.output for record in records if isinstance(record, ToolReturned) and (record.name, record.outcome) == ("leave", "ok")
    )
    for tag in sorted(heard.keys() | told.keys()):
        if heard[tag] != told[tag] or told[tag] > 1:
            yield f"{tag} was left {heard[tag]} times, by {told[tag]} calls whose result is stored"


async def _books(store: Any, session_id: str) -> list[str]:
    """What the last send's ledger says is what its calls say, one by one; and nothing is reserved any more."""
    budget = await budget_of(store, session_id)
    wrong = [f"{session_id}: {budget['reserved']} is still reserved"] if any(budget["reserved"].values()) else []
    ledger = next(iter(await store.ledgers([f"{session_id}/{(await store.look(session_id)).send_index}"])), None)
    if ledger is not None and ledger.limits:
        counted, listed = ledger.spent.by_limit(), budget["spent"]
        differing = [name for name in ("requests", "input_tokens", "output_tokens") if counted[name] != listed[name]]
        wrong += [f"{session_id}: the ledger counts {counted[name]} {name}, its lines {listed[name]}" for name in differing]
    return wrong
