"""Content beside the records, by its digest; and tool results too large for a row, which lie there and are put back when read.

The row of a large result says in its place how large it is, and in its body where it is: whoever reads rows with SQL sees a
short text, whoever reads them through the store the result.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from power_loop.contracts.codec import dumps
from power_loop.contracts.store import Append, Cells, Conflict, RecordRow, Statement
from power_loop.store.part import Part

# Above this a result has no place in a row that every reading of the session would carry along.
LARGE_BYTES = 256 * 1024
# No shorter text can have so many bytes in UTF-8.
LARGE_CHARS = LARGE_BYTES // 4

KEEP = "INSERT INTO {p}blobs (session_id, digest, data, size, media_type, created_at) VALUES (?, ?, ?, ?, ?, ?)"
# Before the digest of a request; that of any other content is hexadecimal.
REQUEST_KEY, REQUEST_TYPE = "request:", "application/json; compressed=zlib"
READ = "SELECT data FROM {p}blobs WHERE session_id = ? AND digest = ?"


class LargeContent(Part):
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

    async def keep_request(self, session_id: str, digest: str, data: bytes) -> None:
        """Keep a whole request beside the reply that names this digest; the same request is kept once. Raises `StoreUnavailable`."""
        values = (session_id, REQUEST_KEY + digest, data, len(data), REQUEST_TYPE, self._clock.now_ms())
        try:
            await self._write_once([Statement(self._sql(KEEP), values)])
        except Conflict:
            pass  # it is there

    async def kept_request(self, session_id: str, digest: str) -> bytes | None:
        """The request of this digest, as `contracts.kept_requests` packs it; None where it was not kept."""
        return await self.read_blob(session_id, REQUEST_KEY + digest)

    async def _with_large_kept(self, batch: Append) -> Append:
        """``batch`` with large results out of its rows; they are kept first, so that no row points at nothing."""
        results = [(at, row.cells) for at, row in enumerate(batch.rows) if row.cells.kind == "tool_returned"]
        large = [(at, cells, data) for at, cells in results if (data := _large(cells)) is not None]
        if not large:
            return batch
        rows = list(batch.rows)
        for at, cells, data in large:
            digest = await self.keep_blob(batch.seen.session_id, data)
            rows[at] = rows[at]._replace(cells=_set_aside(cells, digest, len(data)))
        return batch._replace(rows=rows)

    async def _made_whole(self, session_id: str, rows: list[RecordRow]) -> list[RecordRow]:
        """``rows`` with the results that were set aside in their places."""
        for at, row in enumerate(rows):
            if row.cells.kind == "tool_returned" and row.cells.body is not None and '"blob":' in row.cells.body:
                rows[at] = await self._put_back(session_id, row)
        return rows

    async def _put_back(self, session_id: str, row: RecordRow) -> RecordRow:
        body: dict[str, Any] = json.loads(row.cells.body or "{}")
        kept: Any = body.pop("blob", None)  # None: somebody's data has a name like ours
        data = None if kept is None else await self.read_blob(session_id, kept["digest"])
        if kept is None or data is None:
            return row
        cells = row.cells._replace(content=data.decode("utf-8"), escaped=kept["escaped"], body=dumps(body) if body else None)
        return row._replace(cells=cells)


def _large(cells: Cells) -> bytes | None:
    """The content of a row that is too large for it."""
    if cells.content is None or len(cells.content) <= LARGE_CHARS:
        return None
    data = cells.content.encode("utf-8")
    return data if len(data) > LARGE_BYTES else None


def _set_aside(cells: Cells, digest: str, size: int) -> Cells:
    body = {**json.loads(cells.body or "{}"), "blob": {"digest": digest, "escaped": cells.escaped}}
    return cells._replace(content=f"[a result of {size} bytes, kept beside the records]", escaped=None, body=dumps(body))
