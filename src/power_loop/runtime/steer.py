"""What reaches a send under way from outside of its process: a stop, a word that steers, the loss of its lease.

All of it shows in the session's row. A send looks at that row whenever it writes; while it waits for a model or for
tools, somebody else looks for it, once a second, and cuts off what there is to cut off.
"""

from __future__ import annotations

from collections.abc import Sequence

from power_loop.contracts.records import StopRequested
from power_loop.contracts.store import SessionLog
from power_loop.runtime.cancel import Scope
from power_loop.runtime.send import Send
from power_loop.runtime.session import Session

# The next write under a lease that was lost fails; until then there is no use in paying a model or running tools.
LOST = StopRequested("cancelled", "another driver took the session over", "lease")


class Watched:
    """A send in hand, as its watcher sees it. What it reads of the session is only ever replaced, never changed."""

    scope: Scope | None
    session: Session
    since: float

    def __init__(self, session: Session, scope: Scope | None, since: float) -> None:
        self.session, self.scope, self.since = session, scope, since
        self.epoch: int = session.head.epoch
        self.seen: int = 0
        """``wake_no`` up to which the inbox was looked at for it; the send may have looked further itself."""
        self.renewed_until = 0
        """ms; by the heartbeat. The session knows only of what the send itself wrote."""

    @property
    def lease_until(self) -> int:
        """ms; 0 when it was given back."""
        until = self.session.head.lease_until
        return max(until, self.renewed_until) if until else 0


async def look_after(log: SessionLog, sends: Sequence[Watched]) -> None:
    """One look at the rows of ``sends``, and at the inbox of those to whom something was said."""
    rows = await log.wakes([send.session.head.session_id for send in sends])
    for send in sends:
        epoch, wake_no = rows.get(send.session.head.session_id, (None, 0))
        if send.scope is None:
            continue
        if epoch != send.epoch:  # somebody else has it, or it was deleted
            send.scope.request(LOST)
        elif wake_no > max(send.seen, send.session.head.wake_no):
            await pass_on(log, send.session.head.session_id, send.scope, wake_no)
            send.seen = wake_no


async def pass_on(log: SessionLog, session_id: str, scope: Scope, wake_no: int) -> None:
    """Tell the send what cannot wait for its next write."""
    for item in await log.inbox(session_id):
        if isinstance(item.record, StopRequested):
            scope.request(item.record)
        elif item.mode == "steer":
            scope.steer(wake_no)


async def hear_steering(send: Send) -> None:
    """The model call was cut off. For a word that steers: scan the inbox, so that the next request has it."""
    if send.scope.stop is None:
        await send.scan()
