"""Events as lines of a log."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from typing import Any

import pytest

from power_loop import AgentEvent, AgentEventBus
from power_loop.contrib.logging_sink import attach_logging_sink
from power_loop.testing import call, say


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())

    @property
    def told(self) -> list[Any]:
        return [json.loads(text) for text in self.texts]


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def logger(lines: Lines) -> logging.Logger:
    logger = logging.Logger("test", logging.INFO)
    logger.addHandler(lines)
    return logger


# acceptance: 60
async def test_each_event_is_one_line_of_json_until_the_sink_is_closed(stage: Any, lines: Lines, logger: logging.Logger) -> None:
    sink = attach_logging_sink(stage.bus, logger=logger)
    loop = stage.loop(call("look", at="x\ny"), say("done"), say("later"))
    await loop.run("go")
    assert all("\n" not in text for text in lines.texts)
    assert [each["event"] for each in lines.told] == [str(event.type) for event in stage.heard]
    assert set(lines.told[0]) == {"event", "seq", "ts", "session_id", "round_index", "source", "payload"}
    assert [each["seq"] for each in lines.told] == [event.seq for event in stage.heard]
    count = len(lines.texts)
    sink.close()
    sink.close()
    await loop.run("go on")
    assert len(lines.texts) == count


# acceptance: 60 (a filter)
async def test_a_filter_admits_only_its_types_and_the_others_are_not_even_built(
    tmp_path: Any, lines: Lines, logger: logging.Logger
) -> None:
    bus = AgentEventBus()
    attach_logging_sink(bus, logger=logger, events=["round_started", "session_ended"])
    for type in ("round_started", "session_ended", "stream_delta"):
        bus.publish(AgentEvent(type, {"reason": "x"}))
    assert [each["event"] for each in lines.told] == ["round_started", "session_ended"]
    assert not bus.wants("stream_delta")


# acceptance: 60 (long fields), 178 (the log)
def test_long_fields_are_cut_and_secrets_hidden(lines: Lines, logger: logging.Logger) -> None:
    bus = AgentEventBus()
    attach_logging_sink(bus, logger=logger, max_field_len=10)
    bus.publish(AgentEvent("own", {"text": "x" * 30, "api_key": "abc", "header": "Bearer " + "t0k" * 9, "total_tokens": 12}))
    assert lines.told[0]["payload"] == {"text": "x" * 10 + "… (+20 chars)", "api_key": "***", "header": "Bearer ***", "total_tokens": 12}


def test_the_level_decides_and_a_silent_logger_costs_no_line(lines: Lines, logger: logging.Logger) -> None:
    bus = AgentEventBus()
    attach_logging_sink(bus, logger=logger, level=logging.DEBUG)
    bus.publish(AgentEvent("own", {"a": 1}))
    assert lines.texts == []


# acceptance: 60 (a raising handler)
@pytest.mark.usefixtures("caplog")
def test_a_handler_that_raises_is_counted_and_disturbs_nobody(logger: logging.Logger) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("full")

    logger.addHandler(Broken())
    bus = AgentEventBus(suppress_subscriber_errors=False)
    sink = attach_logging_sink(bus, logger=logger)
    bus.publish(AgentEvent("own", {}))
    bus.publish(AgentEvent("own", {}))
    assert (sink.errors, bus.errors) == (2, 0)


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        assert not hasattr(record, "seen")
        record.seen = True  # handlers and filters may write on a record; the next one must not show it
        self.records.append(record)


def test_every_record_says_what_the_logging_module_would() -> None:
    bus, kept, logger = AgentEventBus(), Kept(), logging.Logger("events")
    logger.addHandler(kept)
    attach_logging_sink(bus, logger=logger)
    threads = [threading.Thread(target=bus.publish, args=(AgentEvent("own", {"n": n}),), name=f"thread-{n}") for n in range(2)]
    for thread in threads:
        thread.start()
        thread.join()
    events = [AgentEvent("own", {"n": n}, ts=1e9 + n + 0.25) for n in range(3)]
    for event in events:
        bus.publish(event)
    assert [record.threadName for record in kept.records] == ["thread-0", "thread-1", *[threading.current_thread().name] * 3]
    usual = logger.makeRecord("events", logging.INFO, "(events)", 0, "", (), None)
    for record, event in zip(kept.records[2:], events, strict=True):
        assert record.__dict__.keys() == {*usual.__dict__, "seen"}
        assert (record.created, record.msecs) == (event.ts, 250)
        assert (record.process, record.processName, record.name, record.levelno) == (
            usual.process,
            usual.processName,
            "events",
            logging.INFO,
        )


async def test_a_record_names_the_task_that_published() -> None:
    bus, kept, logger = AgentEventBus(), Kept(), logging.Logger("events")
    logger.addHandler(kept)
    attach_logging_sink(bus, logger=logger)

    async def tell() -> None:
        bus.publish(AgentEvent("own", {}))

    for name in ("one", "two"):
        await asyncio.create_task(tell(), name=name)
    assert [getattr(record, "taskName", name) for record, name in zip(kept.records, ("one", "two"), strict=True)] == ["one", "two"]


def test_records_that_the_host_makes_are_made_by_it_each_time() -> None:
    made: list[str] = []

    class Own(logging.Logger):
        def makeRecord(self, *args: Any, **more: Any) -> logging.LogRecord:
            made.append("own")
            return super().makeRecord(*args, **more)

    bus = AgentEventBus()
    attach_logging_sink(bus, logger=Own("events"))
    for _ in range(3):
        bus.publish(AgentEvent("own", {}))
    assert made == ["own"] * 3
