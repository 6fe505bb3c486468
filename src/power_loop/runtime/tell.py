"""Durable first, then told: what listeners hear of a send, in order.

While records are noted and not yet written, passing events wait behind them. Nothing is built that nobody
listens to: the bus is asked before a payload is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from power_loop.contracts.errors import StoreUnavailable
from power_loop.contracts.events import AgentEvent, BaseEventPayload
from power_loop.contracts.records import CallCharged, Record, SendEnded, SendRested
from power_loop.contracts.store import Post, RecordRow, SessionLog
from power_loop.runtime.told import INTERRUPTED, Written, event_of, payloads, told_of

if TYPE_CHECKING:
    from power_loop.runtime.bus import AgentEventBus
    from power_loop.runtime.session import Session

Passing = tuple[str, dict[str, Any], int | None]
"""(event type, fields of its payload, the round that it happened in)."""


class Teller:
    """Speaks to the bus for one send."""

    __slots__ = (
        "_began", "_bus", "_end", "_holds", "_last_index", "_over", "_payload", "_queue", "_raised", "_session", "depth", "max_rounds",
        "now_ms", "round_index", "send_index", "session_id", "takes_over",
    )  # fmt: skip

    def __init__(self, bus: AgentEventBus, session: Session, depth: int, max_rounds: int, now_ms: Any) -> None:
        self._bus, self._session = bus, session
        self._queue: list[Written | Passing] = []
        self._holds = False
        """What passes waits behind the queue: it would tell of what is not written yet, or out of order."""
        self._began = self._over = False
        self._end: RecordRow | None = None
        """The record that said how the run ended."""
        self._payload: Callable[[str, Mapping[str, Any]], tuple[Mapping[str, Any] | None, BaseEventPayload | None]] | None = None
        """What makes payloads: a send that nobody listens to loads none of it."""
        self._raised: BaseException | None = None
        """What a listener raised that may disturb a run; it waits until the run can bear it."""
        self.takes_over: bool = False
        """The run before this one was cut off and could not tell its own end."""
        self.session_id: str = session.head.session_id
        self.depth: int = depth
        self.max_rounds: int = max_rounds
        self.now_ms: Callable[[], int] = now_ms
        self.send_index: int = 0
        self._last_index = session.head.send_index
        """Of the send before this run: the same, where it goes on with that one."""
        self.round_index: int | None = None

    @property
    def silent(self) -> bool:
        """Nobody listens to anything."""
        return self._bus.silent

    def wants(self, type: str) -> bool:
        return not self._bus.silent and self._bus.wants(type)

    def wrote(self, written: Written) -> None:
        """A record was noted; it is told once it is written."""
        self._queue.append(written)
        # The deltas of the next attempt do not wait for the charge of the one that failed.
        self._holds = self._holds or not isinstance(written.record, CallCharged)

    def forget(self, record: Record) -> None:
        """A noted record was dropped before it was written."""
        self._queue = [told for told in self._queue if not (isinstance(told, Written) and told.record is record)]

    def begin(self, scope: str, agent: str) -> None:
        """The first event of every run. What ended the send before it is told first, what opens this one behind it."""
        self._open(scope, agent)
        self.flush()

    def _open(self, scope: str, agent: str) -> None:
        self._began = True
        if self._bus.silent:
            self._queue = []
            return
        self._tell_earlier()
        if self.wants("session_started"):
            resumed = self.send_index == self._last_index
            self._publish("session_started", {"scope": scope, "agent": agent, "resumed": resumed}, self.round_index)

    def _tell_earlier(self) -> None:
        """The end of the run before this one, unless it was told then."""
        earlier = [told for told in self._queue if isinstance(told, Written) and told.row.send_index != self.send_index]
        self._queue = [told for told in self._queue if told not in earlier]
        if self.takes_over and self.wants("session_ended"):
            send_index = earlier[0].row.send_index if earlier else self.send_index
            self._publish("session_ended", {"reason": INTERRUPTED}, self.round_index, send_index=send_index)
        self._tell(earlier)
        self._over = False

    def break_off(self, scope: str, agent: str) -> None:
        """The run fails before it could begin: it is begun all the same, so that its end has a beginning.

        What was noted is told once it is known to be written.
        """
        if not self._began:
            self._open(scope, agent)

    def ended(self, reason: str) -> None:
        """The run is over; said here where no record could say so."""
        if not self._over:
            passing = [told for told in self._queue if not isinstance(told, Written)]
            self._began, self._holds, self._queue = True, False, []
            self._tell(passing)
            self.say("session_ended", reason=reason)

    def say(self, type: str, **fields: Any) -> None:
        """A passing event: now, or behind the records that are not yet written."""
        if not self._bus.wants(type):
            return
        if self._holds or not self._began or (self._queue and not type.startswith(("llm_", "stream_"))):
            self._queue.append((type, fields, self.round_index))
        else:
            self._publish(type, fields, self.round_index)

    def flush(self) -> None:
        """All that was noted is written: tell it."""
        if not self._began:
            return
        self._holds = False
        if self._queue:
            queue, self._queue = self._queue, []
            self._tell(queue)

    def _tell(self, queue: Sequence[Written | Passing]) -> None:
        at = next((told.row.seq - 1 for told in queue if isinstance(told, Written)), None)
        for told in queue:
            if isinstance(told, Written):
                at = told.row.seq
                self._tell_record(told)
            else:
                self._publish(*told, at=at)

    def _tell_record(self, told: Written) -> None:
        row = told.row
        if isinstance(told.record, (SendEnded, SendRested)):
            self._end = row
        for n, telling in enumerate(told_of(told, self.max_rounds, self.now_ms())):
            if telling is not None and self._bus.wants(telling[0]):
                self._publish(*telling, row.round_index, row, n)

    def result(self, result: Any) -> None:
        """The last event of a run; it stands behind the end of the send in the same record."""
        if self.wants("result"):
            round_index = self.round_index if self._end is None else self._end.round_index
            self._publish("result", {"result": result}, round_index, self._end, 1)

    def answer_for_listeners(self) -> None:
        """Raise what a listener raised, on a bus that does not suppress it: all is written now, and everyone was told."""
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised

    def _publish(
        self, type: str, fields: dict[str, Any], round_index: int | None, row: RecordRow | None = None, n: int = 0, *,
        at: int | None = None, send_index: int | None = None,
    ) -> None:  # fmt: skip
        """Of ``row`` its ``n``-th event, or something passing, behind the record ``at``."""
        if type == "session_ended":
            self._over = True
        if self._payload is None:
            self._payload = payloads()
        payload, data = self._payload(type, fields)
        source = "subagent" if type.startswith("subagent_") else None
        if row is None:
            send_index, seq, cursor = self.send_index if send_index is None else send_index, None, self._place(at)
        else:
            send_index, seq, cursor = row.send_index, row.seq, f"{row.seq}.{n}"
        # By position: names cost a third more, and this is done for whatever happens.
        event = AgentEvent(
            type, payload, data, self.session_id, round_index, fields.get("stream_id"), source, None, None, None,
            send_index, self.depth, seq, cursor,
        )  # fmt: skip
        try:
            self._bus.publish(event)
        except (KeyboardInterrupt, SystemExit):
            raise  # of the host's user: the process is being stopped
        except BaseException as error:  # a listener's; the bus raises it only where it was told to
            self._raised = self._raised or error

    def _place(self, at: int | None) -> str:
        """Behind which record something passes, for whoever reads the records too: all of it that was told, or ``at``."""
        if at is None:
            at = self._session.head.head
            if self._queue:
                at = next((told.row.seq - 1 for told in self._queue if isinstance(told, Written)), at)
        return str(at)


def publish(bus: AgentEventBus, type: str, fields: dict[str, Any], **where: Any) -> None:
    """Build one event and hand it to the bus; call it only when somebody listens."""
    bus.publish(event_of(type, fields, **where))


async def tell_of_posts(bus: AgentEventBus, log: SessionLog, posts: Sequence[Post]) -> None:
    """What tools left for sessions stands in their inboxes now. How long those are is read only where somebody listens."""
    for session_id, key, _ in posts if bus.wants("follow_up_queued") else ():
        try:
            waiting = await log.inbox(session_id)
        except StoreUnavailable:  # it is there all the same
            return
        item = next((str(item.item_id) for item in waiting if item.key == key), "")
        told = {"item_id": item, "mode": "queue", "queue_depth": len(waiting)}
        publish(bus, "follow_up_queued", told, session_id=session_id)
