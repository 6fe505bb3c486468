"""Words that several commands share."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime


def when(at_ms: int) -> str:
    """A time as people read it, in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def at_least_one(given: str) -> int:
    """The value of an option that counts something."""
    if not given.isdecimal() or int(given) < 1:
        raise argparse.ArgumentTypeError(f"{given!r} is no whole number above 0")
    return int(given)
