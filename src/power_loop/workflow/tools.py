"""The tools ``create_workflow`` and ``workflow_status``: a model writes a workflow, has it run, and looks how far it is.

What is wrong with a workflow comes back as a list that the model can repair it from; nothing is run then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from power_loop.contracts.children import Unreached
from power_loop.contracts.errors import SessionNotFoundError, StoreUnavailable, WorkflowRunError, WorkflowSpecError
from power_loop.contracts.log import log
from power_loop.contracts.tool import ToolDefinition, ToolHandlerResult, ToolRun
from power_loop.workflow.drive import WorkflowEngine
from power_loop.workflow.executors import Executor
from power_loop.workflow.inside import REFUSED, in_workflow, is_below_a_run
from power_loop.workflow.journal import driver_id
from power_loop.workflow.look import get_workflow, list_workflows
from power_loop.workflow.opening import Driving
from power_loop.workflow.results import WorkflowResult
from power_loop.workflow.rows import digest
from power_loop.workflow.run import Workflow
from power_loop.workflow.spec import WorkflowSpec
from power_loop.workflow.telling import end_text

SHOWN_RUNS = 20

GRAMMAR = """A workflow is {"name", "root": node, "input"?: text, "budget"?: {"max_tokens"}, "timeout_s"?: seconds, "max_leaves"?}.
A node is one of these, by "type":
- agent: {"type": "agent", "id", "spec": {"name", "system_prompt", "tools"?: [names of your tools], "max_rounds"?, "output_schema"?:
  {"name", "schema"}}, "input"?: text, "inputs_from"?: [ids], "output_schema"?, "retry"?: {"max_attempts": 2-5, "on"?, "backoff_s"?},
  "on_error"?: "halt"|"continue", "fallback"?: node}. Only agents do work; the others arrange them.
- sequence: {"type": "sequence", "steps": [node]}
- parallel: {"type": "parallel", "branches": [node], "max_concurrency"?: 1-64, "on_error"?}
- foreach: {"type": "foreach", "as": name, "items": [any] or "items_from": ref, "body": node, "parallel"?: bool,
  "max_concurrency"?: 1-64, "on_error"?}
- branch: {"type": "branch", "on": ref, "cases": {value: node}, "default"?: node}
- loop: {"type": "loop", "id", "body": node, "until": condition, "max_iterations"?: 1-100, "on_exhausted"?: "halt"|"continue"}
- human: {"type": "human", "id", "prompt", "kind"?: "text"|"confirm"|"choice", "options"?, "on_timeout"?: "halt"|"continue", "default"?}
Any node may have "id", "when": condition and "timeout_s". A ref is "id" or "id.key[0].key" of an earlier node; "items_from" needs a list,
so give that agent an output_schema. A condition is {"ref", "op": eq|ne|in|gt|ge|lt|le|truthy|falsy|exists, "value"?}, {"all"|"any":
[conditions]} or {"not": condition}. Inputs, system prompts and human prompts may hold {{input}}, {{id}}, {{id.key}}, a foreach's name."""

CREATE_WORKFLOW_DEFINITION = ToolDefinition(
    "create_workflow",
    f"Run a workflow of agents that you describe as JSON, and read what it came to. For work in several steps or on many items.\n{GRAMMAR}",
    {
        "type": "object",
        "properties": {
            "spec": {"type": ["object", "string"], "description": "The workflow"},
            "input": {"type": "string", "description": "What {{input}} stands for, instead of that of the workflow"},
            "detached": {"type": "boolean", "description": "Do not wait: you are told when it ends (default false)"},
        },
        "required": ["spec"],
        "additionalProperties": False,
    },
    effects="idempotent",
    parallel=True,
)
WORKFLOW_STATUS_DEFINITION = ToolDefinition(
    "workflow_status",
    "How far the workflows of this conversation are. With a run's id: its steps, what it waits for, its result.",
    {
        "type": "object",
        "properties": {
            "run_id": {"type": "string", "description": "Of one run; without it, all are listed"},
            "detail": {"type": "boolean", "description": "The result of every step, too (default false)"},
        },
        "additionalProperties": False,
    },
    effects="pure",
    parallel=True,
)


class Registry(Protocol):
    """Where tools are offered."""

    def register(self, definition: ToolDefinition, handler: Any, *, overwrite: bool = False) -> None: ...


def register_workflow_tools(registry: Registry, *, overwrite: bool = False, executor: Executor | None = None) -> None:
    """Offer ``create_workflow`` and ``workflow_status``; ``executor`` runs the leaves of what models write.

    Raises `ValueError` for a name that is taken, unless ``overwrite``.
    """

    async def create(run: ToolRun, spec: Any, input: str | None = None, detached: bool = False) -> ToolHandlerResult:
        return await create_workflow_tool(run, spec, input, detached, executor)

    registry.register(CREATE_WORKFLOW_DEFINITION, create, overwrite=overwrite)
    registry.register(WORKFLOW_STATUS_DEFINITION, workflow_status_tool, overwrite=overwrite)


