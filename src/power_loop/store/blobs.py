"""Large content beside the records, by its digest: the uncut text of results that were too long for the model."""

from __future__ import annotations

import hashlib
import json

from power_loop.contracts.codec import content_of
from power_loop.contracts.messages import text_of
from power_loop.contracts.store import Conflict, Statement
from power_loop.store.log import COLUMNS, RecordLog, to_row

KEEP = "INSERT INTO {p}blobs (session_id, digest, data, size, media_type, created_at) VALUES (?, ?, ?, ?, ?, ?)"
READ = "SELECT data FROM {p}blobs WHERE session_id = ? AND digest = ?"
RESULT = f"SELECT {COLUMNS} FROM {{p}}records WHERE session_id = ? AND kind = 'tool_returned' AND call_id = ? ORDER BY seq DESC LIMIT 1"


class Blobs(RecordLog):
    """Content is kept once per session and goes with it; one that a crash left without a record hurts nobody."""

    async def keep_blob(self, session_id: str, data: bytes, media_type: str = "text/plain; charset=utf-8") -> str:
        """Keep ``data`` for the session; its digest. The same data again is kept once. Raises `StoreUnavailable`."""
        digest = hashlib.sha256(data).hexdigest()
        try:
            await self._write_once([Statement(self._sql(KEEP), (session_id, digest, data, len(data), media_type, self._clock.now_ms()))])
        except Conflict:
            pass  # it is there: nothing else has this digest
        return digest

    async def read_blob(self, session_id: str, digest: str) -> bytes | None:
        """None when the session has no such content."""
        rows = await self._database.read(self._sql(READ), (session_id, digest))
        return bytes(rows[0][0]) if rows else None

    async def load_output(self, session_id: str, call_id: str) -> str | None:
        """The whole text of a call's result, also where the model read a cut one; None when there is none."""
        rows = await self._database.read(self._sql(RESULT), (session_id, call_id))
        if not rows:
            return None
        cells = to_row(rows[0]).cells
        return await self._uncut(session_id, cells.body) or text_of(content_of(cells.content, cells.escaped))

    async def _uncut(self, session_id: str, body: str | None) -> str | None:
        """The text that was cut in the row with this ``body``; None where nothing was."""
        if body is None or '"uncut":' not in body:
            return None
        match json.loads(body):
            case {"data": {"uncut": {"digest": str() as digest}}}:
                data = await self.read_blob(session_id, digest)
                return data.decode("utf-8", "surrogatepass") if data is not None else None
            case _:
                return None
