"""Words that several commands share."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from power_loop.contracts.store import MOST


def when(at_ms: int) -> str:
    """A time as people read it, in UTC; one that stands in no calendar, as it is kept."""
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):  # which of them is the platform's choice
        return f"{at_ms} ms"


def at_least_one(given: str) -> int:
    """The value of an option that counts or numbers something."""
    if not given.isascii() or not given.isdecimal() or int(given[:20]) < 1:
        raise argparse.ArgumentTypeError(f"{given!r:.40} is no whole number above 0")
    if int(given[:20]) > MOST:
        raise argparse.ArgumentTypeError(f"{given!r:.40} is too large")
    return int(given)