async def create_workflow_tool(
    run: ToolRun, spec: Any, input: str | None = None, detached: bool = False, executor: Executor | None = None
) -> ToolHandlerResult:
    """The handler of ``create_workflow``. The same call again finds the run that it began."""
    loop: Any = run.loop
    store: Any = await loop.ensure_store()
    if in_workflow() or await is_below_a_run(store, run.session_id):
        return ToolHandlerResult(False, REFUSED)
    try:
        sound = WorkflowSpec.from_json(spec)
        workflow = Workflow(sound if input is None else replace(sound, input=input), loop, executor, None, run.session_id)
    except WorkflowSpecError as error:
        return ToolHandlerResult(False, problems_text(error))
    run_id = digest(run.idempotency_key)
    try:
        if detached:
            return await _detached(workflow, store, run_id)
        return _told(await _driven(workflow, store, run, run_id, executor))
    except StoreUnavailable as error:  # the run goes on when this call runs again
        raise Unreached(error) from error
    except (WorkflowRunError, ValueError) as error:
        return ToolHandlerResult(False, f"The workflow was not run: {error}")


async def _detached(workflow: Workflow, store: Any, run_id: str) -> ToolHandlerResult:
    if await _is_there(store, run_id):
        await workflow.call_for(run_id)  # whoever made it may have died before it did so
    else:
        (await workflow.detach(run_id)).task.add_done_callback(_broken_off)
    text = f"The workflow runs as {run_id}. You are told when it ends; workflow_status shows how far it is."
    return ToolHandlerResult(True, text, {"run_id": run_id})


def _broken_off(task: asyncio.Task[WorkflowResult]) -> None:
    """Nobody waits for a detached run; what it came to is in its journal."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("a detached run goes no further in this process: %s", error)


async def _driven(workflow: Workflow, store: Any, run: ToolRun, run_id: str, executor: Executor | None) -> WorkflowResult:
    engine = WorkflowEngine(run.loop)
    if await _is_there(store, run_id):
        result = await engine.drive(run_id, Driving("begin", executor=executor), run.cancel)
    else:
        result = await workflow.run_as(run_id, run.cancel)
    if result.status == "waiting_for_input":  # nobody is there any more when it ends, so it is to be told
        result = await engine.drive(run_id, Driving("resume", executor=executor, changed={"detached": True}), run.cancel)
    return result


async def _is_there(store: Any, run_id: str) -> bool:
    try:
        await store.look(driver_id(run_id))
    except SessionNotFoundError:
        return False
    return True


def _told(result: WorkflowResult) -> ToolHandlerResult:
    data: dict[str, Any] = {"run_id": result.run_id, "status": result.status}
    if result.status == "waiting_for_input":
        text = f"The workflow (run {result.run_id}) waits for a person. You are told when it ends; workflow_status shows what it waits for."
        return ToolHandlerResult(True, text, data)
    return ToolHandlerResult(result.status == "completed", end_text(result), data)


def problems_text(error: WorkflowSpecError) -> str:
    """What is wrong with a workflow, for the model that wrote it."""
    count = "1 problem" if len(error.problems) == 1 else f"{len(error.problems)} problems"
    said = f"The workflow was not run: it has {count}. Repair it and call create_workflow again."
    return "\n".join([said, *(f"- {problem}" for problem in error.problems)])


async def workflow_status_tool(run: ToolRun, run_id: str | None = None, detail: bool = False) -> ToolHandlerResult:
    """The handler of ``workflow_status``."""
    if run_id is None:
        found = await list_workflows(run.loop, run.session_id)
        lines = [f"{each['run_id']} {each['name']}: {each['status']}" for each in found[-SHOWN_RUNS:]]
        return ToolHandlerResult(True, "\n".join(lines) or "There are no workflows in this conversation.")
    try:
        one = await get_workflow(run.loop, run.session_id, run_id, detail=detail)
    except WorkflowRunError as error:
        return ToolHandlerResult(False, f"{error}. Call workflow_status without run_id to see them.")
    return ToolHandlerResult(True, status_text(one))


def status_text(one: Mapping[str, Any]) -> str:
    """One run, as a model reads it."""
    lines = [f"{one['run_id']} {one['name']}: {one['status']}"]
    lines += [f"- {path}: {', '.join(f'{count} {state}' for state, count in counts.items())}" for path, counts in one["progress"].items()]
    lines += [f"- waits for: {asked.get('prompt', '')}" for asked in one["waiting_for"]]
    lines += [f"- {each['node_id']}: {each['status']}: {each['error']}" for each in one["errors"][:10]]
    results: Mapping[str, Mapping[str, Any]] = one.get("result", {}).get("results", {})
    lines += [f"## {name}: {each['status']}\n{each['text'] or each['error'] or ''}" for name, each in results.items()]
    return "\n".join([*lines, str(one["final"])] if one.get("final") and not results else lines)
