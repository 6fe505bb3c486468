"""What a record adds to the counters of its session."""

from __future__ import annotations

from collections.abc import Iterable
from operator import add

from power_loop.contracts.made import made
from power_loop.contracts.records import ROUNDS, CallCharged, ModelReplied, Record, RoundSkipped, SendEnded, ToolReturned, UserSaid
from power_loop.contracts.store import NO_TALLY, Tally
from power_loop.contracts.usage import CallUsage
from power_loop.kernel.state import State, finishes

ONE_SEND, ONE_TOOL_CALL = Tally(sends=1), Tally(tool_calls=1)


def counts(before: State, record: Record) -> Tally:
    """The tally of ``record`` in the state before it. A send counts once, however often it is resumed."""
    match record:
        case UserSaid():
            return NO_TALLY
        case ModelReplied():
            return NO_TALLY if record.purpose == "degraded" else _charged(record.usage, rounds=int(record.purpose in ROUNDS))
        case SendEnded():
            return NO_TALLY if before.counted or not finishes(record.status) else ONE_SEND
        case ToolReturned():
            return ONE_TOOL_CALL if record.ran else NO_TALLY
        case CallCharged():
            return _charged(record.usage)
        case RoundSkipped():
            return Tally(rounds=1)
        case _:
            return NO_TALLY


def _charged(usage: CallUsage, rounds: int = 0) -> Tally:
    return made(Tally, (0, rounds, usage.calls, 0, usage.prompt, usage.completion, usage.cost or 0.0))


def joined(tallies: Iterable[Tally]) -> Tally:
    """All of ``tallies`` in one."""
    total = NO_TALLY
    for tally in tallies:
        if tally is not NO_TALLY:
            total = tally if total is NO_TALLY else made(Tally, map(add, total, tally))
    return total
