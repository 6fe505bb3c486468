"""`DaskExecutor`: leaves on the machines of an existing Dask cluster. Extra ``dask``.

A cluster runs a task at least once: again when a machine is lost. So a leaf that was begun on a machine that died may be paid for
a second time, elsewhere; its result counts once, because the journal takes one. A late result of a run that somebody else
drives by then reaches nobody.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

from power_loop.contracts.agents import AgentSpec
from power_loop.contracts.cancel import CancellationLike, CancellationToken
from power_loop.contracts.children import leaf_key
from power_loop.contracts.errors import WorkflowRunError
from power_loop.runtime.cancel import being_cancelled
from power_loop.workflow.bootstrap import WorkerBootstrap
from power_loop.workflow.executors import leaf_path
from power_loop.workflow.isolated import run_spec_isolated
from power_loop.workflow.rows import digest

if TYPE_CHECKING:
    from distributed import Client


class DaskExecutor:
    """Runs each leaf as one task of the cluster; the leaf's database is a file in the folder of the worker that runs it."""

    def __init__(self, client: Client, *, bootstrap: WorkerBootstrap, max_retries: int = 0) -> None:
        """``client``: of `distributed`, asynchronous or not. ``bootstrap`` is pickled, so its factories must be importable there.

        ``max_retries``: how often the cluster tries a task again that raised; what a leaf came to is no raise.
        """
        if max_retries < 0:
            raise ValueError(f"max_retries is {max_retries}; it must be at least 0")
        self._client, self._bootstrap, self._max_retries = client, bootstrap, max_retries

    async def run_agent(
        self, spec: AgentSpec, user_input: str, *, parent_loop: Any, driver_sid: str, stop_event: CancellationLike = None
    ) -> Mapping[str, Any]:
        """See `Executor`. Raises `WorkflowRunError` when the cluster lost the leaf, and what it says of a task that failed."""
        job = {"spec": spec.to_dict(), "input": user_input, "key": leaf_key(spec.metadata), "bootstrap": self._bootstrap}
        # A name of its own for each time: the same task again would be handed the result, or the loss, of the first.
        name = f"power-loop-{digest(job['key'] or '')}-{os.urandom(4).hex()}"
        client: Any = self._client
        future: Any = client.submit(run_on_worker, job, key=name, pure=False, retries=self._max_retries)
        if client.asynchronous:
            return await self._result(future, stop_event, future.result)
        return await self._result(future, stop_event, lambda: asyncio.to_thread(future.result))

    async def _result(self, future: Any, stop_event: CancellationLike, result: Any) -> Mapping[str, Any]:
        token = CancellationToken.from_any(stop_event)
        told, stop = asyncio.ensure_future(result()), asyncio.ensure_future(token.wait())
        try:
            await asyncio.wait((told, stop), return_when=asyncio.FIRST_COMPLETED)
            if not told.done():
                raise asyncio.CancelledError(token.reason)
            return told.result()
        except (asyncio.CancelledError, CancelledError) as error:
            if being_cancelled() or stop.done():
                raise
            raise WorkflowRunError(f"the cluster lost the leaf: {type(error).__name__} {error}") from error
        finally:
            stop.cancel()
            told.cancel()
            if not future.done():
                self._forget(future)

    def _forget(self, future: Any) -> None:
        """Nobody waits for it any more; what runs already may end, and be thrown away."""
        gone = future.cancel()
        if asyncio.iscoroutine(gone):
            asyncio.ensure_future(gone).add_done_callback(lambda task: task.cancelled() or task.exception())


def run_on_worker(job: Mapping[str, Any]) -> dict[str, Any]:
    """One leaf, in a thread of a cluster's worker."""
    from distributed import get_worker  # extra: dask

    spec = AgentSpec.from_dict(job["spec"])
    path = leaf_path(os.path.join(get_worker().local_directory, "power-loop"), spec)
    return asyncio.run(run_spec_isolated(spec, job["input"], bootstrap=job["bootstrap"], db_path=path, key=job["key"]))
