"""How a call that has a sub-agent knows it again."""

from __future__ import annotations

import hashlib

CHILD = "child_session_id"
"""In the state of a parked call: whom it waits for."""


def child_id_of(parent_session_id: str, key: str) -> str:
    """The same for the same call of the same session."""
    return "sess_" + hashlib.sha256(f"child\n{parent_session_id}\n{key}".encode("utf-8", "surrogatepass")).hexdigest()[:24]
