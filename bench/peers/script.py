"""The work that every library is given: what the model answers, and what the tools do. No library is imported here.

The model decides by the last message alone, so that the same script plays in any process and after any crash:
``look ...`` calls `look`, ``two ...`` calls `fast` and `slow` at once, ``race ...`` takes a moment before it is answered; anything else is
answered at once with one sentence.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

THINKING_S = 0.02
"""How long a model takes to answer ``race ...``: long enough that two processes meet."""

Call = tuple[str, dict[str, int]]


def answer(role: str, text: str, heard: Callable[[], int]) -> str | list[Call]:
    """What the model says when the last message is ``text`` by ``role`` (``user``, or anything else: a tool's result).

    ``heard`` counts the user messages that it was shown, this one among them.
    """
    if role != "user":
        return "Both are there."
    if text.startswith("look"):
        return [("look", {"n": 1})]
    if text.startswith("two"):
        return [("fast", {"n": 1}), ("slow", {"n": 2})]
    if text.startswith("race"):
        time.sleep(THINKING_S)
        return f"{reply_to(text)} {heard()}"
    return "It is twenty degrees and sunny in Lisbon today."


def reply_to(text: str) -> str:
    """How the answer to a ``race ...`` begins; the number of messages that the model had heard follows."""
    return f"Answer to {text}, having heard"


async def look(n: int) -> str:
    """Look something up."""
    return f"found {n}"


async def fast(n: int) -> str:
    """Do something that is over at once."""
    _note("fast ran")
    return f"fast {n} is done"


async def slow(n: int) -> str:
    """Do something that takes a while; with PEERS_HANG set it never ends, so that a kill meets it."""
    _note("slow began")
    while os.environ.get("PEERS_HANG"):
        await asyncio.sleep(0.01)
    _note("slow ended")
    return f"slow {n} is done"


def _note(line: str) -> None:
    """Write ``line`` where the experiment reads it: the world outside, which no database rolls back."""
    with Path(os.environ["PEERS_LEDGER"]).open("a") as ledger:
        ledger.write(line + "\n")
