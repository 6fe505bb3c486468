"""What a record adds to the counters of its session."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import add
from typing import Any

from power_loop.contracts.made import made
from power_loop.contracts.records import ROUNDS, CallCharged, ModelReplied, Record, RoundSkipped, SendEnded, ToolReturned
from power_loop.contracts.store import NO_TALLY, Tally
from power_loop.contracts.usage import CallUsage
from power_loop.kernel.state import State, finishes

ONE_SEND, ONE_ROUND, ONE_TOOL_CALL = Tally(sends=1), Tally(rounds=1), Tally(tool_calls=1)


def counts(before: State, record: Record) -> Tally:
    """The tally of ``record`` in the state before it. A send counts once, however often it is resumed."""
    counted = COUNTED.get(type(record))
    return counted(before, record) if counted is not None else NO_TALLY


def _reply(_: State, record: ModelReplied) -> Tally:
    purpose = record.purpose
    return NO_TALLY if purpose == "degraded" else _charged(record.usage, 1 if purpose in ROUNDS else 0)


def _end(before: State, record: SendEnded) -> Tally:
    return NO_TALLY if before.counted or not finishes(record.status) else ONE_SEND


def _result(_: State, record: ToolReturned) -> Tally:
    return ONE_TOOL_CALL if record.ran else NO_TALLY


def _charge(_: State, record: CallCharged) -> Tally:
    return _charged(record.usage)


def _round(_: State, __: RoundSkipped) -> Tally:
    return ONE_ROUND


def _charged(usage: CallUsage, rounds: int = 0) -> Tally:
    prompt, completion, _, _, _, calls, cost, _ = usage
    return made(Tally, (0, rounds, calls, 0, prompt, completion, cost or 0.0))


COUNTED: Mapping[type[Record], Callable[[State, Any], Tally]] = {
    ModelReplied: _reply,
    SendEnded: _end,
    ToolReturned: _result,
    CallCharged: _charge,
    RoundSkipped: _round,
}
"""What counts; all other records add nothing."""


def joined(tallies: Iterable[Tally]) -> Tally:
    """All of ``tallies`` in one."""
    total = NO_TALLY
    for tally in tallies:
        if tally is not NO_TALLY:
            total = tally if total is NO_TALLY else made(Tally, map(add, total, tally))
    return total
