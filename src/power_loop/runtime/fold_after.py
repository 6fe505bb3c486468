"""Folding after a send: the summary is made once the result is handed out, without the lease.

Records do not change, so nobody needs to hold the session meanwhile. What comes of it is posted to the inbox, and
whoever drives the session next hears it first; only a next send of the same process waits for it.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from power_loop.context.fold import Cut, cut, due, of_messages
from power_loop.contracts.cancel import CancellationToken
from power_loop.contracts.errors import PowerLoopError
from power_loop.contracts.log import log
from power_loop.contracts.records import CallCharged, ContextFolded, FoldSkipped
from power_loop.contracts.store import Conflict
from power_loop.contracts.to_end import to_its_end
from power_loop.contracts.usage import NO_USAGE
from power_loop.runtime.afterwards import Aftermath, finish
from power_loop.runtime.asking import ask
from power_loop.runtime.cancel import Scope
from power_loop.runtime.folding import Folding
from power_loop.runtime.send import Send

# How a send ends after which its session goes on. One that failed, or spent all it had, is not the time to call a model.
GOES_ON = ("completed", "hit_round_limit", "invalid_output")


def due_after(send: Send) -> Cut | None:
    """What to fold now that ``send`` is over; None for nothing."""
    terms, window = send.terms, send.session.window
    settings, head = terms.settings, terms.head_tokens
    if not due(window, head, terms.limits.fold_at_tokens, settings.context_tokens or 0):
        return None
    state = send.session.state
    if settings.context_tokens is None or not state.idle or state.status not in GOES_ON:
        return None
    return cut(window, settings.fold.keep_last_sends, of_messages(window, head, settings.fold_target_tokens))


FoldTable = dict[tuple[object, str], "FoldAfter"]
"""(where a session is kept, its id) → its fold under way."""


class FoldsAfter:
    """The folds that a loop makes after its sends, one per session. Safe from any thread.

    ``under_way`` may be shared by the loops of a process; ``place`` then says where the sessions of this one are kept.
    """

    def __init__(self, place: object = None, under_way: FoldTable | None = None) -> None:
        self._place, self._under_way = place, under_way if under_way is not None else {}
        self._lock = threading.Lock()
        self._own: set[FoldAfter] = set()

    def begin(self, send: Send, part: Cut) -> None:
        """Fold ``part`` in a task of its own, on the event loop of the send."""
        with self._lock:
            if self.busy(send.session_id):
                return
            self._under_way[self._place, send.session_id] = fold = FoldAfter(send, part)
            self._own.add(fold)
        fold.start(fold.run(), "fold", lambda: self._forget(fold))

    def busy(self, session_id: str) -> bool:
        """A fold of this session is under way."""
        return (self._place, session_id) in self._under_way

    async def settled(self, session_id: str, cancel: CancellationToken | None = None) -> None:
        """Wait for the fold of this session, no longer than a fold may take, and not once ``cancel`` is."""
        fold = self._under_way.get((self._place, session_id))
        if fold is None:
            return
        if not fold.goes_on:
            self._forget(fold)
            return
        awaited: set[asyncio.Future[Any]] = {asyncio.wrap_future(fold.done)}
        token = asyncio.ensure_future(cancel.wait()) if cancel is not None else None
        if token is not None:
            awaited.add(token)
        try:
            await asyncio.wait(awaited, timeout=fold.timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if token is not None:
                token.cancel()

    def give_up(self, session_id: str) -> None:
        """Make no fold of this session, which is deleted."""
        fold = self._under_way.get((self._place, session_id))
        if fold is not None:
            fold.cancel()

    async def finish(self, timeout_s: float) -> None:
        """Wait for the folds of this loop, then cancel those that are left."""
        with self._lock:
            folds = list(self._own)
        await finish(folds, timeout_s)

    def _forget(self, fold: FoldAfter) -> None:
        with self._lock:
            self._under_way.pop((self._place, fold.session_id), None)
            self._own.discard(fold)


class FoldAfter(Aftermath):
    """One fold under way."""

    def __init__(self, send: Send, part: Cut) -> None:
        super().__init__(send.session_id)
        self.timeout_s: float = send.terms.settings.fold_timeout_s
        self._send, self._charges = send, list[CallCharged]()
        self._folding = Folding(send, part, Scope(), self._charges.append)
        self._at = send.session.head.head
        self._last = send.session.last

    async def run(self) -> None:
        """Make it and post it; raises nothing but what cancels the task."""
        try:
            await self._fold()
        except (Conflict, PowerLoopError) as error:  # the session was closed, or the database is away: history is as it was
            log.warning("session %s: a fold was not kept: %s", self.session_id, error)
        except Exception:  # a handler's; its send is over, so it can end nothing
            log.warning("session %s: a handler at a fold raised", self.session_id, exc_info=True)

    async def _fold(self) -> None:
        count = len(self._send.session.window.messages)
        try:
            record = await self._folding.made()
        except asyncio.CancelledError:
            await to_its_end(self._post_charges())
            raise
        await self._post_charges()
        skipped = "" if isinstance(record, ContextFolded) else f":skipped:{self._at}"
        await self._post(record, f"fold:{record.through}{skipped}")
        if isinstance(record, ContextFolded) and "compact.after" in self._send.ports.hooks.standing:
            messages = self._folding.shown_after(record)
            await ask(self._send, "compact.after", messages=messages, messages_before_count=count, messages_after_count=len(messages))

    async def _post_charges(self) -> None:
        """What it cost, in one record: it was paid whatever became of it."""
        if self._charges:
            usage = NO_USAGE
            for charge in self._charges:
                usage = usage.plus(charge.usage)
            last = self._charges[-1]
            await self._post(CallCharged("fold", usage, last.error, last.model), f"fold:{self._folding.part.through}:charge:{self._at}")

    async def _post(self, record: ContextFolded | FoldSkipped | CallCharged, key: str) -> None:
        await self._send.ports.log.post(self.session_id, record, key=key, mode="aside", last=self._last)
