"""What a send has noted and not written yet, and what goes with it into the next batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from power_loop.contracts.errors import StoreUnavailable
from power_loop.contracts.records import Record
from power_loop.contracts.store import Post, RecordRow, Tally
from power_loop.kernel.state import State


class KeyTaken(Exception):
    """Somebody else used the key of this send meanwhile: for a send, or for a word that waits."""


class Noted(NamedTuple):
    """A record that is not written yet, with the state before it."""

    record: Record
    row: RecordRow
    before: State
    tally: Tally


Posts = Mapping[str, Sequence[Post]]
"""Per call: what it leaves for sessions, in the batch that stores what came of it."""


def leaving(posts: Posts, rows: Sequence[RecordRow]) -> list[Post]:
    """What goes with ``rows``: of calls whose result, or question, is among them."""
    return [post for row in rows for post in posts.get(row.cells.call_id or "", ())]


def staying(posts: Posts, rows: Sequence[RecordRow]) -> Posts:
    """What is left once ``rows`` are written."""
    written = {row.cells.call_id for row in rows}
    return {call_id: left for call_id, left in posts.items() if call_id not in written}


# A holder that meets this many conflicts in a row with its lease intact is not making progress.
MAX_CONFLICTS = 100


def no_way_through(session_id: str, times: int) -> StoreUnavailable:
    text = f"session {session_id!r}: {times} writes in a row met something that was left or charged in between"
    return StoreUnavailable(f"{text}; nothing of the last one was written, and resume() goes on")
