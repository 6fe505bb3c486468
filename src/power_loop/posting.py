"""Words that a loop leaves for others: in a session's inbox, or for the send that runs there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from power_loop.contracts.cancel import CancellationToken
from power_loop.contracts.clock import Clock, Ids
from power_loop.contracts.errors import SessionArchivedError
from power_loop.contracts.outcome import FollowUpQueued
from power_loop.contracts.records import Record, StopRequested, UserSaid
from power_loop.contracts.rows import RUN_PREFIX, SessionKind, takes_no_words
from power_loop.contracts.store import Conflict
from power_loop.runtime.drive import Driver
from power_loop.runtime.lifeline import Lifeline
from power_loop.runtime.patience import LINE_POLL_S
from power_loop.runtime.tell import publish

if TYPE_CHECKING:
    from power_loop.loop import StatefulAgentLoop
    from power_loop.store.sql_store import SessionStore
    from power_loop.workflow.engine import Run


async def refuse_words_to_a_run(store: SessionStore, session_id: str) -> None:
    """Raise `ValueError` where the session is a run of a workflow: nobody would hear them."""
    if str(session_id).startswith(RUN_PREFIX) and (await store.get_session(session_id)).kind == SessionKind.WORKFLOW:
        raise takes_no_words(session_id)


class Posts:
    """Posts, steers, cancels; whatever drives the session, in whichever process."""

    _loop: StatefulAgentLoop
    _clock: Clock
    _ids: Ids
    _lifeline: Lifeline
    _driver: Driver | None
    runs: dict[str, Run]
    holder: str

    if TYPE_CHECKING:

        async def open(self) -> tuple[SessionStore, Driver]: ...

    async def post(
        self, session_id: str, record: Record, key: str | None, *, mode: str = "queue", not_before: int | None = None
    ) -> FollowUpQueued:
        """Leave ``record`` in the session's inbox."""
        store, _ = await self.open()
        if isinstance(record, UserSaid):
            await self._look(session_id)
            await refuse_words_to_a_run(store, session_id)
        keyed = key is not None and isinstance(record, UserSaid)
        key = key or self._ids.token(12)
        fresh = await store.post(session_id, record, key=key, mode=mode, not_before=not_before, keyed=keyed)
        await self._steer(session_id, mode)
        return await self._queued(store, session_id, key, fresh, mode)

    async def _steer(self, session_id: str, mode: str) -> None:
        """A word that steers was posted: the send that runs here need not wait until somebody looks."""
        store, driver = await self.open()
        send = driver.running.get(session_id) if mode == "steer" else None
        if send is not None:
            send.scope.steer((await store.look(session_id)).wake_no)

    async def _look(self, session_id: str) -> None:
        """Raises where no word can be left: `SessionNotFoundError`, `SessionArchivedError`."""
        if (await (await self.open())[0].look(session_id)).archived:
            raise SessionArchivedError(session_id)

    async def post_to_running(self, session_id: str, record: Record, key: str | None, mode: str = "queue") -> FollowUpQueued | None:
        """Leave ``record`` for the holder that runs the session now; None when nobody does, or ``key`` began a send of its own."""
        store, driver = await self.open()
        if key is not None and await store.item_id(session_id, key):
            return await self._queued(store, session_id, key, False, mode)
        if key is not None and await store.send_of_key(session_id, key) is not None:
            return None
        send = driver.running.get(session_id)
        head = send.session.head if send is not None else await store.look(session_id)
        if not head.held_at(self._clock.now_ms()):
            return None
        if isinstance(record, UserSaid):
            await refuse_words_to_a_run(store, session_id)
        keyed, key = key is not None, key or self._ids.token(12)
        try:
            fresh = await store.post(session_id, record, key=key, mode=mode, running=head, keyed=keyed)
        except Conflict:
            return None
        await self._steer(session_id, mode)
        return await self._queued(store, session_id, key, fresh, mode)

    async def _queued(self, store: SessionStore, session_id: str, key: str, fresh: bool, mode: str) -> FollowUpQueued:
        depth = len(await store.inbox(session_id))
        queued = FollowUpQueued(session_id, depth, await store.item_id(session_id, key), not fresh)
        if self._loop.event_bus.wants("follow_up_queued"):
            told = {"item_id": queued.item_id, "mode": mode, "queue_depth": depth}
            publish(self._loop.event_bus, "follow_up_queued", told, session_id=session_id)
        return queued

    async def until_free(self, session_id: str) -> None:
        """Wait for whoever drives the session elsewhere: until the lease was given back, or ran out, or its holder died."""
        store, _ = await self.open()
        while (head := await store.look(session_id)).holder not in (None, self.holder):
            if not head.held_at(self._clock.now_ms()) or self._lifeline.is_dead(head.holder):
                return
            await self._clock.sleep(LINE_POLL_S)

    async def cancel(self, session_id: str, stop: StopRequested) -> bool:
        """Stop the send that runs, here or elsewhere."""
        store, driver = await self.open()
        send = driver.running.get(session_id) or self.runs.get(session_id)
        if send is not None:
            send.scope.request(stop)
            return True
        head = await store.look(session_id)
        if not head.held_at(self._clock.now_ms()):
            return False
        try:
            await store.post(session_id, stop, key=f"cancel:{self._ids.token(12)}", running=head)
        except Conflict:
            return False
        return True

    def drives(self, session_id: str, token: CancellationToken) -> bool:
        """The send that runs here is the one that ``token`` stops."""
        send = self._driver.running.get(session_id) if self._driver is not None else None
        return send is not None and send.terms.cancel is token
