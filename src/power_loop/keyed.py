"""A send under a key: it happens once, however often it is asked for, and whoever asks gets its outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING

from power_loop.contracts.errors import SessionPendingError
from power_loop.contracts.outcome import StatefulResult
from power_loop.kernel.state import State
from power_loop.posting import Posts
from power_loop.runtime.noted import KeyTaken
from power_loop.runtime.openings import Opening, Resume, Say
from power_loop.runtime.openings_worker import HearKey
from power_loop.runtime.outcome import as_it_ended, result_of
from power_loop.runtime.patience import Patience
from power_loop.terms import Call

if TYPE_CHECKING:
    from power_loop.store.sql_store import SessionStore


class KeyedSends(Posts):
    """Drives a session for a key, unless somebody did."""

    if TYPE_CHECKING:

        async def drive(self, session_id: str, opening: Opening, call: Call, patience: Patience) -> StatefulResult: ...

        async def _recall_output(self, result: StatefulResult, state: State, call: Call) -> None: ...

    async def drive_once(self, session_id: str, say: Say, key: str, call: Call, patience: Patience) -> StatefulResult:
        """`drive`, but once only for ``key``."""
        store, _ = await self.open()
        index = await store.send_of_key(session_id, key)
        if index == 0:  # it waits in the inbox
            return await self._hear_key(session_id, say, key, call, patience)
        if index is not None:
            return await self._outcome(store, session_id, index, call, patience)
        result = await self._drive_unless_begun(session_id, say, key, call, patience)
        return result if result is not None else await self.drive_once(session_id, say, key, call, patience)

    async def _drive_unless_begun(self, session_id: str, say: Say, key: str, call: Call, patience: Patience) -> StatefulResult | None:
        """`drive`; None where somebody else began the send of ``key`` while this one stood in line."""
        try:
            return await self.drive(session_id, say, call, patience)
        except KeyTaken:
            return None
        except SessionPendingError:  # its open calls may be those of that very send
            store, _ = await self.open()
            if not await store.send_of_key(session_id, key):
                raise
            return None

    async def _hear_key(self, session_id: str, say: Say, key: str, call: Call, patience: Patience) -> StatefulResult:
        """What was posted under ``key`` is heard now, if its time has come; the outcome of the send that hears it."""
        store, _ = await self.open()
        waiting = next((item for item in await store.inbox(session_id, due=False) if item.key == key), None)
        if waiting is not None:
            await self._clock.sleep(max(0, (waiting.not_before or 0) - self._clock.now_ms()) / 1000)
            result = await self._drive_unless_begun(session_id, HearKey(None, say.heal_pending), key, call, patience)
            # Where nothing was driven, another driver heard it first, and may not be done.
            if result is not None and result.rounds and result.send_index == await store.send_of_key(session_id, key):
                return result
        return await self.drive_once(session_id, say, key, call, patience)

    async def _outcome(self, store: SessionStore, session_id: str, index: int, call: Call, patience: Patience) -> StatefulResult:
        """The outcome of a send that was begun before; the last one is waited for, and goes on when it was cut off."""
        if index == (await store.look(session_id)).send_index:
            result = await self.drive(session_id, Resume(broken_only=True), call, patience)
            if result.send_index == index:
                return result
        session = await as_it_ended(store, session_id, index)
        result = result_of(session, rounds=0)
        if session.state.tool_calls:
            await (await self.open())[1].with_others(session, result)
        await self._recall_output(result, session.state, call)
        return result
