"""The package's own log lines lose their secrets on the way out, whichever module writes them and whoever listens."""

from __future__ import annotations

import ast
import io
import logging
import logging.config
from collections.abc import Iterator
from logging.handlers import QueueHandler
from queue import SimpleQueue
from typing import Any

import pytest

from power_loop import AgentEvent, AgentEventBus
from power_loop.contracts.log import log, mcp_log, without_secrets

SECRET = "hunter2hunter2"
DSN = f"postgresql://app:{SECRET}@db.example/app"


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What a handler of the host's writes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    root.addHandler(handler)
    yield stream
    root.removeHandler(handler)


def raised(text: str) -> Exception:
    try:
        raise ConnectionError(text)
    except ConnectionError as error:
        return error


# acceptance: 178 (log lines)
@pytest.mark.parametrize("logger", [log, mcp_log])
@pytest.mark.parametrize(("text", "values"), [
    (f"no answer from {DSN}", ()), ("no answer from %s", (DSN,)), ("asked with Authorization: %s", (f"Digest {SECRET}",)),
    ("%s=%s", ("password", SECRET)), ("told %s", ([{"api_key": SECRET}],)), ("headers %s", ([["Authorization", SECRET]],)),
])  # fmt: skip
def test_a_secret_in_a_line_is_hidden_wherever_the_pieces_come_from(
    logger: logging.Logger, text: str, values: tuple[Any, ...], written: io.StringIO
) -> None:
    logger.warning(text, *values)
    assert SECRET not in written.getvalue()
    assert "***" in written.getvalue()


# acceptance: 178 (tracebacks)
def test_a_secret_in_a_traceback_or_its_cause_is_hidden_and_the_rest_of_it_stays(written: io.StringIO) -> None:
    error = RuntimeError("the store is gone")
    error.__cause__ = raised(f"no answer from {DSN}")
    log.error("it failed", exc_info=error)
    told = written.getvalue()
    assert SECRET not in told
    assert "Traceback (most recent call last)" in told
    assert "ConnectionError: no answer from postgresql://app:***@db.example/app" in told
    assert told.rstrip().endswith("RuntimeError: the store is gone")


def test_a_queue_of_the_hosts_gets_no_secret_either() -> None:
    queue: SimpleQueue[logging.LogRecord] = SimpleQueue()
    handler = QueueHandler(queue)
    log.addHandler(handler)
    try:
        log.error("it failed", exc_info=raised(DSN), stack_info=True)
    finally:
        log.removeHandler(handler)
    assert SECRET not in str(queue.get().__dict__)


def test_a_line_without_a_secret_is_left_as_it_was_made() -> None:
    error = raised("the line is dead")
    record = log.makeRecord("power_loop", logging.WARNING, "f", 1, "session %s: %d", ("s1", 3), (type(error), error, None))
    before = dict(record.__dict__)
    assert without_secrets(record)
    assert record.__dict__ == before


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_a_value_without_a_text_does_not_break_whoever_logs(written: io.StringIO) -> None:
    log.warning("it failed: %s", Mute())
    try:
        raise Mute
    except Mute as error:
        log.error("it failed", exc_info=error)
    assert written.getvalue().startswith("it failed: %s [its values cannot be written: RuntimeError]\nit failed\nTraceback")


def test_an_adapter_and_caplog_see_the_line_without_its_secret(caplog: pytest.LogCaptureFixture) -> None:
    logging.LoggerAdapter(log, {"of": "the host"}).warning("no answer from %s", DSN)
    assert caplog.messages == ["no answer from postgresql://app:***@db.example/app"]


def test_it_holds_when_the_host_configures_logging_anew(written: io.StringIO) -> None:
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, "loggers": {"power_loop": {"level": "DEBUG"}}})
    try:
        log.debug("no answer from %s", DSN)
    finally:
        log.setLevel(logging.NOTSET)
    assert "postgresql://app:***@db.example/app" in written.getvalue()


def test_a_listener_that_raises_is_told_of_without_the_secret(written: io.StringIO) -> None:
    bus = AgentEventBus()

    def listen(event: AgentEvent) -> None:
        raise ConnectionError(f"no answer from {DSN}")

    bus.subscribe("own", listen)
    bus.publish(AgentEvent("own", {}))
    assert "postgresql://app:***@db.example/app" in written.getvalue()


# acceptance: 178 (no other way to a log)
def test_no_module_gets_its_log_another_way(repo: Any) -> None:
    """Only the sink that logs events does, for the logger of the host's choice; what it logs is redacted by then."""
    allowed = {"contracts/log.py", "contrib/logging_sink.py"}
    package = repo / "src" / "power_loop"
    wrong = [
        f"{path.relative_to(package)}:{node.lineno}"
        for path in sorted(package.rglob("*.py"))
        if path.relative_to(package).as_posix() not in allowed
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.ImportFrom) and node.module == "logging")
        or (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "logging" and not node.attr.isupper())
    ]  # fmt: skip
    assert not wrong, "say `from power_loop.contracts.log import log`: its lines lose their secrets"
