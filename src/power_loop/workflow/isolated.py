"""Running one leaf with nothing but a bootstrap and a database file of its own: in a worker process, or on a machine of a cluster."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import Any

from power_loop.contracts.agents import AgentSpec, ChildRun
from power_loop.contracts.cancel import CancellationLike, CancellationToken
from power_loop.contracts.errors import SessionNotFoundError, WorkerBootstrapError
from power_loop.loop import StatefulAgentLoop
from power_loop.providers.open import create_llm_service_from_env
from power_loop.tools.presets import create_default_tool_registry
from power_loop.tools.toolbox import ToolRegistry
from power_loop.workflow.bootstrap import DEFAULT_PREFIX, FALLBACK_PREFIX, WorkerBootstrap, place_of, workspace_of
from power_loop.workflow.inside import INSIDE


async def run_spec_isolated(
    spec: AgentSpec, user_input: str, *, bootstrap: WorkerBootstrap, db_path: str, key: str | None = None,
    stop_event: CancellationLike = None, workspace_dir: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Run ``spec`` on ``user_input`` with a loop of its own on the SQLite file ``db_path``; what an executor tells.

    The same ``key`` on the same file finds the work that was begun. Raises `WorkerBootstrapError`, `ToolNotFound` and what a send raises.
    """
    INSIDE.set(True)
    db_path = place_of(db_path)
    registry = _registry(bootstrap, workspace_of(bootstrap, db_path, workspace_dir))
    chosen = registry.subset(registry.names() if spec.tools is None else spec.tools)
    token = CancellationToken.from_any(stop_event)
    async with StatefulAgentLoop(llm=_model(bootstrap), db_path=db_path, tool_registry=registry, name=spec.name) as loop:
        session_id = "sess_" + hashlib.sha256((key or os.urandom(12).hex()).encode()).hexdigest()[:24]
        store = await loop.ensure_store()
        try:
            await store.get_session(session_id)
        except SessionNotFoundError:
            await store.create_session(session_id=session_id, system_prompt=spec.system_prompt, metadata=spec.metadata, agent=loop.name)
        child = ChildRun(session_id, "spawn", spec, user_input, chosen, 1, None)
        result = await _cut_by(token, loop.drivers.run_child(child))  # type: ignore[attr-defined]  # the loop's drivers are its verbs
    return {
        "status": result.status, "final_text": result.final_text, "output": result.output, "usage": dict(result.usage),
        "session_id": session_id, "error": result.error, "db_path": db_path,
    }  # fmt: skip


async def _cut_by(token: CancellationToken, work: Any) -> Any:
    """``work``, cut off by a stop: its session stays as one that can go on."""
    task, watching = asyncio.ensure_future(work), asyncio.ensure_future(token.wait())
    try:
        await asyncio.wait((task, watching), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
        return await task
    finally:
        watching.cancel()
        task.cancel()


def _model(bootstrap: WorkerBootstrap) -> Any:
    if bootstrap.llm_factory is not None:
        return bootstrap.llm_factory()
    try:
        if bootstrap.provider_prefix is not None:
            return create_llm_service_from_env(prefix=bootstrap.provider_prefix, fallback_prefix=bootstrap.provider_prefix)
        return create_llm_service_from_env(prefix=DEFAULT_PREFIX, fallback_prefix=FALLBACK_PREFIX)
    except ValueError as error:
        raise WorkerBootstrapError(f"the worker has no model: {error}") from error


def _registry(bootstrap: WorkerBootstrap, workspace: str) -> ToolRegistry:
    if bootstrap.registry_factory is not None:
        return bootstrap.registry_factory()
    if bootstrap.tool_preset is None:
        return ToolRegistry()
    return create_default_tool_registry(preset=bootstrap.tool_preset, workspace_dir=workspace, home_dir=bootstrap.home_dir)
