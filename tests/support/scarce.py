"""A machine that has nothing left to give, for a while."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

# No address space has room for such a stack, so the system refuses every thread that is begun with it.
TOO_LARGE = 1 << 46


@contextmanager
def no_threads() -> Iterator[None]:
    """Nobody in this process can start a thread meanwhile."""
    usual = threading.stack_size(TOO_LARGE)
    try:
        yield
    finally:
        threading.stack_size(usual)
