"""Old tool results out of requests and into files: which ones, and the pointer that stays. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from power_loop.contracts.messages import Message

POINTER = "[This result of {chars} characters was moved to {path}; read the file where you need it.]"


@dataclass(frozen=True)
class SpillPolicy:
    """Whether old tool results become files, and which."""

    enabled: bool = False
    size_limit: int = 1000
    """Characters; shorter results stay."""
    hot_tail: int = 10
    """So many of the newest results stay, whatever their size."""
    dir: Any = None
    """The path of a folder; every session has one of its own in it. None: ``.spill`` in the workspace."""


class Spilled(NamedTuple):
    """One result that becomes a file."""

    at: int
    """Its place among the messages."""
    text: str


def spilled(messages: Sequence[Mapping[str, Any]], policy: SpillPolicy) -> list[Spilled]:
    """The results that are old and long enough."""
    results = [at for at, message in enumerate(messages) if message.get("role") == "tool"]
    old = results[: max(0, len(results) - policy.hot_tail)]
    texts = [(at, messages[at]["content"]) for at in old]
    return [Spilled(at, text) for at, text in texts if isinstance(text, str) and len(text) > policy.size_limit]


def pointed(message: Message, path: str) -> Message:
    """``message`` with a pointer in place of its text."""
    return {**message, "content": POINTER.format(chars=len(message["content"]), path=path)}
