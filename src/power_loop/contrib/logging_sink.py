"""Events into the `logging` module: one line of JSON for each, secrets hidden, long fields cut."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterable
from typing import Any

from power_loop.contracts.events import AgentEvent, EventBusProtocol
from power_loop.contracts.forks import mind_forks
from power_loop.contrib.redact import Redactor, word
from power_loop.contrib.seen import Seen
from power_loop.contrib.sink import Sink, only

__all__ = ["LoggingSink", "attach_logging_sink"]

LOGGER = "power_loop.events"


class Here(threading.local):
    """What records that are made in this thread have in common: what one said that nobody got."""

    like: dict[str, Any] | None = None


class LoggingSink(Sink):
    """What `attach_logging_sink` gives: ``close()`` detaches it, ``errors`` counts what could not be logged."""

    def __init__(self, bus: EventBusProtocol, logger: logging.Logger, level: int, events: Iterable[str] | None, redactor: Redactor) -> None:
        self._logger, self._level, self._redactor = logger, level, redactor
        self._types = Seen(word)
        self._makes_its_own = type(logger).makeRecord is not logging.Logger.makeRecord
        self._begin_anew()
        mind_forks(self, in_child=LoggingSink._begin_anew)
        super().__init__(bus, self._log, only(events))

    def _begin_anew(self) -> None:
        """Also in a forked child: records say which process they are of."""
        self._here = Here()

    def _log(self, event: AgentEvent) -> None:
        logger = self._logger
        if logger.isEnabledFor(self._level):
            line = self._line(event)
            plain = not self._makes_its_own and logging.getLogRecordFactory() is logging.LogRecord
            logger.handle(self._record(line, event.ts) if plain else self._made(line))

    def _record(self, line: str, at: float) -> logging.LogRecord:
        """As the logger makes it, of the time of the event. Where in the code it was logged says nothing, and finding out costs."""
        like = self._here.like
        if like is None:
            like = self._here.like = self._made("").__dict__
        record = logging.LogRecord.__new__(logging.LogRecord)
        told = record.__dict__ = like.copy()
        told["msg"], told["created"], told["msecs"] = line, at, at % 1 * 1000 // 1
        told["relativeCreated"] = (at - like["created"]) * 1000 + like["relativeCreated"]
        if "taskName" in told:
            told["taskName"] = _task_name()
        return record

    def _made(self, line: str) -> logging.LogRecord:
        return self._logger.makeRecord(self._logger.name, self._level, "(events)", 0, line, (), None)

    def _line(self, event: AgentEvent) -> str:
        return f'{{"event":{self._types[event.type]},{self._redactor.shown(event)}'


def _task_name() -> str | None:
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop
        return None
    return None if task is None else task.get_name()


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
