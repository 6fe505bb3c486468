"""Word of commits from process to process: LISTEN and NOTIFY, as a hint and never as the fact.

NOTIFY takes a lock that serialises all commits which carry one, so no batch does: what was committed is announced
afterwards, many sessions in one statement, and only while somebody listens.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from power_loop.contracts.store import Row
from power_loop.contracts.watch import Heard
from power_loop.store.postgres_connect import Address

CHANNEL = "power_loop_commits"

# Held, shared, by all who listen: so those who commit can ask whether anybody does.
_LISTENS = "SELECT pg_advisory_lock_shared(1886353264, 1)"
_TELL = """SELECT count(pg_notify(?, ?)) FROM (SELECT 1 WHERE EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory'
 AND classid = 1886353264 AND objid = 1 AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))) AS listeners"""

GATHER_S = 0.05
# Nobody listened: not asked again before this long.
NOBODY_S = 1.0
AGAIN_S = 5.0

# A payload holds less than 8,000 bytes (postgresql.org/docs/current/sql-notify.html), an id at most 191.
_IDS_AT_ONCE = 40


class Grapevine:
    """One database's: what is committed here is told, what is committed elsewhere is heard."""

    def __init__(self, address: Address, read: Callable[[str, Sequence[Any]], Awaitable[list[Row]]]) -> None:
        self._address, self._read = address, read
        self._fresh: set[str] = set()
        self._tells: asyncio.AbstractEventLoop | None = None
        """Where what is fresh will be told; a loop that is closed before that tells nothing."""
        self._quiet_until = 0.0

    def announce(self, session_id: str) -> None:
        """Tell others soon that this session has more records. Costs nothing where it stands."""
        if time.monotonic() < self._quiet_until:
            return
        self._fresh.add(session_id)
        here = asyncio.get_running_loop()
        if self._tells is not here:
            self._tells = here
            here.call_later(GATHER_S, self._tell)

    def _tell(self) -> None:
        told, self._fresh, self._tells = self._fresh, set(), None
        fresh = sorted(told)
        for start in range(0, len(fresh), _IDS_AT_ONCE):
            asked = asyncio.ensure_future(self._read(_TELL, (CHANNEL, "\n".join(fresh[start : start + _IDS_AT_ONCE]))))
            asked.add_done_callback(self._told)

    def _told(self, asked: asyncio.Future[list[Row]]) -> None:
        if asked.cancelled() or asked.exception() is not None or not asked.result()[0][0]:
            self._quiet_until = time.monotonic() + NOBODY_S

    def hear(self, heard: Heard) -> Callable[[], None]:
        """Call ``heard`` for what others announce, on this event loop; the answer ends it."""
        task = asyncio.get_running_loop().create_task(self._listen_on(heard))

        def stop() -> None:
            task.cancel()

        return stop

    async def _listen_on(self, heard: Heard) -> None:
        while True:
            with suppress(Exception):  # the driver's: without the hints everything is noticed a little later
                await self._listen(heard)
            await asyncio.sleep(AGAIN_S)

    async def _listen(self, heard: Heard) -> None:
        connection: Any = await self._address.connect(patiently=False)
        lost = asyncio.Event()

        def lose(_: object) -> None:
            lost.set()

        def take(_: object, pid: int, channel: str, payload: str) -> None:
            for session_id in payload.split("\n"):
                heard(session_id, None)

        try:
            connection.add_termination_listener(lose)
            await connection.add_listener(CHANNEL, take)
            await connection.execute(_LISTENS)
            await lost.wait()
        finally:
            await self._address.hang_up(connection)
