"""The memory port: what a loop asks of a memory before a run, and tells it after one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from power_loop.contracts.messages import Message

# The name under which the built-in hook stands, and under which a host replaces or removes it.
RECALL_HOOK = "builtin.memory_recall"

PREFIX = "memory_"


@dataclass(frozen=True)
class MemorySnapshot:
    """A send that has ended, for a memory to make something of. Only to be read: the session goes on with these messages."""

    session_id: str
    messages: Sequence[Message] = ()
    """The transcript as the model sees it: the latest summary, then what came after it."""
    final_text: str = ""
    rounds: int = 0
    status: str = "completed"
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """``send_index``, ``send_id``, ``tool_calls`` and ``usage``."""


@runtime_checkable
class MemoryProvider(Protocol):
    """A memory. Both verbs may fail or take too long: that is told by `memory_failed` and harms no send."""

    async def recall(self, *, messages: Sequence[Message], session_id: str, budget_tokens: int = 1500) -> Sequence[Message]:
        """What the model should be reminded of, most important first, within ``budget_tokens``. Asked once per run.

        ``messages`` are those of the first request, without what is recalled.
        """
        ...

    async def remember(self, *, snapshot: MemorySnapshot, session_id: str) -> None:
        """Keep what is worth keeping of a send that has ended, however it ended."""
        ...


def tag_as_memory(message: str | Mapping[str, Any], *, name: str = "recalled") -> Message:
    """``message`` as memory: a system message whose name begins with ``memory_``, so that it is told from what was said."""
    given: dict[str, Any] = {"content": message} if isinstance(message, str) else dict(message)
    own = str(given.get("name") or name)
    return {**given, "role": "system", "name": own if own.startswith(PREFIX) else PREFIX + own}
