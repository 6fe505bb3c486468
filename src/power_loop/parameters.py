"""What verbs that pass everything on to `StatefulAgentLoop.send` take, for type checkers and editors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from power_loop.contracts.cancel import CancellationLike
from power_loop.contracts.usage import UsageLimits


class StreamParameters(TypedDict, total=False):
    """Those of `send`, but for the token that stops it."""

    tools: Any
    system_prompt: str | None
    heal_pending: bool
    output_type: Any
    limits: UsageLimits | None
    max_rounds: int | None
    key: str | None
    on_busy: str | None
    busy_timeout_s: float | None
    deps: Any
    metadata: Mapping[str, Any] | None


class SendParameters(StreamParameters, total=False):
    """All of them."""

    stop_event: CancellationLike
