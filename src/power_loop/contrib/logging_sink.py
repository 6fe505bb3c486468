"""Events into the `logging` module: one line of JSON for each, secrets hidden, long fields cut."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from power_loop.contracts.events import AgentEvent, EventBusProtocol
from power_loop.contrib.redact import Redactor, number, word
from power_loop.contrib.sink import Sink, only

__all__ = ["LoggingSink", "attach_logging_sink"]

LOGGER = "power_loop.events"


class LoggingSink(Sink):
    """What `attach_logging_sink` gives: ``close()`` detaches it, ``errors`` counts what could not be logged."""

    def __init__(self, bus: EventBusProtocol, logger: logging.Logger, level: int, events: Iterable[str] | None, redactor: Redactor) -> None:
        self._logger, self._level, self._redactor = logger, level, redactor
        super().__init__(bus, self._log, only(events))

    def _log(self, event: AgentEvent) -> None:
        logger = self._logger
        if logger.isEnabledFor(self._level):
            # Where in the code an event was logged says nothing, and finding out costs.
            logger.handle(logger.makeRecord(logger.name, self._level, "(events)", 0, self._line(event), (), None))

    def _line(self, event: AgentEvent) -> str:
        return (
            f'{{"event":{word(event.type)},"seq":{event.seq},"ts":{event.ts!r},"session_id":{word(event.session_id)},'
            f'"round_index":{number(event.round_index)},"source":{word(event.source)},"payload":{self._redactor.json(event.payload)}}}'
        )


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
