"""Events into the `logging` module: one line of JSON for each, secrets hidden, long fields cut."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from os import getpid
from threading import Thread, current_thread

from power_loop.contracts.events import AgentEvent, EventBusProtocol
from power_loop.contrib.redact import Redactor, word
from power_loop.contrib.seen import Seen
from power_loop.contrib.sink import Sink, only

__all__ = ["LoggingSink", "attach_logging_sink"]

LOGGER = "power_loop.events"


class LoggingSink(Sink):
    """What `attach_logging_sink` gives: ``close()`` detaches it, ``errors`` counts what could not be logged."""

    def __init__(self, bus: EventBusProtocol, logger: logging.Logger, level: int, events: Iterable[str] | None, redactor: Redactor) -> None:
        self._logger, self._level, self._redactor, self._words = logger, level, redactor, Seen(word)
        self._makes_its_own = type(logger).makeRecord is not logging.Logger.makeRecord
        self._like: tuple[Thread, logging.LogRecord] | None = None
        """A record that nobody gets: what it says of its thread and process is true of the next ones there. Threads by themselves:
        one that begins may be given the number of one that ended."""
        super().__init__(bus, self._log, only(events))

    def _log(self, event: AgentEvent) -> None:
        logger = self._logger
        if logger.isEnabledFor(self._level):
            logger.handle(self._record(event))

    def _record(self, event: AgentEvent) -> logging.LogRecord:
        """As the logger makes it, of the time of the event. Where in the code it was logged says nothing, and finding out costs."""
        line, at = self._line(event), event.ts
        if self._makes_its_own or logging.getLogRecordFactory() is not logging.LogRecord:
            return self._made(line)
        record, like = logging.LogRecord.__new__(logging.LogRecord), self._like_here()
        told = record.__dict__ = like.__dict__.copy()
        told["msg"], told["created"], told["msecs"] = line, at, at % 1 * 1000 // 1
        told["relativeCreated"] = like.relativeCreated + (at - like.created) * 1000
        if "taskName" in told:
            told["taskName"] = _task_name()
        return record

    def _like_here(self) -> logging.LogRecord:
        kept = self._like
        if kept is None or kept[0] is not current_thread() or kept[1].process != getpid():
            kept = self._like = current_thread(), self._made("")
        return kept[1]

    def _made(self, line: str) -> logging.LogRecord:
        return self._logger.makeRecord(self._logger.name, self._level, "(events)", 0, line, (), None)

    def _line(self, event: AgentEvent) -> str:
        words, (payload, ts) = self._words, self._redactor.shown(event)
        return (
            f'{{"event":{words[event.type]},"seq":{event.seq},"ts":{ts},"session_id":{words[event.session_id]},'
            f'"round_index":{words[event.round_index]},"source":{words[event.source]},"payload":{payload}}}'
        )


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
