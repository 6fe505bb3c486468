"""The run of the handler that is being called, for code of the 3.x line that fetches it from the air.

New code asks for it by annotation: a first parameter ``run: ToolRun``.
"""

from __future__ import annotations

from contextvars import ContextVar

from power_loop.contracts.tool import ToolRun

# Set around each call of a handler, in its thread or task alone.
RUNNING: ContextVar[ToolRun | None] = ContextVar("power_loop_tool_run", default=None)


def get_tool_runtime_context(*, required: bool = False) -> ToolRun:
    """The run of the handler that calls this, from however deep below it; outside of handlers an empty one.

    Raises `RuntimeError` outside of handlers where it is ``required``.
    """
    run = RUNNING.get()
    if run is None and required:
        raise RuntimeError("get_tool_runtime_context(required=True) was called outside of a tool's handler")
    return run if run is not None else ToolRun()
