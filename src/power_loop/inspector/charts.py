"""Series for the charts: what model calls cost over time, in one session or in all of them. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from power_loop.contracts.codec import usage_of

NOT_WELL = ("failed", "unknown", "denied", "aborted")


def of_calls(calls: Sequence[tuple[Any, ...]]) -> dict[str, list[Any]]:
    """One point per model call, in parallel lists; ``took_ms`` counts from the record before it.

    ``failed``: the call itself brought nothing; ``tools_failed``: so many of the calls that it asked for did not end well.
    """
    series: dict[str, list[Any]] = {
        "seq": [], "send": [], "at": [], "input": [], "cached": [], "output": [], "cost": [], "took_ms": [], "failed": [],
        "session": [], "tools_failed": [],
    }  # fmt: skip
    latest: dict[str, int] = {}
    for seq, send, kind, at, body, before, session_id in calls:
        told: dict[str, Any] = json.loads(body) if body else {}
        if kind == "tool_returned":
            if session_id in latest and told.get("outcome", "ok") in NOT_WELL:
                series["tools_failed"][latest[session_id]] += 1
            continue
        used = usage_of(told)
        latest[session_id] = len(series["at"])
        point = (
            seq, send, at, used.prompt, used.cache_read, used.completion, used.cost, at - before if before is not None else None,
            kind == "call_charged" and told.get("error") is not None, session_id, 0,
        )  # fmt: skip
        for values, value in zip(series.values(), point, strict=True):
            values.append(value)
    return series


def of_days(days: Sequence[tuple[Any, ...]]) -> dict[str, list[Any]]:
    """One point per day (UTC) on which sessions had their last send."""
    names = ("at", "sessions", "sends", "calls", "tool_calls", "input", "output", "cost")
    return {name: [_number(row[n]) for row in days] for n, name in enumerate(names)}


def _number(value: Any) -> int | float:
    # A server's sums are decimals; what is whole stays whole.
    return value if isinstance(value, (int, float)) else int(value) if value == int(value) else float(value)
