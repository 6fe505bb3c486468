"""The port of what a model is shown beside the transcript: ephemeral messages, made anew for each request and stored nowhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from power_loop.contracts.jobs import Job
from power_loop.contracts.messages import Message


@dataclass(slots=True)
class ProjectionContext:
    """What a projector may know of the send, and what it may ask for."""

    send_index: int = 0
    depth: int = 0
    tools: Sequence[str] = ()
    """The names on offer in this send."""
    now_ms: int = 0
    is_dead: Callable[[str], bool] | None = None
    """``(holder)``: that holder provably died."""
    seen_jobs: list[Job] = field(default_factory=list[Job])
    """Put jobs here whose end your messages tell: they count as seen once a reply to this request is stored."""
    ask_again: bool = False
    """Set it when there is nothing to show now, but may be at the next round without one of your ``tools`` being called."""


class RuntimeProjector(Protocol):
    """Shows the model state that changes: at the tail of every request, after the transcript.

    A projector may have an attribute ``tools``: names without which it has nothing to show. It is asked only where one of
    them is on offer, and while it shows nothing, only after one of them was called. Without it, it is asked every round.
    """

    def project(
        self, *, store: Any, session_id: str, round_index: int, context: ProjectionContext
    ) -> Awaitable[Sequence[Message]] | Sequence[Message]:
        """Messages of the roles user or system, in order; async or not (then it must not block). What it raises leaves it out."""
        ...
