"""Where a request is cut for the prompt cache: up to four marks, at borders that the next request has too.

The borders are the tools, the system prompt, the last fold and the last finished send. The last two lie in the messages,
which do not say where a send begins: it is taken to begin with the last plain word of the user, one that is not
itself a fold, a follow-up or a note of the runtime. All rounds of a send therefore carry the same marks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from power_loop.contracts.messages import Message

_MARK = {"type": "ephemeral"}

FOLD_NAME = "compact_note"

# User rows that enter a send under way (see `UserSaid.name`), or stand for earlier ones.
_NO_BEGINNING = frozenset({FOLD_NAME, "follow_up", "hook", "schema"})


def marked_tail(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """``blocks`` with the mark on the last one that can carry it."""
    for place in range(len(blocks) - 1, -1, -1):
        # Thinking cannot be marked (the protocol's rule).
        if blocks[place].get("type") not in ("thinking", "redacted_thinking"):
            return [*blocks[:place], {**blocks[place], "cache_control": _MARK}, *blocks[place + 1 :]]
    return blocks


def marked_messages(messages: Sequence[Message]) -> list[Message]:
    """``messages`` with ``cache_control`` on the rows after which a border lies."""
    places = {place for place in (_last_fold(messages), _last_finished_send(messages)) if place is not None}
    return [{**message, "cache_control": _MARK} if place in places else message for place, message in enumerate(messages)]


def _last_fold(messages: Sequence[Message]) -> int | None:
    return next((place for place in range(len(messages) - 1, -1, -1) if messages[place].get("name") == FOLD_NAME), None)


def _last_finished_send(messages: Sequence[Message]) -> int | None:
    """The row before the running send's first word that says something; None in the first send."""
    beginning = next((place for place in range(len(messages) - 1, -1, -1) if _begins(messages[place])), 0)
    return next((place for place in range(beginning - 1, -1, -1) if _says(messages[place])), None)


def _begins(message: Message) -> bool:
    return message.get("role") == "user" and message.get("name") not in _NO_BEGINNING


def _says(message: Message) -> bool:
    """It leaves a block on the wire, so that a mark on it is not lost."""
    content = message.get("content")
    return bool(message.get("tool_calls")) or (bool(content.strip()) if isinstance(content, str) else bool(content))
