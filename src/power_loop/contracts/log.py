"""The package's own log: every line of it passes here on its way out, and loses its secrets.

A module says ``from power_loop.contracts.log import log`` and has no other way to one. Levels, handlers and formats are
the host's, on the loggers ``power_loop`` and, for MCP, ``power_loop.mcp``.
"""

from __future__ import annotations

import logging
import traceback

NAME = "power_loop"


def without_secrets(record: logging.LogRecord) -> bool:
    """Hide the secrets of ``record``: in its text, its traceback and its stack. One without any is left as it was made.

    A filter of the logger, so it stands before every handler, those of the host too. A traceback with a secret stays as a
    text only: handlers that read exceptions for themselves would find the secret there.
    """
    from power_loop.contracts.redact import redact_text  # only a line of the log needs the patterns

    text = told_by(record)
    if (clean := redact_text(text)) != text:
        record.msg, record.args = clean, None
    if record.exc_info and record.exc_info[0] is not None:
        text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        if (clean := redact_text(text)) != text:
            record.exc_info, record.exc_text = None, clean
    if record.stack_info:
        record.stack_info = redact_text(record.stack_info)
    return True


def told_by(record: logging.LogRecord) -> str:
    """Its text. A handler would only complain of a value that has none; nor may it break whoever logs."""
    try:
        return record.getMessage()
    except Exception as error:  # the value's own code, such as an exception of the host's
        record.msg, record.args = f"{record.msg} [its values cannot be written: {type(error).__name__}]", None
        return str(record.msg)


def logger_of(name: str) -> logging.Logger:
    """The logger ``name``, which loses secrets."""
    logger = logging.getLogger(name)
    logger.addFilter(without_secrets)
    return logger


log: logging.Logger = logger_of(NAME)
mcp_log: logging.Logger = logger_of(f"{NAME}.mcp")
# A library says nothing unless its host asks to hear it.
log.addHandler(logging.NullHandler())
