"""What a handler gave after its send had stopped waiting for it: evidence beside the transcript, never part of it."""

from __future__ import annotations

from typing import NamedTuple

from power_loop.contracts.messages import Content


class LateResult(NamedTuple):
    """One result that came too late."""

    call_id: str
    send_index: int
    key: str
    """The idempotency key of the attempt that gave it."""
    outcome: str
    """``ok`` or ``failed``."""
    output: Content
    """As the model would have read it."""
    name: str | None = None
    """Of the tool."""
    created_at: int = 0
    """ms, UTC."""
    answered: str | None = None
    """With which outcome the transcript answers the call; None while it is open."""
