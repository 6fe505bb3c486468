"""The uncut text of results that were too long for the model; where it lies is the business of `large`."""

from __future__ import annotations

import json

from power_loop.contracts.codec import content_of
from power_loop.contracts.messages import text_of
from power_loop.store.log import COLUMNS, RecordLog, to_row

RESULT = f"SELECT {COLUMNS} FROM {{p}}records WHERE session_id = ? AND kind = 'tool_returned' AND call_id = ? ORDER BY seq DESC LIMIT 1"


class Blobs(RecordLog):
    """Reading results whole, whatever was cut of them for the model and wherever they lie."""

    async def load_output(self, session_id: str, call_id: str) -> str | None:
        """The whole text of a call's result, also where the model read a cut one; None when there is none."""
        rows = await self._database.read(self._sql(RESULT), (session_id, call_id))
        if not rows:
            return None
        cells = (await self._made_whole(session_id, [to_row(rows[0])]))[0].cells
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
