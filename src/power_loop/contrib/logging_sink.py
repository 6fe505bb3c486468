"""Events into the `logging` module: one line of JSON for each, secrets hidden, long fields cut."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from typing import Any

from power_loop.contracts.events import AgentEvent, EventBusProtocol
from power_loop.contrib.redact import Redactor
from power_loop.contrib.sink import Sink, only

__all__ = ["LoggingSink", "attach_logging_sink"]

LOGGER = "power_loop.events"


class LoggingSink(Sink):
    """What `attach_logging_sink` gives: ``close()`` detaches it, ``errors`` counts what could not be logged."""

    def __init__(self, bus: EventBusProtocol, logger: logging.Logger, level: int, events: Iterable[str] | None, redactor: Redactor) -> None:
        self._logger, self._level, self._redactor = logger, level, redactor
        super().__init__(bus, self._log, only(events))

    def _log(self, event: AgentEvent) -> None:
        if self._logger.isEnabledFor(self._level):
            self._logger.log(self._level, "%s", _encode(self._line(event)))

    def _line(self, event: AgentEvent) -> dict[str, Any]:
        return {
            "event": str(event.type),
            "seq": event.seq,
            "ts": event.ts,
            "session_id": event.session_id,
            "round_index": event.round_index,
            "source": event.source,
            "payload": self._redactor(event.payload),
        }


def attach_logging_sink(
    bus: EventBusProtocol,
    *,
    logger: logging.Logger | str | None = None,
    level: int = logging.INFO,
    events: Iterable[str] | None = None,
    max_field_len: int = 500,
    redact_keys: Iterable[str] | None = None,
    redact_values: bool = True,
) -> LoggingSink:
    """Log each event of ``bus`` (of the types in ``events``, if given) as one line of JSON at ``level``.

    ``logger`` is ``power_loop.events`` by default; strings longer than ``max_field_len`` characters are cut.
    """
    chosen = logger if isinstance(logger, logging.Logger) else logging.getLogger(logger or LOGGER)
    redactor = Redactor(redact_keys=redact_keys, redact_values=redact_values, max_field_len=max_field_len)
    return LoggingSink(bus, chosen, level, events, redactor)


_encode = json.JSONEncoder(separators=(",", ":"), default=str).encode
