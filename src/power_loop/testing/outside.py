"""The world outside of a simulated conversation: what was paid for, what took effect. It outlives every process.

Its model and its tools stand at gaps, so that a process may die before and after each call. They hold every call
against the store: a reply that is stored is not paid for again, a result that is stored is not computed again.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from power_loop.context.window import Window
from power_loop.contracts.codec import from_cells
from power_loop.contracts.errors import HumanInputRequired, LLMError
from power_loop.contracts.model import LLMRequest, LLMResponse, LLMTokenUsage
from power_loop.contracts.tool import Effects, ToolDefinition, ToolRun
from power_loop.kernel.state import IDLE, State, apply
from power_loop.store.log import COLUMNS, to_row
from power_loop.testing.world import Process, SimulatedAgentLoop, World
from power_loop.tools.toolbox import ToolRegistry

# How a word asks for what the model shall do: tag, rounds of calls, calls a round, which tools.
PLAN = re.compile(r"(?P<tag>m\d+) rounds=(?P<rounds>\d+) calls=(?P<calls>\d+) tools=(?P<tools>[a-z,]+)(?: wrong=(?P<wrong>\d+))?")

# What a send may ask of its answer. The model gives so many wrong answers as the word says, then a right one.
FORM: dict[str, Any] = {"type": "object", "properties": {"tags": {"type": "array"}}, "required": ["tags"]}

TOOL_EFFECTS: dict[str, Effects] = {"once": "once", "again": "idempotent", "look": "pure", "ask": "once", "fails": "once"}
RESULT = "SELECT seq FROM {p}records WHERE session_id = ? AND call_id = ? AND kind = 'tool_returned'"
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "string"}}, "required": ["n"]}


class Outside:
    """What happened outside of every process."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.paid: defaultdict[str, list[str]] = defaultdict(list)
        """Request → the replies that were paid for it, by response id."""
        self.effects: Counter[tuple[str, str]] = Counter()
        """(tool, argument) → how often it took effect."""
        self.keys: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        """(tool, argument) → the idempotency keys that its calls came with."""

    def holds(self, process: Process, session_id: str) -> bool:
        """No other process took the session from this one meanwhile."""
        rows = self.world.look("SELECT holder FROM {p}sessions WHERE session_id = ?", session_id)
        return bool(rows) and rows[0][0] == process.name

    def stored_replies(self) -> set[str]:
        rows = self.world.look("SELECT body FROM {p}records WHERE kind = 'model_replied'")
        return {reply_id for (body,) in rows if (reply_id := json.loads(body).get("id")) is not None}


class Model:
    """Does what the last word's plan says, and notices when it is asked for what was paid for before."""

    model = "simulated"
    provider_name = "testing"
    capabilities = None

    def __init__(self, outside: Outside, process: Process, *, breaks: bool = False) -> None:
        self._outside, self._process, self._breaks = outside, process, breaks
        self.loop: SimulatedAgentLoop | None = None
        """The loop that asks; when it is known, what it believes is held against what is stored."""

    async def complete(self, request: LLMRequest, **callbacks: Any) -> LLMResponse:
        await self._process.gap("before_model")
        outside, world = self._outside, self._outside.world
        await self._compare(request)
        if self._breaks and world.chance.random() < 0.1:
            raise LLMError("the provider broke off")
        asked = json.dumps([request.messages, request.system_prompt], sort_keys=True)
        again = set(outside.paid[asked]) & outside.stored_replies()
        if again and request.session_id and outside.holds(self._process, request.session_id):
            world.violated(f"{request.session_id}: the reply {again} is stored and was paid for again")
        reply_id = f"reply{sum(map(len, outside.paid.values()))}"
        response = LLMResponse(token_usage=LLMTokenUsage(prompt=7, completion=3, total=10), response_id=reply_id)
        outside.paid[asked].append(reply_id)
        answer(request, response)
        await self._process.gap("after_model")
        return response

    async def _compare(self, request: LLMRequest) -> None:
        """A warm loop asks and knows what a cold one would: nothing but the records decides."""
        session_id, world = request.session_id or "", self._outside.world
        send = await self.loop.in_hand(session_id) if self.loop is not None else None
        if send is None or not self._outside.holds(self._process, session_id):
            return
        window, state = stored(world, session_id)
        if request.messages != window.messages:
            world.violated(f"{session_id}: P1 the request is not what the records say")
        if send.session.state != state:
            world.violated(f"{session_id}: P1 a warm loop believes {send.session.state}, the records amount to {state}")


def stored(world: World, session_id: str) -> tuple[Window, State]:
    """The window and the state that the stored records amount to."""
    window, state = Window(), IDLE
    for row in world.look(f"SELECT {COLUMNS} FROM {{p}}records WHERE session_id = ? ORDER BY seq", session_id):
        record_row = to_row(row)
        window.add(record_row)
        state = apply(state, from_cells(record_row.cells))
    return window, state


def answer(request: LLMRequest, response: LLMResponse) -> None:
    """The reply that follows from the request alone: tool calls while the plan has rounds left, then a text."""
    at = max(n for n, message in enumerate(request.messages) if message["role"] == "user" and message.get("name") != "schema")
    plans = list(PLAN.finditer(str(request.messages[at]["content"])))
    if not plans:
        response.content_text = "what?"
        return
    plan = plans[-1]
    done = sum("tool_calls" in message for message in request.messages[at:])
    if done >= int(plan["rounds"]) or request.tool_choice == "none":
        tags = [found["tag"] for found in plans]
        reasks = sum(message.get("name") == "schema" for message in request.messages[at:])
        is_right = request.response_format is not None and reasks >= int(plan["wrong"] or 0)
        response.content_text = json.dumps({"tags": tags}) if is_right else f"answer to {', '.join(tags)}"
        return
    tools = plan["tools"].split(",")
    for n in range(int(plan["calls"])):
        function = {"name": tools[(done + n) % len(tools)], "arguments": json.dumps({"n": f"{plan['tag']}.{done}.{n}"})}
        # Providers repeat ids over requests; telling calls apart is the loop's business.
        response.tool_calls.append({"id": f"call_{n}", "type": "function", "function": function})


def registry(outside: Outside, process: Process) -> ToolRegistry:
    """One tool of each effect class, one that asks a human, one that fails."""
    tools = ToolRegistry()
    for name, effects in TOOL_EFFECTS.items():
        tools.register(ToolDefinition(name, name, SCHEMA, effects=effects, parallel=True), handler(outside, process, name))
    return tools


def handler(outside: Outside, process: Process, name: str) -> Callable[..., Any]:
    async def run_it(run: ToolRun, n: str) -> str:
        await process.gap("before_effect")
        stored = outside.world.look(RESULT, run.session_id, run.call_id)
        if stored and outside.holds(process, run.session_id or ""):
            outside.world.violated(f"{run.session_id}: {name} {n} has its result at {stored} and runs again")
        outside.keys[name, n].add(run.idempotency_key)
        if name == "ask":
            raise HumanInputRequired(f"may {n} happen?")
        outside.effects[name, n] += 1
        await process.gap("after_effect")
        if name == "fails":
            raise ValueError(f"{n} cannot be done")
        return f"did {n}"

    return run_it
