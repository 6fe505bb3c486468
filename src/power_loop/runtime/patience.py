"""Waiting for a session that another process drives: how long, and our place in the line."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from power_loop.contracts.errors import PowerLoopError, SessionBusyError
from power_loop.contracts.store import Conflict
from power_loop.runtime.lifeline import Lifeline, pass_over_the_dead
from power_loop.runtime.ports import Ports
from power_loop.runtime.session import Session

# The first in line looks this often; the others, who need only notice that they moved up, less and less often.
FIRST_POLL_S, LINE_POLL_S = 0.005, 0.05
# A waiting ticket counts for three seconds after its last sign of life.
SIGN_OF_LIFE_S = 1.0


class Patience(Protocol):
    """What to do when somebody else drives the session: as configured (`RunPolicy` is one), or as a call says."""

    @property
    def on_busy(self) -> str:
        """``wait`` or ``raise``."""
        ...

    @property
    def busy_timeout_s(self) -> float | None:
        """How long to wait; None: as long as it takes."""
        ...


class OwnPatience(NamedTuple):
    """That of one call."""

    on_busy: str = "wait"
    busy_timeout_s: float | None = None


class Place:
    """Our place in the line for one session."""

    def __init__(self, ports: Ports, session_id: str, patience: Patience, lifeline: Lifeline) -> None:
        self._ports, self._session_id, self._patience, self._lifeline = ports, session_id, patience, lifeline
        self.ticket: int | None = None
        self._since: float | None = None
        self._signed = 0.0
        self._poll_s = FIRST_POLL_S

    async def wait(self, session: Session) -> None:
        """Wait a little, in line. Raises `SessionBusyError` when the caller does not want to wait (any longer)."""
        clock = self._ports.clock
        now = clock.monotonic()
        if self._since is None:
            self._since = now
        timeout_s = self._patience.busy_timeout_s
        if self._patience.on_busy == "raise" or (timeout_s is not None and now - self._since >= timeout_s):
            raise SessionBusyError(self._session_id, holder=session.head.holder, expires_at=session.head.lease_until)
        if self.ticket is None:
            await self.stand()
            return
        first = session.head.first_ticket in (None, self.ticket)
        if now - self._signed > SIGN_OF_LIFE_S:
            self._signed = now
            if not await self._ports.log.still_waiting(self.ticket):  # we were stopped for so long that it was swept up
                self.ticket = None
                return
            if session.head.first_ticket is not None and not first:
                await pass_over_the_dead(self._ports.log, self._lifeline, session.head.first_ticket)
        self._poll_s = FIRST_POLL_S if first else min(2 * self._poll_s, LINE_POLL_S)
        await clock.sleep(self._poll_s * self._ports.ids.uniform(0.5, 1.0))

    async def stand(self) -> None:
        """Stand in line. Who looked, saw the session free and lost the race does so too, or the quicker one always wins."""
        if self.ticket is None:
            self.ticket = await self._ports.log.queue_up(self._session_id, self._ports.holder)
            self._signed = self._ports.clock.monotonic()

    async def leave(self) -> None:
        """Give the place up; it would also be forgotten by itself."""
        if self.ticket is not None:
            try:
                await self._ports.log.leave_line(self.ticket)
            except (PowerLoopError, Conflict):
                return
