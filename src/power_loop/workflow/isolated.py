"""Running one leaf with nothing but a bootstrap and a database file of its own: in a worker process, or on a machine of a cluster."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from power_loop.config import AgentLoopConfig
from power_loop.contracts.agents import AgentSpec, ChildRun
from power_loop.contracts.cancel import CancellationLike, CancellationToken
from power_loop.contracts.errors import SessionNotFoundError, WorkerBootstrapError
from power_loop.contracts.outcome import StatefulResult
from power_loop.contracts.usage import Usage
from power_loop.loop import StatefulAgentLoop
from power_loop.providers.open import create_llm_service_from_env
from power_loop.runtime.cancel import cut_short
from power_loop.runtime.session import Session
from power_loop.store.sql_store import open_store
from power_loop.tools.toolbox import ToolRegistry
from power_loop.workflow.bootstrap import DEFAULT_PREFIX, FALLBACK_PREFIX, WorkerBootstrap, place_of, workspace_of
from power_loop.workflow.executors import spent_by
from power_loop.workflow.handed import hear, prices_in, within_share, without_handed
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
    spec, handed = without_handed(spec)
    config = AgentLoopConfig(prices=prices_in(handed))
    registry = _registry(bootstrap, workspace_of(bootstrap, db_path, workspace_dir))
    chosen = registry.subset(registry.names() if spec.tools is None else spec.tools)
    token = CancellationToken.from_any(stop_event)
    session_id = session_of(key or os.urandom(12).hex())
    async with StatefulAgentLoop(llm=_model(bootstrap), db_path=db_path, tool_registry=registry, config=config, name=spec.name) as loop:
        session = await _found(loop, session_id, spec, handed)
        if "said" in handed:
            await hear(loop, session_id, handed)
        child = ChildRun(session_id, "spawn", within_share(spec, handed, session), user_input, chosen, 1, None)
        drivers: Any = loop.drivers
        goes_on = session.state.status == "budget_exceeded" and "share" in handed
        task = await cut_short(drivers.resume_child(child) if goes_on else drivers.run_child(child), token)
        told = await _told(loop, task.result())
    return told | {"session_id": session_id, "db_path": db_path}


def session_of(key: str) -> str:
    """The session of the leaf with this key, in its own database."""
    return "sess_" + hashlib.sha256(key.encode()).hexdigest()[:24]


async def spent_in(db_path: str, key: str) -> Usage:
    """What the leaf with this key has used, by its own database; nothing where there is none."""
    if not os.path.exists(db_path):  # noqa: ASYNC240  # one look at a local file
        return Usage()
    store = await open_store(db_path)
    try:
        return await spent_by(store, session_of(key))
    finally:
        await store.close()


async def _found(loop: Any, session_id: str, spec: AgentSpec, handed: Mapping[str, Any]) -> Session:
    """The session as it stands: from before, as it came from another machine, or new."""
    store: Any = await loop.ensure_store()
    try:
        await store.get_session(session_id)
    except SessionNotFoundError:
        if "session" in handed:
            await store.import_session(handed["session"], new_session_id=session_id)
        else:
            await store.create_session(session_id=session_id, system_prompt=spec.system_prompt, metadata=spec.metadata, agent=loop.name)
    return await Session.load(store, session_id)


async def _told(loop: Any, result: StatefulResult) -> dict[str, Any]:
    """The leaf's outcome; of one that waits also what it asks, and its session, to go on wherever somebody has answered."""
    told: dict[str, Any] = {
        "status": result.status, "final_text": result.final_text, "output": result.output, "usage": dict(result.usage),
        "cost": result.usage.cost, "error": result.error,
    }  # fmt: skip
    if result.status != "waiting_for_input":
        return told
    store: Any = await loop.ensure_store()
    return told | {"asks": result.pending_interactions[0], "session": await store.export_session(result.session_id)}


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
    from power_loop.tools.presets import create_default_tool_registry  # named by the bootstrap; most leaves have no such tools

    return create_default_tool_registry(preset=bootstrap.tool_preset, workspace_dir=workspace, home_dir=bootstrap.home_dir)
