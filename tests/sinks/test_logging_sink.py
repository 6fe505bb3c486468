"""Events as lines of a log."""

from __future__ import annotations

import json
import logging
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
