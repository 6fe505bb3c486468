"""What a record adds to the counters of its session."""

from __future__ import annotations

from power_loop.contracts.records import CallCharged, ModelReplied, Record, RoundSkipped, SendEnded, ToolReturned, UserSaid
from power_loop.contracts.store import NO_TALLY, Tally
from power_loop.contracts.usage import CallUsage
from power_loop.kernel.state import State, finishes


def counts(before: State, record: Record) -> Tally:
    """The tally of ``record`` in the state before it. A send counts once, however often it is resumed."""
    match record:
        case UserSaid():
            return NO_TALLY
        case ModelReplied():
            return NO_TALLY if record.purpose == "degraded" else _charged(record.usage, rounds=int(record.purpose == "round"))
        case SendEnded():
            return NO_TALLY if before.counted or not finishes(record.status) else Tally(sends=1)
        case ToolReturned():
            return Tally(tool_calls=1) if record.ran else NO_TALLY
        case CallCharged():
            return _charged(record.usage)
        case RoundSkipped():
            return Tally(rounds=1)
        case _:
            return NO_TALLY


def _charged(usage: CallUsage, rounds: int = 0) -> Tally:
    return Tally(0, rounds, usage.calls, 0, usage.prompt, usage.completion, usage.cost or 0.0)


def joined(tallies: list[Tally]) -> Tally:
    """All of ``tallies`` in one."""
    some = [tally for tally in tallies if tally is not NO_TALLY]
    if len(some) == 1:
        return some[0]
    return Tally(*map(sum, zip(*some, strict=True))) if some else NO_TALLY
