"""Words that several commands share."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from io import TextIOWrapper
from typing import Any

from power_loop.cli.exits import USAGE, CommandFailed
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


def piped() -> str:
    """All of standard input, as it is. Raises `CommandFailed` where it is no text: what a pipe says is not replaced, as keystrokes are."""
    stream: Any = sys.stdin
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="strict")
    try:
        return str(stream.read())
    except UnicodeDecodeError as error:
        raise CommandFailed(f"standard input cannot be read: {error}", USAGE) from error
