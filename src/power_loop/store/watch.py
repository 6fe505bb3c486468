"""Reading along: rows as they are added, what is being written right now, and whether anything changed at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from power_loop.contracts.clock import Clock, Ids
from power_loop.contracts.codec import dumps
from power_loop.contracts.errors import SessionNotFoundError
from power_loop.contracts.store import Append, CommitUnknown, Conflict, Database, RecordRow, Statement
from power_loop.contracts.text import check_is_text
from power_loop.contracts.watch import Announces, Heard, Hints, PassingText, Watched
from power_loop.store.dialect import Dialect
from power_loop.store.log import COLUMNS, RecordLog, to_row

ADDED = f"SELECT {COLUMNS} FROM {{p}}records WHERE session_id = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
# Backwards through one send at most: the index of sends only ever grows with seq.
BEFORE = """SELECT seq FROM {p}records WHERE session_id = ? AND seq < ? AND send_index <
 (SELECT r.send_index FROM {p}records r WHERE r.session_id = ? AND r.seq = ?) ORDER BY seq DESC LIMIT 1"""
DEPTH = "SELECT spawn_depth FROM {p}session_info WHERE session_id = ?"
HEADS = """SELECT s.session_id, s.head, s.created_at, s.holder,
 COALESCE((SELECT t.version FROM {p}state t WHERE t.owner = s.session_id AND t.state_key = ?), 0)
 FROM {p}sessions s WHERE s.session_id IN """
TEXT = "SELECT value FROM {p}state WHERE owner = ? AND state_key = ?"
SHOW = "INSERT INTO {p}state (owner, state_key, value, version, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?)"
HIDE = "DELETE FROM {p}state WHERE owner = ? AND state_key = ?"

# Where the text in hand is kept, one row a session; it goes when the session does.
TEXT_KEY = "power_loop.text"
# A statement's text is prepared once, so lists of ids come in few sizes, filled up with the last id.
SIZES = (1, 8, 64, 512)


class Watch(RecordLog):
    """What those who watch ask for; it changes nothing but the text in hand."""

    def __init__(self, database: Database, dialect: Dialect, prefix: str, clock: Clock, ids: Ids) -> None:
        super().__init__(database, dialect, prefix, clock, ids)
        self._heard: tuple[Heard, ...] = ()
        self._announces = database if isinstance(database, Announces) else None

    def _wrote(self, batch: Append) -> None:
        """Those who watch through this store hear of it at once."""
        if self._announces is not None:
            self._announces.announce(batch.seen.session_id)
        for heard in self._heard:
            heard(batch.seen.session_id, batch.next.head)

    def on_append(self, heard: Heard) -> Callable[[], None]:
        """See `WatchedLog.on_append`; where the database announces commits of other processes, of those too."""
        self._heard = (*self._heard, heard)
        silence = self._announces.hear_of_commits(heard) if self._announces is not None else None

        def stop() -> None:
            self._heard = tuple(each for each in self._heard if each is not heard)
            if silence is not None:
                silence()

        return stop

    async def spawn_depth(self, session_id: str) -> int:
        """0 for a root. Raises `SessionNotFoundError`."""
        check_is_text("session_id", session_id)
        rows = await self._database.read(self._sql(DEPTH), (session_id,))
        if not rows:
            raise SessionNotFoundError(session_id)
        return rows[0][0]

    async def watched(self, session_ids: Sequence[str]) -> list[Watched]:
        """How far these sessions are; those that do not exist are left out."""
        found: list[Watched] = []
        for start in range(0, len(session_ids), SIZES[-1]):
            ids = list(session_ids[start : start + SIZES[-1]])
            size = next(size for size in SIZES if size >= len(ids))
            ids += ids[-1:] * (size - len(ids))
            sql = self._sql(HEADS) + f"({', '.join('?' * size)})"
            found += [Watched(*row) for row in await self._database.read(sql, (TEXT_KEY, *ids))]
        return found

    async def added(self, session_id: str, *, after: int, through: int, limit: int) -> list[RecordRow]:
        """The rows ``after < seq <= through``, in order, the first ``limit`` of them."""
        found = await self._database.read(self._sql(ADDED), (session_id, after, through, limit))
        return await self._made_whole(session_id, [to_row(row) for row in found])

    async def send_begins(self, session_id: str, seq: int) -> int:
        """The seq of the first record of the send that the record ``seq`` belongs to."""
        rows = await self._database.read(self._sql(BEFORE), (session_id, seq, session_id, seq))
        return rows[0][0] + 1 if rows else 1

    async def passing_text(self, session_id: str) -> PassingText | None:
        """What is being written, if somebody says so."""
        rows = await self._database.read(self._sql(TEXT), (session_id, TEXT_KEY))
        if not rows:
            return None
        *told, pieces = json.loads(rows[0][0])
        return PassingText(*told, pieces=tuple((bool(thought), text) for thought, text in pieces))

    async def show_text(self, session_id: str, text: PassingText | None) -> None:
        """Overwrite it; None takes it away. What cannot be written now is written next time, or not at all."""
        batch = [Statement(self._sql(HIDE), (session_id, TEXT_KEY))]
        if text is not None:
            now = self._clock.now_ms()
            values = (session_id, TEXT_KEY, dumps(list(text)), self._ids.bits(62) | 1, now, now)
            batch.append(Statement(self._sql(SHOW), values))
        try:
            await self._database.write(batch)
        except (Conflict, CommitUnknown):
            return  # another process shows its own at this moment, or it is there after all

    async def database_version(self) -> Any:
        """See `Hints.version`; None where the database gives no hints."""
        database = self._database
        return await database.version() if isinstance(database, Hints) else None
