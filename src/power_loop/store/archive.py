"""Sessions leave a store, come into one, and branch: export, import, fork.

What is written is a new session, or a tree of them, in one batch: whole or not at all. The original is only read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from power_loop.contracts.codec import dumps, from_cells
from power_loop.contracts.errors import SessionNotFoundError
from power_loop.contracts.store import Conflict, RecordRow, Statement
from power_loop.contracts.text import check_is_text, check_text, metadata_in
from power_loop.kernel.history import History
from power_loop.store.archive_3x import images_of_3x, is_3x
from power_loop.store.archive_charges import ChargeImage, charges_of, charges_statement
from power_loop.store.archive_json import Json, archive_of, check_header, children_of, image_of
from power_loop.store.archive_names import renamed
from power_loop.store.image import BLOBS, BlobImage, SessionImage, batch_of, children_in, images_of, parts_statement
from power_loop.store.large import REQUEST_KEY
from power_loop.store.log import COLUMNS, RecordLog, to_row
from power_loop.store.sessions import CREATED_BY, check_session_id

UP_TO = f"SELECT {COLUMNS} FROM {{p}}records WHERE session_id = ? AND seq <= ? ORDER BY seq"


class Archive(RecordLog):
    """Whole sessions, read and written."""

    async def export_session(self, session_id: str, *, include_children: bool = False) -> dict[str, Any]:
        """The session as one JSON-ready object, as it stood at one moment; a send that runs goes on meanwhile.

        Leases and the inbox are not in it. Raises `SessionNotFoundError`.
        """
        images = await self._images(session_id, include_children)
        return self._archive(images[session_id], images, self._clock.now_ms())

    async def import_session(self, data: Mapping[str, Any], *, new_session_id: str | None = None, timers: str = "skip") -> str:
        """A new session, a root, from an archive of `export_session` or of the 3.x line; its id. Its children get new ids too.

        ``timers="keep"`` arms the archive's timers. Raises `ValueError`, naming the place, before anything is written.
        """
        if timers not in ("skip", "keep"):
            raise ValueError(f"import_session takes timers='skip' or 'keep', not {timers!r}")
        images = images_of_3x(data) if is_3x(data) else _tree_of(check_header(data), "archive", 0)
        if new_session_id is not None:
            check_session_id(new_session_id)
        named = renamed(images, new_session_id, self._ids)
        return await self._create([image if timers == "keep" else image._replace(timers=()) for image in named])

    async def fork_session(
        self, session_id: str, *, at_send: int | None = None, metadata: Mapping[str, Any] | None = None, system_prompt: str | None = None
    ) -> str:
        """A new root with the records up to the end of send ``at_send`` (default: the last that ended); its id.

        Small state and blobs are copied; timers, inbox, lease and kept requests stay behind. Raises `SessionNotFoundError`, and
        `ValueError` for a send that has not ended.
        """
        check_text("system_prompt", system_prompt)
        image = (await self._images(session_id, False))[session_id]
        rows, send = _up_to(image, at_send)
        own: dict[str, Any] = json.loads(image.info.metadata) if image.info.metadata else {}
        origin = {"forked_from": session_id, "forked_at_send": send}
        info = image.info._replace(metadata=dumps({**own, **(metadata_in(metadata) or {}), **origin}))
        if system_prompt is not None:
            info = info._replace(system_prompt=system_prompt)
        last = rows[-1].created_at if rows else None
        blobs = [blob for blob in image.blobs if not blob.digest.startswith(REQUEST_KEY)]
        charges = [charge for charge in image.charges if charge.of_send <= send]
        forked = image._replace(info=info, rows=rows, timers=(), blobs=blobs, charges=charges)
        forked = forked._replace(first_send_at=image.first_send_at if rows else None, last_send_at=last)
        return await self._create(renamed([forked], None, self._ids))

    # --- reading -----------------------------------------------------------------------------------

    async def _images(self, session_id: str, children: bool) -> dict[str, SessionImage]:
        """The images of the session and what hangs under it, the whole tree at one moment."""
        check_is_text("session_id", session_id)
        wanted = [session_id]
        while True:
            sql, params = parts_statement(wanted)
            parts = await self._database.read(self._sql(sql), params)
            more = [one for one in children_in(parts) if one not in wanted] if children else []
            if not more:
                break
            wanted += more
        images = images_of(parts, wanted)
        if session_id not in images:
            raise SessionNotFoundError(session_id)
        sql, params = charges_statement(wanted)
        charges = charges_of(await self._database.read(self._sql(sql), params))
        heads = {one: image.head for one, image in images.items()}
        whole = [await self._whole(image) for image in images.values()]
        return {
            image.session_id: image._replace(charges=_recorded(charges.get(image.session_id, ()), image.sends, heads)) for image in whole
        }

    async def _whole(self, image: SessionImage) -> SessionImage:
        rows = await self._database.read(self._sql(UP_TO), (image.session_id, image.head))
        if len(rows) != image.head:
            raise SessionNotFoundError(image.session_id)  # deleted while it was being read
        blobs = await self._database.read(self._sql(BLOBS), (image.session_id,))
        return image._replace(rows=[to_row(row) for row in rows], blobs=[BlobImage(*blob) for blob in blobs])

    def _archive(self, image: SessionImage, images: Mapping[str, SessionImage], now: int) -> dict[str, Any]:
        children = [each for each in images.values() if each.info.parent_session_id == image.session_id]
        return archive_of(image, [self._archive(child, images, now) for child in children], now)

    # --- writing -----------------------------------------------------------------------------------

    async def _create(self, images: Sequence[SessionImage]) -> str:
        """Write ``images`` as new sessions; the id of the first."""
        top = images[0].session_id
        mark = str(self._ids.bits(62))
        now = self._clock.now_ms()
        batch = batch_of(images, now, self._at(now), mark, self._ids.bits(62) | 1)
        try:
            written = await self._write_once([Statement(self._sql(sql), params, touches) for sql, params, touches in batch])
            ours = written or await self._database.read(self._sql(CREATED_BY), (top,)) == [(mark,)]
        except Conflict:
            ours = False
        if not ours:
            raise ValueError(f"session {top!r} exists already; choose another id, or send to it")
        return top


def _recorded(charges: Sequence[ChargeImage], sends: int, heads: Mapping[str, int]) -> list[ChargeImage]:
    """Those of sends and calls that there are records of. What came since these were read, a copy does anew."""
    return [charge for charge in charges if charge.of_send <= sends and charge.seq <= heads.get(charge.charged_session, charge.seq)]


def _tree_of(data: Json, where: str, depth: int) -> list[SessionImage]:
    """The session of an archive and its children, judged; parents first."""
    image = image_of(data, where)
    images = [image._replace(info=image.info._replace(spawn_depth=depth))]
    for child, place in children_of(data, where):
        images += _tree_of(child, place, depth + 1)
    if len({each.session_id for each in images}) < len(images):
        raise ValueError(f"{where}: two of its sessions share an id")
    return images


def _up_to(image: SessionImage, at_send: int | None) -> tuple[list[RecordRow], int]:
    """The rows up to where send ``at_send`` ended last, and its number; no rows and 0 when no send has ended yet."""
    ends: dict[int, int] = {}
    history = History()
    for at, row in enumerate(image.rows):
        history.add(row, from_cells(row.cells))
        if history.state.idle and history.send_index:
            ends[row.send_index] = at + 1
    send = at_send if at_send is not None else max(ends, default=0)
    if at_send is not None and send not in ends:
        raise ValueError(
            f"session {image.session_id!r} has no send {at_send} that ended; these have: {', '.join(map(str, sorted(ends))) or 'none'}"
        )
    return list(image.rows[: ends.get(send, 0)]), send
