"""The journal of a run: one small row for each thing that became of a step, and the keys by which steps are known.

A step's key is its path through whatever repeats it: ``research[2:9f3c1a2b]/r`` is the step ``r`` for the third item of
``research``, with the item's digest; ``refine[0]/write`` is the first iteration. Neither order nor other steps are in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from hashlib import sha256
from typing import Any, Literal, TypeAlias, cast

from power_loop.contracts.json_text import writer
from power_loop.contracts.usage import CallUsage, Usage

StepState = Literal["started", "returned", "waiting", "completed", "failed", "timeout"]
"""``returned``: it was begun, nobody runs it any more, and it may be begun again."""
RunState = Literal["started", "stopped", "resumed", "ended"]
OnChange = Literal["error", "keep", "rerun"]


@dataclass(frozen=True, slots=True)
class StepRow:
    """What became of one step. Only ``completed`` and ``failed`` rows carry a result."""

    step: str
    state: StepState
    at: int = 0
    """ms, UTC."""
    attempt: int = 1
    input_hash: str = ""
    spec_hash: str = ""
    status: str = ""
    """How a failed leaf ended: failed, degraded, timeout, invalid_output, hit_round_limit."""
    text: str = ""
    payload: Any = None
    usage: Mapping[str, Any] = field(default_factory=dict[str, Any])
    session_id: str | None = None
    db_path: str | None = None
    error: str | None = None
    interaction: Mapping[str, Any] | None = None
    """What a waiting step asks."""
    kept: Mapping[str, Any] | None = None
    """The archive of a session that waits, and is in no store of ours."""

    def to_dict(self) -> dict[str, Any]:
        return _told(self, _STEP_DEFAULTS)


@dataclass(frozen=True, slots=True)
class RunRow:
    """What became of the run."""

    run: RunState
    at: int = 0
    status: str = ""
    """Why it was stopped, or how it ended: cancelled, budget_exceeded, timeout, completed, failed."""
    reason: str = ""
    on_change: OnChange | None = None
    """What a resume said about finished steps that were changed since."""

    def to_dict(self) -> dict[str, Any]:
        return _told(self, _RUN_DEFAULTS)


Row: TypeAlias = StepRow | RunRow


def row_of(members: Mapping[str, Any]) -> Row:
    """The row that `to_dict` made ``members`` of. Raises `TypeError` for what is no row."""
    return StepRow(**members) if "step" in members else RunRow(**members)


def _told(row: Row, defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, default in defaults.items() if (value := getattr(row, name)) != default}


_STEP_DEFAULTS: Mapping[str, Any] = {each.name: {} if each.name == "usage" else each.default for each in fields(StepRow)}
_RUN_DEFAULTS: Mapping[str, Any] = {each.name: each.default for each in fields(RunRow)}


def digest(value: Any, chars: int = 16) -> str:
    """The same for the same JSON, in any process."""
    return sha256(_spell(value).encode("utf-8", "surrogatepass")).hexdigest()[:chars]


def _plain(value: object) -> Any:
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, Any]", value))
    return list(cast("Any", value))


_spell = writer(sort_keys=True, default=_plain)


def numbers_of(usage: Mapping[str, Any], cost: float | None = None) -> dict[str, Any]:
    """What was used as a row keeps it: what is 0 is left out."""
    numbers = {name: number for name, number in usage.items() if number}
    cost = usage.cost if cost is None and isinstance(usage, Usage) else cost
    return numbers if cost is None else {**numbers, "cost": cost}


def usage_of(numbers: Mapping[str, Any]) -> Usage:
    """What `numbers_of` kept."""
    usage = Usage({name: number for name, number in numbers.items() if name != "cost"})
    usage.cost = numbers.get("cost")
    return usage


def without(usage: Usage, known: Usage) -> Usage:
    """What ``usage`` tells beyond what is ``known`` of it."""
    left = Usage({name: number - known.get(name, 0) for name, number in usage.items()})
    left.cost = usage.cost if usage.cost is None else usage.cost - (known.cost or 0.0)
    return left


def call_usage(usage: Mapping[str, Any]) -> CallUsage:
    """The numbers of a row, as charges and counters take them."""
    return CallUsage(
        usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0), usage.get("cache_read_tokens", 0),
        reasoning=usage.get("reasoning_tokens", 0), calls=usage.get("calls", 0),
        cost=usage.cost if isinstance(usage, Usage) else usage.get("cost"),
    )  # fmt: skip


def item_scope(foreach: str, index: int, item: Any) -> str:
    """What the keys in one run of a foreach body begin with."""
    return f"{foreach}[{index}:{digest(item, 8)}]/"
