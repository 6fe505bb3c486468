"""How a call that has a sub-agent knows it again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

CHILD = "child_session_id"
"""In the state of a parked call: whom it waits for."""

GIVEN_UP = "given_up"
"""The status of a workflow's step that waits no more, though nobody has answered."""


class Unreached(Exception):
    """What a call began could not be followed: the store was away. The send breaks off as where its own batch meets that, and resumes."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def child_id_of(parent_session_id: str, key: str) -> str:
    """The same for the same call of the same session."""
    return "sess_" + hashlib.sha256(f"child\n{parent_session_id}\n{key}".encode("utf-8", "surrogatepass")).hexdigest()[:24]


def leaf_key(metadata: Mapping[str, Any]) -> str | None:
    """What tells a workflow's leaf, in this attempt, from all others, by its metadata; None outside of a run."""
    key, attempt = metadata.get("idempotency_key"), metadata.get("attempt", 1)
    return None if key is None else f"{key}#{attempt}" if isinstance(attempt, int) and attempt > 1 else str(key)
