"""What a word from outside does to a send: whether an end that was noted still stands, and how words enter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from power_loop.contracts.records import Record, SendEnded, SendRested, StopRequested, UserSaid
from power_loop.kernel.hears import hears, says_nothing
from power_loop.kernel.state import State


def wakes(end: Record, before: State, word: Record) -> bool:
    """``word`` enters, and so the send does not end (or rest) as noted in ``end``. A cancel comes too late for an answer."""
    if says_nothing(word):
        return False
    match end:
        case SendEnded(status="completed"):
            return not isinstance(word, StopRequested) and hears(before, word) is True
        case SendRested():
            return hears(before, word) is True
        case _:
            return False


def as_follow_up(words: Sequence[UserSaid]) -> UserSaid:
    """Words that enter a send under way: one user row, each in its own tags."""
    if all(isinstance(word.content, str) for word in words):
        return UserSaid("\n".join(f"<follow_up>\n{word.content}\n</follow_up>" for word in words), "follow_up")
    blocks: list[dict[str, Any]] = []
    for word in words:
        inner = [{"type": "text", "text": word.content}] if isinstance(word.content, str) else word.content
        blocks += [{"type": "text", "text": "<follow_up>"}, *inner, {"type": "text", "text": "</follow_up>"}]
    return UserSaid(blocks, "follow_up")
