"""The tool ``current_time``, and how a time is spelled for the model."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from power_loop.contracts.clock import Clock, SystemClock
from power_loop.contracts.tool import ToolDefinition, ToolHandlerResult, ToolRun
from power_loop.tools.builtin.given import Given

DEFINITIONS = (
    ToolDefinition(
        "current_time",
        "The current date and time, local and UTC.",
        {"type": "object", "properties": {}, "additionalProperties": False},
        effects="pure",
    ),
)


def iso(at_ms: int) -> str:
    """``2025-01-31T12:00:00+00:00`` for a time in ms."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).isoformat()


def current_time(run: ToolRun) -> ToolHandlerResult:
    """By the clock of the run's store; a tool that is called outside of any loop has the machine's."""
    clock: Clock = run.store.clock if run.store is not None else SystemClock()
    now_ms = clock.now_ms()
    local = datetime.fromtimestamp(now_ms // 1000, UTC).astimezone()
    return ToolHandlerResult(True, f"local: {local.isoformat()}\nutc: {iso(now_ms)}")


def handlers(given: Given) -> dict[str, Callable[..., Any]]:
    return {"current_time": current_time}
