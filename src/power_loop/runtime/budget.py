"""What a send has spent so far, with everybody who charges its ledger: in all, and by session, model and purpose."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from power_loop.contracts.kept_rows import UsageRow
from power_loop.contracts.ledger import NOTHING, ChargeRow, Sums, ledger_id_of
from power_loop.contracts.store import SessionLog
from power_loop.contracts.usage import CallUsage
from power_loop.runtime.session import Session

UNKNOWN_MODEL = "unknown"


class Accounts(SessionLog, Protocol):
    """A store, as far as its accounts are looked at."""

    async def list_usage(self, session_id: str) -> list[UsageRow]: ...

    async def charges(self, ledger_id: str) -> list[ChargeRow]: ...


class Line(NamedTuple):
    """One model call."""

    session_id: str
    model: str
    purpose: str
    spent: Sums


async def budget_of(store: Accounts, session_id: str) -> dict[str, Any]:
    """The budget of the session's last send; of a sub-agent's whose parent is under way, the one that both charge.

    Every number stands under the name of its limit. Raises `SessionNotFoundError`.
    """
    above = await store.sends_above(session_id)
    top = await Session.load(store, above[0][0] if above else session_id)
    head, state = top.head, top.state
    ledger_id = ledger_id_of(head.session_id, head.send_index)
    ledger = next(iter(await store.ledgers((ledger_id,))), None)
    lines = [_line(head.session_id, row) for row in await store.list_usage(head.session_id) if row.send_index == head.send_index]
    others = [_line_of_another(row) for row in await store.charges(ledger_id)]
    own = Sums.of(state.usage)._replace(tool_calls=state.tool_calls)
    # Tool calls of sub-agents are counted in the ledger alone; without limits it does not count our own.
    counted = ledger.spent.tool_calls if ledger is not None else 0
    tool_calls = counted if ledger is not None and ledger.limits else own.tool_calls + counted
    spent = _added([own, *(line.spent for line in others)])._replace(tool_calls=tool_calls)
    return {
        "spent": spent.by_limit(),
        "reserved": (ledger.reserved if ledger is not None else NOTHING).by_limit(),
        "limits": dict(ledger.limits) if ledger is not None else {},
        "by_session": {head.session_id: own.by_limit(), **_grouped(others, "session_id")},
        "by_model": _grouped([*lines, *others], "model"),
        "by_purpose": _grouped([*lines, *others], "purpose"),
    }


def _line(session_id: str, row: UsageRow) -> Line:
    used = CallUsage(row.prompt_tokens, row.completion_tokens, calls=1, cost=row.cost)
    return Line(session_id, row.model or UNKNOWN_MODEL, row.purpose, Sums.of(used))


def _line_of_another(row: ChargeRow) -> Line:
    return Line(row.session_id, row.model or UNKNOWN_MODEL, row.purpose, Sums.of(row.usage))


def _grouped(lines: Sequence[Line], by: str) -> dict[str, dict[str, float]]:
    names = list(dict.fromkeys(getattr(line, by) for line in lines))
    return {name: _added(line.spent for line in lines if getattr(line, by) == name).by_limit() for name in names}


def _added(sums: Iterable[Sums]) -> Sums:
    total = NOTHING
    for each in sums:
        total = total.plus(each)
    return total
