"""The picture of a workflow: boxes that do not lie on each other, and arrows that lead down from what was before."""

from __future__ import annotations

import random
from itertools import combinations
from typing import Any

import pytest
from inspected_runs import REPORT, agent

from power_loop.inspector.picture import picture
from power_loop.workflow import WorkflowSpec
from power_loop.workflow.places import Map

FRAMES = ("foreach", "loop")


def drawn(spec: dict[str, Any], progress: Any = None, sessions: Any = None) -> dict[str, Any]:
    return picture(Map(WorkflowSpec.from_json(spec)).root, progress or {}, sessions or {})


def made_up(seed: int) -> dict[str, Any]:
    """A workflow of any shape."""
    chance, number = random.Random(seed), iter(range(10_000))

    def node(depth: int) -> dict[str, Any]:
        ident = f"n{next(number)}"
        kind = chance.choice(["agent", "human", "sequence", "parallel", "foreach", "loop", "branch", "fallback"]) if depth else "agent"
        some = [node(depth - 1) for _ in range(chance.randint(1, 3))] if kind in ("sequence", "parallel", "branch") else []
        match kind:
            case "human":
                return {"type": "human", "id": ident, "prompt": "Which?"}
            case "sequence":
                return {"type": "sequence", "steps": some}
            case "parallel":
                return {"type": "parallel", "branches": some}
            case "foreach":
                return {"type": "foreach", "id": ident, "as": f"x{ident}", "items": [1, 2], "body": node(depth - 1)}
            case "loop":
                until = {"ref": "input", "op": "eq", "value": "x"}
                return {"type": "loop", "id": ident, "body": node(depth - 1), "until": until, "max_iterations": 2}
            case "branch":
                ways = {f"w{n}": way for n, way in enumerate(some)}
                return {"type": "branch", "on": "input", "cases": ways, **({"default": node(depth - 1)} if chance.random() < 0.5 else {})}
            case "fallback":
                return agent(ident, "Do it.", fallback=node(depth - 1))
            case _:
                return agent(ident, "Do it.")

    return {"name": "made up", "input": "x", "root": {"type": "sequence", "steps": [node(3), node(3)]}}


def lie_on_each_other(one: dict[str, Any], other: dict[str, Any]) -> bool:
    beside = one["x"] + one["wide"] <= other["x"] or other["x"] + other["wide"] <= one["x"]
    below = one["y"] + one["high"] <= other["y"] or other["y"] + other["high"] <= one["y"]
    return not (beside or below)


def holds(frame: dict[str, Any], box: dict[str, Any]) -> bool:
    wide = frame["x"] <= box["x"] and box["x"] + box["wide"] <= frame["x"] + frame["wide"]
    return wide and frame["y"] <= box["y"] and box["y"] + box["high"] <= frame["y"] + frame["high"]


@pytest.mark.parametrize("seed", range(40))
def test_a_picture_of_any_workflow_is_in_order(seed: int) -> None:
    shown = drawn(made_up(seed))
    boxes = {box["id"]: box for box in shown["boxes"]}
    assert len(boxes) == len(shown["boxes"])
    assert all(
        box["x"] >= 0 and box["x"] + box["wide"] <= shown["wide"] and box["y"] + box["high"] <= shown["high"] for box in boxes.values()
    )
    for one, other in combinations(boxes.values(), 2):
        inside = (one["kind"] in FRAMES and holds(one, other)) or (other["kind"] in FRAMES and holds(other, one))
        assert inside or not lie_on_each_other(one, other), (one["id"], other["id"])
    for arrow in shown["arrows"]:
        start, end = boxes[arrow["from"]], boxes[arrow["to"]]
        assert end["y"] >= start["y"] + start["high"], arrow


@pytest.mark.parametrize("seed", range(10))
def test_every_box_is_reached_from_the_first(seed: int) -> None:
    shown = drawn(made_up(seed))
    reached, before = {shown["boxes"][0]["id"]}, 0
    # What stands in a frame is reached with the frame.
    ways = [(arrow["from"], arrow["to"]) for arrow in shown["arrows"]]
    ways += [(one["id"], other["id"]) for one in shown["boxes"] for other in shown["boxes"] if one["kind"] in FRAMES and holds(one, other)]
    starts = [box["id"] for box in shown["boxes"] if box["y"] == 0]
    reached |= set(starts)
    while before < len(reached):
        before = len(reached)
        reached |= {end for start, end in ways if start in reached}
    assert {box["id"] for box in shown["boxes"]} <= reached


def test_a_box_says_how_its_steps_stand_and_which_sessions_they_have() -> None:
    progress = {"root.steps[0]": {"completed": 1}, "root.steps[2].body": {"completed": 3, "failed": 1}, "root.steps[3]": {"waiting": 1}}
    boxes = {box["id"]: box for box in drawn(REPORT, progress, {"r": ["a", "b"]})["boxes"]}
    assert (boxes["root.steps[0]"]["label"], boxes["root.steps[0]"]["state"]) == ("plan", "completed")
    assert (boxes["root.steps[2].body"]["state"], boxes["root.steps[2].body"]["counts"]) == ("failed", {"completed": 3, "failed": 1})
    assert boxes["root.steps[2].body"]["sessions"] == ["a", "b"]
    assert (boxes["root.steps[3]"]["kind"], boxes["root.steps[3]"]["label"], boxes["root.steps[3]"]["state"]) == (
        "human",
        "tone?",
        "waiting",
    )
    assert boxes["root.steps[1].branches[0]"]["state"] == ""


def test_the_ways_of_a_branch_are_named_and_lead_around_it_without_a_default() -> None:
    arrows = [arrow for arrow in drawn(REPORT)["arrows"] if arrow["from"] == "root.steps[4]"]
    assert [(arrow["label"], arrow["to"]) for arrow in arrows] == [
        ("short", "root.steps[4].cases.short"), ("long", "root.steps[4].cases.long"), ("else", "root.steps[4].else"),
    ]  # fmt: skip


def test_a_fallback_is_reached_by_an_arrow_of_its_own() -> None:
    spec = {"name": "f", "input": "x", "root": agent("first", "Try.", fallback=agent("second", "Try again."))}
    assert [(arrow["kind"], arrow["label"]) for arrow in drawn(spec)["arrows"]] == [("fallback", "failed")]
