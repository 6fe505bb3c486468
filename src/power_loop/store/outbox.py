"""What a session's batch leaves in the inboxes of other sessions: the words that its tools left, with their results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from power_loop.contracts.codec import to_cells
from power_loop.contracts.records import UserSaid
from power_loop.contracts.store import Post, Statement

# The earliest time at which somebody should look stands. Nothing is guarded: who deleted its session meanwhile must not
# keep a batch from being written.
WAKE = """UPDATE {p}sessions SET wake_no = wake_no + 1, runnable_at = CASE WHEN runnable_at < {t} THEN runnable_at ELSE {t} END
 WHERE session_id = ?"""
LEFT = """INSERT INTO {p}inbox (session_id, item_key, mode, kind, version, content, escaped, body, created_at)
 SELECT s.session_id, ?, 'queue', ?, ?, ?, ?, ?, ? FROM {p}sessions s WHERE s.session_id = ?
 AND NOT EXISTS (SELECT 1 FROM {p}inbox i WHERE i.session_id = s.session_id AND i.item_key = ?)"""


def woken(posts: Sequence[Post], sql: Callable[[str], str], soon: int) -> Iterator[tuple[str, Statement]]:
    """The rows of the sessions that ``posts`` are for: (session, what is changed there). ``soon``: when somebody should look."""
    for session_id in {post.session_id: None for post in posts}:
        yield session_id, Statement(sql(WAKE), (soon, soon, session_id))


def left(posts: Sequence[Post], sql: Callable[[str], str], now: int) -> Iterator[Statement]:
    """The words themselves; one whose key is taken is there already."""
    for session_id, key, text in posts:
        cells = to_cells(UserSaid(text))
        told = (cells.kind, cells.version, cells.content, cells.escaped, cells.body, now)
        yield Statement(sql(LEFT), (key, *told, session_id, key))
