"""What a leaf elsewhere is given beside its spec: its share of a budget, and prices; one that waited, its session and the answer.

It travels in the leaf's metadata, so any executor that hands on the whole spec hands it on too; whoever runs the leaf takes
it out again. The machine of a leaf that waits need not be there any more when somebody answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from power_loop.contracts.agents import AgentSpec
from power_loop.contracts.errors import ApprovalError
from power_loop.contracts.ledger import Sums
from power_loop.contracts.records import Decided
from power_loop.contracts.usage import Price, UsageLimits
from power_loop.runtime.session import Session

HANDED = "workflow_handed"


def without_handed(spec: AgentSpec) -> tuple[AgentSpec, Mapping[str, Any]]:
    """The spec itself, and what came with it; nothing for a leaf that begins."""
    handed: Mapping[str, Any] = spec.metadata.get(HANDED) or {}
    return replace(spec, metadata={name: value for name, value in spec.metadata.items() if name != HANDED}), handed


def said_to(
    key: str, interaction_id: str, answers: Iterable[tuple[str, str, Any]], decisions: Iterable[Decided]
) -> Mapping[str, Any] | None:  # fmt: skip
    """What somebody said to the question that a step of a run waits with; None as long as nobody did."""
    said: Mapping[str, Any] | None = None
    for made in decisions:
        if (made.call_id, made.interaction_id) == (key, interaction_id):
            said = {"approved": made.approved, "digest": made.digest, "by": made.by, "note": made.note}
    for call_id, of, answer in answers:
        if (call_id, of) == (key, interaction_id):
            said = {"value": answer}
    return said


def within_share(spec: AgentSpec, handed: Mapping[str, Any], session: Session) -> AgentSpec:
    """The spec, with limits that keep the leaf within its share of what is left above its run."""
    share: Mapping[str, float] = handed.get("share") or {}
    if not share:
        return spec
    state = session.state
    used = Sums.of(state.usage)._replace(tool_calls=state.tool_calls).by_limit()
    own = spec.limits.to_dict() if spec.limits is not None else {}
    shared = {name: used[name] + amount for name, amount in share.items()}
    least: dict[str, Any] = {name: min(each[name] for each in (own, shared) if name in each) for name in {**own, **shared}}
    return replace(spec, limits=UsageLimits(**least))


def prices_of(prices: Mapping[str, Price] | None) -> dict[str, Any]:
    """A price table as JSON, for whoever runs the leaf."""
    return {} if prices is None else {"prices": {model: asdict(price) for model, price in prices.items()}}


def prices_in(handed: Mapping[str, Any]) -> dict[str, Price] | None:
    """The price table that came along."""
    told: Mapping[str, Any] | None = handed.get("prices")
    return None if told is None else {model: Price(**price) for model, price in told.items()}


async def hear(loop: Any, session_id: str, handed: Mapping[str, Any]) -> None:
    """Say to the leaf's own session what was said to the run in its stead."""
    said: Mapping[str, Any] = handed["said"]
    with suppress(ValueError, ApprovalError):  # it has heard it before, and was cut off then
        if "approved" in said:
            await loop.drivers.decide(session_id, handed["asked"], said["approved"], said["digest"], said["by"], said["note"])
        else:
            await loop.drivers.answer(session_id, handed["asked"], said["value"], "run")
