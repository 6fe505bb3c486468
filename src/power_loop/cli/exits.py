"""How a command ends: its exit code, and one line that says why."""

from __future__ import annotations

import sys

from power_loop.cli.screen import seen
from power_loop.contracts.errors import ApprovalError, SessionBusyError, SessionNotFoundError, SessionPendingError

OK, FAILED, USAGE, NOT_FOUND, BUSY_OR_PENDING = range(5)


class CommandFailed(Exception):
    """The command cannot go on; ``code`` is the exit code."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


def complain(error: Exception) -> int:
    """Say on standard error, in one line, what failed; the exit code."""
    print(f"power-loop: {seen(first_line(error))}", file=sys.stderr, flush=True)
    return code_of(error)


def code_of(error: Exception) -> int:
    match error:
        case CommandFailed():
            return error.code
        case SessionNotFoundError():
            return NOT_FOUND
        case SessionBusyError() | SessionPendingError() | ApprovalError():
            return BUSY_OR_PENDING
        case _:
            return FAILED


def first_line(error: Exception) -> str:
    """The first line of what it says: a schema error carries its DDL below."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
