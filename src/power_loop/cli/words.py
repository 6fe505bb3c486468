"""Words that several commands share."""

from __future__ import annotations

from datetime import UTC, datetime


def when(at_ms: int) -> str:
    """A time as people read it, in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
