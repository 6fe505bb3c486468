"""Where the leaves of a workflow run: the `Executor` protocol, and the executor that runs them in this process.

A leaf's metadata says which it is: ``workflow_run_id``, ``workflow_node_id``, ``attempt`` and ``idempotency_key``
(``run:path``). The same leaf begun twice, by whomever, finds the work of the first.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any, Protocol, runtime_checkable

from power_loop.agents.spawn import Under, run_under
from power_loop.contracts.agents import AgentSpec, SubagentResult
from power_loop.contracts.cancel import CancellationLike, CancellationToken
from power_loop.contracts.children import Unreached, child_id_of, leaf_key
from power_loop.contracts.errors import SessionNotFoundError, StoreUnavailable
from power_loop.contracts.usage import Usage
from power_loop.runtime.cancel import cut_short
from power_loop.runtime.session import Session
from power_loop.workflow.handed import without_handed
from power_loop.workflow.rows import digest

# The folder of leaves that no run begun.
ADHOC = "adhoc"


@runtime_checkable
class Executor(Protocol):
    """Runs one leaf somewhere, and says what came of it."""

    async def run_agent(
        self, spec: AgentSpec, user_input: str, *, parent_loop: Any, driver_sid: str, stop_event: CancellationLike = None
    ) -> Mapping[str, Any]:
        """``status`` (as of a send), ``final_text``, ``output``, ``usage``, ``cost``, ``session_id``, ``error`` and ``db_path``.

        What is raised fails this leaf only. A cancelled task, or ``stop_event``, cuts the leaf off; it may be begun again.
        ``closes`` may name sessions that can go once the result is stored, ``after`` may be called then. A leaf that waits in a
        store of its own (``db_path``) tells what it ``asks`` and its ``session`` as an archive: see `run_spec_isolated`.
        """
        ...


@runtime_checkable
class Accountable(Protocol):
    """An executor that can say what a leaf has used which told nothing: it was too slow, was killed, or raised."""

    async def spent(self, spec: AgentSpec, *, parent_loop: Any, driver_sid: str) -> Usage:
        """All that the leaf has used so far, by its own books."""
        ...


def leaf_path(folder: str, spec: AgentSpec) -> str:
    """The database of this leaf in ``folder``: the same for the same leaf and attempt; a new one outside of a run."""
    key = leaf_key(spec.metadata)
    run = _file_name(spec.metadata.get("workflow_run_id") or ADHOC)
    node = _file_name(spec.metadata.get("workflow_node_id") or spec.name)[:80]
    mark = digest(key, 8) if key is not None else secrets.token_hex(4)
    return os.path.join(folder, run, f"{node}__{mark}.db")


def _file_name(text: object) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", str(text))


class InProcessExecutor:
    """Runs leaves as sub-agents of the run's session, with the loop's model, store, tools, hooks and bus."""

    async def run_agent(
        self, spec: AgentSpec, user_input: str, *, parent_loop: Any, driver_sid: str, stop_event: CancellationLike = None
    ) -> Mapping[str, Any]:
        """See `Executor`."""
        spec, _ = without_handed(spec)
        store: Any = await parent_loop.ensure_store()
        depth = (await store.get_session(driver_sid)).spawn_depth
        under = Under(parent_loop, driver_sid, None, leaf_key(spec.metadata), depth, parent_loop.tool_registry, deps=parent_loop.deps)
        try:
            result = await _cut_by(stop_event, run_under(under, spec, user_input))
        except StoreUnavailable as error:  # the run's own store: the leaf goes on with the run
            raise Unreached(error) from error
        if result.status in ("cancelled", "budget_exceeded") and result.session_id is not None:
            # Begun again, it would only find this end: a later attempt shall start anew.
            with suppress(SessionNotFoundError):
                await parent_loop.close_session(result.session_id)
        return told_of(result) | {"closes": under.closes}

    async def spent(self, spec: AgentSpec, *, parent_loop: Any, driver_sid: str) -> Usage:
        """See `Accountable`."""
        return await spent_by(await parent_loop.ensure_store(), child_id_of(driver_sid, leaf_key(spec.metadata) or ""))


async def spent_by(store: Any, session_id: str) -> Usage:
    """What a leaf's session and those below it have used; nothing when it is not there."""
    try:
        state = (await Session.load(store, session_id)).state
    except SessionNotFoundError:
        return Usage()
    return Usage.of(state.usage.plus(await store.charged_to(session_id)), tool_calls=state.tool_calls)


async def _cut_by(stop_event: CancellationLike, work: Coroutine[Any, Any, SubagentResult]) -> SubagentResult:
    if stop_event is None:
        return await work
    token = CancellationToken.from_any(stop_event)
    task = await cut_short(work, token)
    return SubagentResult(None, "cancelled", error={"message": token.reason}) if task.cancelled() else task.result()


def told_of(result: SubagentResult) -> dict[str, Any]:
    """A sub-agent's result as an executor tells it."""
    return {
        "status": result.status, "final_text": result.final_text, "output": result.output, "usage": dict(result.usage),
        "cost": result.usage.cost, "session_id": result.session_id, "error": result.error, "db_path": None,
    }  # fmt: skip
