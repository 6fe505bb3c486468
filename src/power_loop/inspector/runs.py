"""A run of a workflow as the inspector shows it: its picture, its steps, who it waits for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from power_loop.inspector.picture import picture
from power_loop.inspector.shown import Asked, Passage
from power_loop.inspector.timeline import Json, cut
from power_loop.workflow.draw import mermaid
from power_loop.workflow.places import Map
from power_loop.workflow.plan import Plan
from power_loop.workflow.results import AgentResult

# A run may have 10,000 steps; a page shows so many of them, those that are not completed first.
STEPS_SHOWN = 500
SHOWN_OF_A_TEXT = 400


def shown_run(plan: Plan, running: Mapping[str, str]) -> Json:
    """The run of this plan. ``running``: the sessions of leaves that somebody drives, by the step that they are for."""
    result = plan.result()
    steps = [_ended(name, each) for name, each in result.results.items()]
    steps += _waiting(plan) + _ready(plan, running)
    shown = sorted(steps, key=lambda step: step["state"] == "completed")[:STEPS_SHOWN]
    return {
        "name": plan.spec.name, "status": plan.status, "usage": dict(plan.usage), "picture": picture(plan.root, *_standing(plan, steps)),
        "mermaid": mermaid(plan), "steps": shown, "more_steps": len(steps) - len(shown), "errors": result.errors,
        "waiting": [Asked(asked.interaction or {}) for asked in plan.questions().values()], "warnings": list(plan.spec.warnings),
    }  # fmt: skip


def _ended(name: str, result: AgentResult) -> Json:
    step = _step(name, result.status, result.session_id)
    return step | {
        "text": Passage(result.text, SHOWN_OF_A_TEXT),
        "error": result.error,
        "attempts": result.attempts,
        "usage": dict(result.usage),
    }


def _waiting(plan: Plan) -> list[Json]:
    asked = [(plan.leaf(key).node_id, row) for key, row in plan.questions().items()]
    return [_step(name, "waiting", row.session_id) | {"text": cut((row.interaction or {}).get("prompt", ""))} for name, row in asked]


def _ready(plan: Plan, sessions: Mapping[str, str]) -> list[Json]:
    names = [leaf.node_id for leaf in plan.ready()]
    return [_step(name, "running" if name in sessions else "ready", sessions.get(name)) for name in names]


def _step(name: str, state: str, session_id: str | None) -> Json:
    """``name`` is ``research[2].r``, in the document's words ``r``."""
    return {"step": name, "id": name.rpartition(".")[2], "state": state, "session_id": session_id}


def _standing(plan: Plan, steps: Sequence[Json]) -> tuple[dict[str, dict[str, int]], dict[str, list[str]]]:
    """How many steps stand how, by path, with those that run told from those that might; the sessions of leaves, by leaf."""
    progress = plan.progress()
    sessions: dict[str, list[str]] = {}
    leaves = Map(plan.spec).leaves
    for step in steps:
        if step["session_id"] is not None:
            sessions.setdefault(step["id"], []).append(step["session_id"])
        if step["state"] == "running":
            counts = progress[leaves[step["id"]].path]
            counts["ready"], counts["running"] = counts["ready"] - 1, counts.get("running", 0) + 1
    return progress, sessions
