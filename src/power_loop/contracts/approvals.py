"""Approvals: what somebody is asked to decide before a call runs, and how exactly it is named.

A decision names the digest of what it decides on, so it can stand for nothing else: no other call, no other tool, no
other arguments.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from power_loop.contracts.children import CHILD
from power_loop.contracts.tool import canonical

# The note of a decision that nobody made.
EXPIRED = "nobody decided in time"


class Approval(NamedTuple):
    """A call that waits for somebody to approve or deny it. Times in ms, UTC."""

    session_id: str
    interaction_id: str
    tool_call_id: str
    name: str
    """Of the tool."""
    arguments: Mapping[str, Any]
    """As the tool will get them: what hooks changed is changed."""
    digest: str
    """Goes back with the decision."""
    requested_at: int
    expires_at: int | None = None
    """A decision after this is refused; None: it may come at any time."""


def digest_of(call_id: str, name: str, arguments: Any) -> str:
    """64 hex digits for exactly this call of this tool with these arguments, however they are spelt."""
    return hashlib.sha256(f"{call_id}\n{name}\n{canonical(arguments)}".encode("utf-8", "surrogatepass")).hexdigest()


def is_approval(question: Mapping[str, Any]) -> bool:
    """Asked before the call began; a question of that kind that a handler asks itself is one like any other."""
    return question.get("kind") == "approval" and "digest" in question


def is_for_an_approval(asked: Mapping[str, Any]) -> bool:
    """It stands for a request of a session below; whoever decides about that has this call look again."""
    if CHILD not in (asked.get("state") or {}):
        return False
    metadata: Mapping[str, Any] = asked.get("metadata") or {}
    return bool(asked.get("needs_approval") or metadata.get("needs_approval"))
