"""One leaf from its beginning to its end: asked of an executor, within its time, and what came of it as a row of the journal.

No exception of a leaf leaves this; only a cancel, and the end of the process, do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from power_loop.agents.above import asked_below
from power_loop.contracts.agents import AgentSpec
from power_loop.contracts.approvals import is_approval
from power_loop.contracts.cancel import CancellationToken
from power_loop.contracts.children import Unreached
from power_loop.contracts.errors import StructuredOutputError
from power_loop.contracts.ledger import Sums
from power_loop.contracts.log import log
from power_loop.contracts.options import answer_of
from power_loop.contracts.schema.compile import compile_schema
from power_loop.contracts.structured import WRAPPED, document_in
from power_loop.contracts.usage import UsageLimits
from power_loop.runtime.cancel import being_cancelled
from power_loop.workflow.executors import Accountable, Executor
from power_loop.workflow.handed import HANDED
from power_loop.workflow.inside import INSIDE
from power_loop.workflow.leaves import Leaf
from power_loop.workflow.nodes import FAILURES, AgentNode, HumanNode
from power_loop.workflow.rows import StepRow, call_usage, digest, numbers_of

# What a leaf is told that has all it needs in its prompt: no model takes an empty word.
NO_INPUT = "Begin."


class Ended(NamedTuple):
    """How a leaf ended, for this time."""

    row: StepRow
    closes: Sequence[str] = ()
    """Sessions that go once the row is stored."""
    after: Callable[[], Any] | None = None
    """Called once the row is stored."""
    stops: str = ""
    """Why the whole run shall stop: a budget above the leaf is used up."""


class Where(NamedTuple):
    """Where the leaves of a run belong."""

    loop: Any
    executor: Executor
    run_id: str
    driver_sid: str


async def run_leaf(where: Where, leaf: Leaf, clock: Any) -> Ended:
    """Run the leaf once. Its ``not_before_ms`` is waited for."""
    INSIDE.set(True)
    node = leaf.node
    assert isinstance(node, AgentNode), "questions are asked, not run"
    if leaf.not_before_ms:
        await clock.sleep(max(0, leaf.not_before_ms - clock.now_ms()) / 1000)
    spec = _as_leaf(where.run_id, leaf, node)
    try:
        told = await _told(where, spec, leaf.input if leaf.input.strip() else NO_INPUT, node.timeout_s)
        return await _ended(where, leaf, clock, told)
    except _Failed as failed:
        status, text = failed.status, str(failed)
    except (TypeError, ValueError, KeyError, AttributeError) as error:  # what the executor told is not what it should be
        status, text = "failed", f"the executor's answer cannot be read: {error}"
    return Ended(_row(leaf, clock, "failed", status=status, error=text, usage=await _spent(where, spec)))


class _Failed(Exception):
    """Where the leaf ran, it came to no answer."""

    def __init__(self, text: str, status: str = "failed") -> None:
        super().__init__(text)
        self.status = status


async def _told(where: Where, spec: AgentSpec, said: str, timeout_s: float | None) -> Mapping[str, Any]:
    """What the executor tells of the leaf. Raises `_Failed`, and `StoreUnavailable` where the run itself is to break off."""
    cut, limit = CancellationToken(), asyncio.timeout(timeout_s)
    try:
        async with limit:
            return await where.executor.run_agent(spec, said, parent_loop=where.loop, driver_sid=where.driver_sid, stop_event=cut)
    except asyncio.CancelledError as error:
        cut.cancel("the leaf was cut off")
        if being_cancelled():
            raise
        raise _Failed(f"where it ran, it was cancelled: {error}") from error
    except Unreached as away:
        raise away.error from away.error.__cause__
    except Exception as error:  # of an executor that may be anybody's, of the model, of tools
        cut.cancel("the leaf failed")
        if limit.expired():
            raise _Failed(f"it took longer than {timeout_s:g} s", "timeout") from error
        raise _Failed(f"{type(error).__name__}: {error}") from error


async def _spent(where: Where, spec: AgentSpec) -> dict[str, Any]:
    """What a leaf used that told nothing, as far as anybody knows."""
    if not isinstance(where.executor, Accountable):
        return {}
    try:
        return numbers_of(await where.executor.spent(spec, parent_loop=where.loop, driver_sid=where.driver_sid))
    except Exception:  # of an executor that may be anybody's: the failure that is told is the leaf's
        log.warning("run %s: what a failed leaf used is not known", where.run_id, exc_info=True)
        return {}


def _as_leaf(run_id: str, leaf: Leaf, node: AgentNode) -> AgentSpec:
    assert leaf.spec is not None
    known: dict[str, Any] = {
        "workflow_run_id": run_id, "workflow_node_id": leaf.node_id, "attempt": leaf.attempt, "idempotency_key": f"{run_id}:{leaf.key}",
    }  # fmt: skip
    if leaf.handed:
        known[HANDED] = leaf.handed
    return replace(leaf.spec, metadata={**leaf.spec.metadata, **known}, output_schema=node.output_schema or leaf.spec.output_schema)


async def _ended(where: Where, leaf: Leaf, clock: Any, told: Mapping[str, Any]) -> Ended:
    status, closes = str(told["status"]), list(told.get("closes") or ())
    usage = numbers_of(told.get("usage") or {}, told.get("cost"))
    known: dict[str, Any] = {"usage": usage, "session_id": told.get("session_id"), "db_path": told.get("db_path")}
    text, payload = str(told.get("final_text") or ""), told.get("output")
    assert isinstance(leaf.node, AgentNode)
    assert leaf.spec is not None
    wants = leaf.node.schema if leaf.node.output_schema else (leaf.spec.output_schema or {}).get("schema")
    if payload is None and wants is not None and _says_null(text, wants):
        text, wants = "null", None  # a result without a payload is its text, whatever the model wrote around it
    if status == "completed" and (payload is not None or wants is None):
        digest(payload)  # raises what JSON cannot say
        return Ended(_row(leaf, clock, "completed", text=text, payload=payload, **known), closes, told.get("after"))
    if status == "waiting_for_input" and known["session_id"] is not None and known["db_path"] is None:
        return Ended(_row(leaf, clock, "waiting", interaction=await _question_below(where, leaf, known["session_id"]), **known))
    if status == "waiting_for_input" and told.get("asks") is not None and told.get("session") is not None:
        known["kept"] = told["session"]
        return Ended(_row(leaf, clock, "waiting", interaction=_question_elsewhere(where, leaf, told["asks"]), **known))
    if status == "budget_exceeded" and _was_stopped_from_above(leaf, leaf.spec.limits, usage):
        # One that used up its share asks for another.
        returned = _row(leaf, clock, "returned", usage=usage, db_path=known["db_path"])
        return Ended(returned, stops="" if "share" in leaf.handed else "budget_exceeded")
    if status == "completed":
        status = "invalid_output"
    failure: Mapping[str, Any] = told.get("error") or {}
    error = failure.get("message") or _why(status, text)
    kept = status if status in FAILURES else "failed"
    return Ended(_row(leaf, clock, "failed", status=kept, text=text, error=str(error), **known), closes)


def _says_null(text: str, schema: Mapping[str, Any]) -> bool:
    """The answer is null, and the schema allows that."""
    try:
        found = document_in(text)
    except StructuredOutputError:
        return False
    return found in (None, {WRAPPED: None}) and not compile_schema(schema).problems(None)


def _was_stopped_from_above(leaf: Leaf, own: UsageLimits | None, usage: Mapping[str, Any]) -> bool:
    """It was not stopped by limits of its own, but by what others share with it."""
    if own is None or "share" not in leaf.handed:
        return own is None
    # Of these two its usage does not tell.
    return own.seconds is None and own.tool_calls is None and Sums.of(call_usage(usage)).used_up(own.to_dict()) is None


def _why(status: str, text: str) -> str:
    match status:
        case "waiting_for_input":
            return "it waits for somebody, and its executor does not say for what"
        case "invalid_output":
            return "its answer is not of the form that was asked for"
        case "rejected":
            return text
        case _:
            return f"the leaf ended {status}"


def _row(leaf: Leaf, clock: Any, state: Any, **members: Any) -> StepRow:
    return StepRow(
        leaf.key, state, at=clock.now_ms(), attempt=leaf.attempt, input_hash=leaf.input_hash, spec_hash=leaf.spec_hash, **members
    )  # fmt: skip


# --- who waits --------------------------------------------------------------------------


def question_of(run_id: str, leaf: Leaf, clock: Any) -> StepRow:
    """A person is asked: the row that parks the step."""
    node = leaf.node
    assert isinstance(node, HumanNode)
    options = list(node.options) or (["yes", "no"] if node.kind == "confirm" else [])
    asked = _interaction(f"{run_id}:{leaf.key}", leaf, node.kind, leaf.input, options)
    asked["state"] = {}  # the answer is handed to the step as it is
    if node.kind != "text":
        asked["accepts"] = [*options, *_said_otherwise(node)]
    return _row(leaf, clock, "waiting", interaction=asked)


def _said_otherwise(node: HumanNode) -> list[Any]:
    """What else is an answer: yes and no as a program says them, and the ids or labels of options that have some."""
    return [True, False] if node.kind == "confirm" else [answer_of(each) for each in node.options if isinstance(each, Mapping)]


async def _question_below(where: Where, leaf: Leaf, session_id: str) -> dict[str, Any]:
    """What a leaf waits for, as a question of the run: its answer is handed down to the session that asks."""
    below = await asked_below(where.loop, session_id, leaf.node_id)
    name = f"{where.run_id}:{leaf.key}:{below.interaction_id}"
    asked = _interaction(name, leaf, below.kind, below.prompt, list(below.options or ()))
    return asked | {"state": below.state, "needs_approval": below.needs_approval}


def _question_elsewhere(where: Where, leaf: Leaf, theirs: Mapping[str, Any]) -> dict[str, Any]:
    """What a leaf waits for whose session is in no store of ours: asked, or to be approved, as if the run itself did."""
    name = f"{where.run_id}:{leaf.key}:{theirs['interaction_id']}"
    asked = _interaction(name, leaf, str(theirs["kind"]), str(theirs["prompt"]), list(theirs.get("options") or ()))
    asked |= {"tool_name": theirs["tool_name"], "state": {"interaction_id": theirs["interaction_id"]}}
    told = ("arguments", "digest", "requested_at", "expires_at") if is_approval(theirs) else ()
    return asked | {member: theirs[member] for member in told}


def _interaction(name: str, leaf: Leaf, kind: str, prompt: str, options: list[Any]) -> dict[str, Any]:
    """A question under an id of its own, the same should it be worked out again before it is stored."""
    once = f"{name}:{leaf.asked}" if leaf.asked else name
    return {
        "interaction_id": f"wf_{digest(once)}", "tool_call_id": leaf.key, "tool_name": "workflow", "kind": kind, "prompt": prompt,
        "options": options, "metadata": {"workflow_node_id": leaf.node_id},
    }  # fmt: skip
