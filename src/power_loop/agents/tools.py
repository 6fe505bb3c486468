"""The tools ``spawn_agent`` and ``run_agent``: a model gives a task away, and reads what came of it.

A sub-agent that waits for somebody parks the call; when that is answered, the call runs again and goes on with its child.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from power_loop.agents.above import asked_below, hand_down
from power_loop.agents.spawn import Under, run_under
from power_loop.context.prompt_builder import DEFAULT_SUBAGENT_SYSTEM_PROMPT
from power_loop.contracts.agents import MAX_ROUNDS, SPEC, AgentSpec, SubagentResult
from power_loop.contracts.children import CHILD, Unreached, child_id_of
from power_loop.contracts.errors import AgentSpecError, HumanInputRequired, StoreUnavailable, ToolNotFound
from power_loop.contracts.outcome import StatefulResult
from power_loop.contracts.tool import ToolDefinition, ToolHandlerResult, ToolRun
from power_loop.tools.toolbox import ToolRegistry

SPAWN_ROUNDS = 20
_TASK = {"type": "string", "minLength": 1, "description": "All that the sub-agent needs to know: it sees nothing of this conversation"}


def about_spawn(args: Mapping[str, Any], result: str | None) -> str:
    return _line("spawn_agent", str(args.get("task", "")), result)


def about_run(args: Mapping[str, Any], result: str | None) -> str:
    return _line("run_agent", str(args.get("input", "")), result)


def _line(name: str, task: str, result: str | None) -> str:
    said = f"{name}: {' '.join(task.split())[:120]}"
    return f"{said} → {result[:160]}" if result else said


SPAWN_AGENT_DEFINITION = ToolDefinition(
    "spawn_agent",
    "Give one self-contained task to a sub-agent with a conversation of its own, and read its final answer. Calls that stand in one "
    "reply run side by side.",
    {
        "type": "object",
        "properties": {
            "task": _TASK,
            "system_prompt": {"type": "string", "minLength": 1, "description": "Who the sub-agent is and how it works"},
            "tools": {"type": "array", "items": {"type": "string"}, "description": "Names of your tools that it may use; without it, all"},
            "max_rounds": {"type": "integer", "description": f"Model calls at most, 1 to {MAX_ROUNDS} (default {SPAWN_ROUNDS})"},
        },
        "required": ["task"],
        "additionalProperties": False,
    },
    project=about_spawn,
    effects="idempotent",
    parallel=True,
)
RUN_AGENT_DEFINITION = ToolDefinition(
    "run_agent",
    "Run an agent that you describe in full (prompt, tools, limits, form of the answer) on an input, and read its final answer.",
    {
        "type": "object",
        "properties": {"spec": SPEC.schema(), "input": _TASK},
        "required": ["spec", "input"],
        "additionalProperties": False,
    },
    project=about_run,
    effects="idempotent",
    parallel=True,
)


def register_spawn_agent(registry: ToolRegistry, *, include_run_agent: bool = True, overwrite: bool = False) -> None:
    """Offer ``spawn_agent``, and ``run_agent`` too, in ``registry``. Raises `ValueError` for a name that is taken, unless ``overwrite``."""
    registry.register(SPAWN_AGENT_DEFINITION, spawn_agent, overwrite=overwrite)
    if include_run_agent:
        registry.register(RUN_AGENT_DEFINITION, run_agent, overwrite=overwrite)


async def spawn_agent(
    run: ToolRun, task: str, system_prompt: str | None = None, tools: list[str] | None = None, max_rounds: int = SPAWN_ROUNDS
) -> ToolHandlerResult:
    """The handler of ``spawn_agent``."""
    rounds = min(max(max_rounds, 1), MAX_ROUNDS)
    try:
        spec = AgentSpec("sub-agent", system_prompt or DEFAULT_SUBAGENT_SYSTEM_PROMPT, tools, rounds)
    except AgentSpecError as error:
        return ToolHandlerResult(False, f"{error}. Nothing was run.")
    note = f"[max_rounds {max_rounds} was changed to {rounds}: 1 to {MAX_ROUNDS} are allowed]\n" if rounds != max_rounds else ""
    return await _answer(run, spec, task, note)


async def run_agent(run: ToolRun, spec: dict[str, Any], input: str) -> ToolHandlerResult:
    """The handler of ``run_agent``."""
    try:
        agent = AgentSpec.from_dict(spec)
    except AgentSpecError as error:
        return ToolHandlerResult(False, f"{error}. Nothing was run.")
    return await _answer(run, agent, input, "")


async def _answer(run: ToolRun, spec: AgentSpec, task: str, note: str) -> ToolHandlerResult:
    try:
        return await _followed(run, spec, task, note)
    except StoreUnavailable as error:  # the sub-agent goes on when this call runs again, and its answer is not lost
        raise Unreached(error) from error


async def _followed(run: ToolRun, spec: AgentSpec, task: str, note: str) -> ToolHandlerResult:
    if not task.strip():  # no session is made for it
        return ToolHandlerResult(False, "The task is blank: say all that the sub-agent needs to know. Nothing was run.")
    under = Under.call(run)
    for heard in run.answered:
        await hand_down(under.loop, heard.get("state") or {}, heard.get("answer"), f"from:{run.idempotency_key}")
    try:
        result = await run_under(under, spec, task)
    except ToolNotFound as error:
        return ToolHandlerResult(False, f"{error}. Nothing was run.")
    if result.status == "waiting_for_input":
        raise await _question(under, result)
    return ToolHandlerResult(result.status == "completed", note + text_of(result), _data(result))


async def _question(under: Under, result: SubagentResult) -> HumanInputRequired:
    """What the child waits for, as a question of this call."""
    child_id = result.session_id or child_id_of(under.parent_session_id or "", under.key or "")
    below = await asked_below(under.loop, child_id, "A sub-agent")
    metadata = {**below.metadata, CHILD: child_id, "needs_approval": below.needs_approval}
    return HumanInputRequired(below.prompt, kind=below.kind, options=below.options or None, metadata=metadata, state=below.state)


def text_of(result: SubagentResult | StatefulResult) -> str:
    """What the parent's model reads."""
    if result.status == "completed":
        return result.final_text
    said = result.final_text or (result.error or {}).get("message", "") or "It left no text."
    return f"[sub-agent status={result.status}]\n{said}"


def _data(result: SubagentResult) -> dict[str, Any]:
    told = {"session_id": result.session_id, "status": result.status, "rounds": result.rounds, "usage": dict(result.usage)}
    return told if result.output is None else {**told, "output": result.output}
