"""The sessions of a loop as last seen, so that a warm one is not read again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from power_loop.runtime.session import Session


@dataclass(slots=True)
class CacheStats:
    hits: int = 0
    misses: int = 0
    evictions: int = 0
    entries: int = 0


class SessionCache:
    """Sessions as last seen, the least recently used forgotten first. Never changes what is sent. Safe from any thread."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self.stats: CacheStats = CacheStats()

    def get(self, session_id: str) -> Session | None:
        with self._lock:
            session = self._sessions.get(session_id)
            if session is None:
                self.stats.misses += 1
            else:
                self.stats.hits += 1
                self._sessions.move_to_end(session_id)
            return session

    def known(self, session_id: str) -> Session | None:
        """The session, for a look that is counted nowhere; it stays as old as it was."""
        with self._lock:
            return self._sessions.get(session_id)

    def keep(self, session: Session) -> None:
        if self._size == 0:
            return
        with self._lock:
            self._sessions[session.head.session_id] = session
            if len(self._sessions) > self._size:
                self._sessions.popitem(last=False)
                self.stats.evictions += 1
            self.stats.entries = len(self._sessions)

    def forget(self, session_id: str) -> None:
        with self._lock:
            self._sessions.pop(session_id, None)
            self.stats.entries = len(self._sessions)
