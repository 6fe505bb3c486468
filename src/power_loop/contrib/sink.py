"""What every sink is: attached to a bus, fed from its events alone, counted when it fails, detached by `close`."""

from __future__ import annotations

from collections.abc import Iterable

from power_loop.contracts.events import AgentEvent, EventBusProtocol, EventHandler
from power_loop.contracts.log import log


class Sink:
    """Hears the events of ``types`` (None for all) until it is closed.

    What hearing one raises is counted in ``errors`` and logged the first time: a full disk or a missing backend never
    disturbs a run, on any bus.
    """

    def __init__(self, bus: EventBusProtocol, hear: EventHandler, types: Iterable[str] | None = None) -> None:
        self.errors: int = 0
        self.closed: bool = False
        self._bus, self._hear = bus, hear
        for type in (None,) if types is None else dict.fromkeys(map(str, types)):
            bus.subscribe(type, self._heard)

    def close(self) -> None:
        """Hear nothing any more. Closing twice is fine."""
        self.closed = True
        self._bus.unsubscribe(self._heard)

    def failed(self, error: BaseException, events: int = 1) -> None:
        """Count a failure of this sink, once for each of the ``events`` that it lost; the first is logged."""
        self.errors += events
        if self.errors == events:
            log.error("the sink %s failed; later failures of it are only counted", type(self).__name__, exc_info=error)

    def _heard(self, event: AgentEvent) -> None:
        if self.closed:
            return
        try:
            self._hear(event)
        except Exception as error:  # the backend's, or a payload of the host's own
            self.failed(error)


def only(events: Iterable[str] | str | None, known: Iterable[str] | None = None) -> tuple[str, ...] | None:
    """The types that a sink subscribes to: those that were asked for, of those that it ``known``-ly uses. None is all."""
    if events is None:
        return None if known is None else tuple(map(str, known))
    asked = (events,) if isinstance(events, str) else tuple(events)
    wanted = tuple(dict.fromkeys(map(str, asked)))
    return wanted if known is None else tuple(type for type in map(str, known) if type in wanted)
