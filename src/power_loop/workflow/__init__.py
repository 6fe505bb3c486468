"""The door to workflows: documents that say which agents run in which order, and runs of them that lose nothing.

Importing a name loads only its module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from power_loop.contracts.doors import door

if TYPE_CHECKING:
    from power_loop.contracts.agents import AgentSpec
    from power_loop.contracts.errors import WorkerBootstrapError, WorkflowRunError, WorkflowSpecError
    from power_loop.workflow.bootstrap import WorkerBootstrap
    from power_loop.workflow.budget import SharedBudget
    from power_loop.workflow.dask import DaskExecutor
    from power_loop.workflow.draw import mermaid
    from power_loop.workflow.drive import WorkflowEngine
    from power_loop.workflow.executors import Executor, InProcessExecutor
    from power_loop.workflow.grammar import workflow_schema
    from power_loop.workflow.inside import in_workflow
    from power_loop.workflow.isolated import run_spec_isolated
    from power_loop.workflow.launchers import BubblewrapLauncher, DirectWorkerLauncher, WorkerLauncher
    from power_loop.workflow.leaves import Change, Leaf
    from power_loop.workflow.look import delete_workflow, get_workflow, list_workflows, prune_workflows, rehydrate
    from power_loop.workflow.nodes import (
        AgentNode,
        BranchNode,
        ForeachNode,
        HumanNode,
        LoopNode,
        ParallelNode,
        Retry,
        SequenceNode,
        WorkflowBudget,
        WorkflowNode,
    )
    from power_loop.workflow.places import replayable_node_ids
    from power_loop.workflow.plan import Plan, ready
    from power_loop.workflow.results import AgentResult, WorkflowResult
    from power_loop.workflow.rows import Row, RunRow, StepRow, row_of
    from power_loop.workflow.run import (
        Workflow,
        WorkflowRunHandle,
        create_workflow,
        register_wake_guard,
        resume_detached,
        resume_run,
        run_detached,
    )
    from power_loop.workflow.spec import WorkflowSpec
    from power_loop.workflow.subprocess import SubprocessExecutor, cleanup_run, reap_runs
    from power_loop.workflow.tools import CREATE_WORKFLOW_DEFINITION, WORKFLOW_STATUS_DEFINITION, register_workflow_tools

__all__ = [
    "CREATE_WORKFLOW_DEFINITION",
    "WORKFLOW_STATUS_DEFINITION",
    "AgentNode",
    "AgentResult",
    "AgentSpec",
    "BranchNode",
    "BubblewrapLauncher",
    "Change",
    "DaskExecutor",
    "DirectWorkerLauncher",
    "Executor",
    "ForeachNode",
    "HumanNode",
    "InProcessExecutor",
    "Leaf",
    "LoopNode",
    "ParallelNode",
    "Plan",
    "Retry",
    "Row",
    "RunRow",
    "SequenceNode",
    "SharedBudget",
    "StepRow",
    "SubprocessExecutor",
    "WorkerBootstrap",
    "WorkerBootstrapError",
    "WorkerLauncher",
    "Workflow",
    "WorkflowBudget",
    "WorkflowEngine",
    "WorkflowNode",
    "WorkflowResult",
    "WorkflowRunError",
    "WorkflowRunHandle",
    "WorkflowSpec",
    "WorkflowSpecError",
    "cleanup_run",
    "create_workflow",
    "delete_workflow",
    "get_workflow",
    "in_workflow",
    "list_workflows",
    "mermaid",
    "prune_workflows",
    "ready",
    "reap_runs",
    "register_wake_guard",
    "register_workflow_tools",
    "rehydrate",
    "replayable_node_ids",
    "resume_detached",
    "resume_run",
    "row_of",
    "run_detached",
    "run_spec_isolated",
    "workflow_schema",
]

_HOMES = {
    "power_loop.contracts.agents": ("AgentSpec",),
    "power_loop.contracts.errors": ("WorkerBootstrapError", "WorkflowRunError", "WorkflowSpecError"),
    "power_loop.workflow.budget": ("SharedBudget",),
    "power_loop.workflow.subprocess": ("SubprocessExecutor", "cleanup_run", "reap_runs",),
    "power_loop.workflow.launchers": ("BubblewrapLauncher", "DirectWorkerLauncher", "WorkerLauncher",),
    "power_loop.workflow.isolated": ("run_spec_isolated",),
    "power_loop.workflow.bootstrap": ("WorkerBootstrap",),
    "power_loop.workflow.dask": ("DaskExecutor",),
    "power_loop.workflow.draw": ("mermaid",),
    "power_loop.workflow.drive": ("WorkflowEngine",),
    "power_loop.workflow.executors": ("Executor", "InProcessExecutor"),
    "power_loop.workflow.grammar": ("workflow_schema",),
    "power_loop.workflow.inside": ("in_workflow",),
    "power_loop.workflow.leaves": ("Change", "Leaf"),
    "power_loop.workflow.look": ("delete_workflow", "get_workflow", "list_workflows", "prune_workflows", "rehydrate"),
    "power_loop.workflow.nodes": (
        "AgentNode", "BranchNode", "ForeachNode", "HumanNode", "LoopNode", "ParallelNode", "Retry", "SequenceNode", "WorkflowBudget",
        "WorkflowNode",
    ),
    "power_loop.workflow.places": ("replayable_node_ids",),
    "power_loop.workflow.plan": ("Plan", "ready"),
    "power_loop.workflow.results": ("AgentResult", "WorkflowResult"),
    "power_loop.workflow.rows": ("Row", "RunRow", "StepRow", "row_of"),
    "power_loop.workflow.run": (
        "Workflow", "WorkflowRunHandle", "create_workflow", "register_wake_guard", "resume_detached", "resume_run", "run_detached",
    ),
    "power_loop.workflow.spec": ("WorkflowSpec",),
    "power_loop.workflow.tools": ("CREATE_WORKFLOW_DEFINITION", "WORKFLOW_STATUS_DEFINITION", "register_workflow_tools"),
}  # fmt: skip

__getattr__: Callable[[str], Any]
__dir__: Callable[[], list[str]]
__getattr__, __dir__ = door(__name__, _HOMES)
