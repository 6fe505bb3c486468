"""A workflow as boxes, arrows and frames on a plane: what follows stands below, what runs side by side stands side by side.

Pure: a spec and how far its run is give the same picture. A workflow is made of sequences and of branches, so a picture is
made of pictures: each part is drawn by itself, then moved to its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from power_loop.workflow.nodes import AgentNode, BranchNode, ForeachNode, HumanNode, LoopNode, ParallelNode, SequenceNode
from power_loop.workflow.places import Place

Json = dict[str, Any]
Progress = Mapping[str, Mapping[str, int]]

# In units of the picture, which are pixels where there is room for it.
WIDTH, HEIGHT, BESIDE, BELOW, TITLE, PAD = 168, 52, 24, 40, 26, 14
# The first of these that a step has is what the box of several steps is painted as.
STATES = ("failed", "waiting", "running", "ready", "completed", "skipped")


@dataclass
class Part:
    """A part of the picture: its size, what is in it, and which of its boxes are entered and left."""

    wide: int
    high: int
    boxes: list[Json] = field(default_factory=list[Json])
    arrows: list[Json] = field(default_factory=list[Json])
    entries: list[str] = field(default_factory=list[str])
    exits: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Box, and what is written at the arrow that leaves it."""

    def take(self, other: Part, x: int, y: int) -> Part:
        """Put ``other`` into this part, with its corner at x, y."""
        self.boxes += [box | {"x": box["x"] + x, "y": box["y"] + y} for box in other.boxes]
        self.arrows += other.arrows
        return other

    def join(self, exits: Sequence[tuple[str, str]], entries: Sequence[str], kind: str = "next") -> None:
        """Arrows from each exit to each entry."""
        self.arrows += [{"from": start, "to": end, "label": label, "kind": kind} for start, label in exits for end in entries]


def picture(root: Place, progress: Progress, sessions: Mapping[str, Sequence[str]]) -> Json:
    """``{wide, high, boxes, arrows}``. ``progress``: how many steps stand how, by path; ``sessions``: those of the leaves, by their id.

    A box has x, y, wide, high, kind (a node's type, or ``join``), label, state (one of `STATES`, or ``""``: not reached), counts.
    """
    part = _part(root, progress, sessions)
    return {"wide": part.wide, "high": part.high, "boxes": part.boxes, "arrows": part.arrows}


def _part(place: Place, progress: Progress, sessions: Mapping[str, Sequence[str]]) -> Part:
    children = [_part(child, progress, sessions) for child in place.children]
    match place.node:
        case AgentNode():
            leaf = _box(place, place.node.id, progress, sessions)
            return leaf if place.fallback is None else _with_fallback(leaf, _part(place.fallback, progress, sessions))
        case HumanNode():
            return _box(place, f"{place.node.id}?", progress, sessions)
        case SequenceNode():
            return _below_each_other(children)
        case ParallelNode():
            return _side_by_side(children)
        case BranchNode(on=on, cases=cases, default=default):
            head = _box(place, on, progress, sessions)
            # Without a default the run goes on past the cases: a point stands for the way around them.
            ways = children if default is not None else [*children, _join(f"{place.path}.else")]
            return _branch(head, ways, [*cases, "else"])
        case ForeachNode(as_var=variable, id=ident):
            return _framed(place, f"{ident or 'for each'} ({variable})", children[0], progress)
        case LoopNode(id=ident, max_iterations=most):
            return _framed(place, f"{ident}: at most {most} times", children[0], progress)


def _box(place: Place, label: str, progress: Progress, sessions: Mapping[str, Sequence[str]]) -> Part:
    box = _drawn(place, label, progress, WIDTH, HEIGHT)
    box["sessions"] += sessions.get(place.ident or "", ())
    return Part(WIDTH, HEIGHT, [box], [], [place.path], [(place.path, "")])


def _drawn(place: Place, label: str, progress: Progress, wide: int, high: int) -> Json:
    """The box, or frame, of a node."""
    counts = dict(progress.get(place.path, {}))
    state = next((state for state in STATES if counts.get(state)), "")
    return _bare(place.path, place.node.type, wide, high) | {"label": label, "state": state, "counts": counts, "step": place.ident or ""}


def _bare(name: str, kind: str, wide: int, high: int) -> Json:
    return {
        "id": name, "kind": kind, "label": "", "x": 0, "y": 0, "wide": wide, "high": high, "state": "", "counts": {}, "step": "",
        "sessions": [],
    }  # fmt: skip


def _join(name: str) -> Part:
    """A point in which arrows meet."""
    return Part(6, 6, [_bare(name, "join", 6, 6)], [], [name], [(name, "")])


def _below_each_other(parts: Sequence[Part]) -> Part:
    whole = Part(max(part.wide for part in parts), 0)
    for part in parts:
        if whole.exits and len(whole.exits) > 1 and len(part.entries) > 1:
            point = _join(f"{part.entries[0]}<")
            _append(whole, point)
        _append(whole, part)
    return whole


def _append(whole: Part, part: Part) -> None:
    first = not whole.boxes
    y = 0 if first else whole.high + BELOW
    whole.take(part, (whole.wide - part.wide) // 2, y)
    whole.high = y + part.high
    if first:
        whole.entries = part.entries
    whole.join(whole.exits, part.entries)
    whole.exits = part.exits


def _side_by_side(parts: Sequence[Part]) -> Part:
    whole = Part(sum(part.wide for part in parts) + BESIDE * (len(parts) - 1), max(part.high for part in parts))
    x = 0
    for part in parts:
        whole.take(part, x, 0)
        whole.entries += part.entries
        whole.exits += part.exits
        x += part.wide + BESIDE
    return whole


def _branch(head: Part, ways: Sequence[Part], labels: Sequence[str]) -> Part:
    below = _side_by_side(ways)
    whole = Part(max(head.wide, below.wide), head.high + 2 * BELOW + below.high, entries=head.entries, exits=below.exits)
    whole.take(head, (whole.wide - head.wide) // 2, 0)
    whole.take(below, (whole.wide - below.wide) // 2, head.high + 2 * BELOW)
    for way, label in zip(ways, labels, strict=True):
        whole.join([(head.entries[0], label)], way.entries)
    return whole


def _with_fallback(leaf: Part, fallback: Part) -> Part:
    """What stands in for a leaf that failed, below it and to the right."""
    whole = Part(leaf.wide + BESIDE + fallback.wide, leaf.high + BELOW + fallback.high, entries=leaf.entries)
    whole.take(leaf, 0, 0)
    whole.take(fallback, leaf.wide + BESIDE, leaf.high + BELOW)
    whole.join([(leaf.entries[0], "failed")], fallback.entries, "fallback")
    whole.exits = [*leaf.exits, *fallback.exits]
    return whole


def _framed(place: Place, title: str, body: Part, progress: Progress) -> Part:
    """A frame around a body that runs several times; arrows end and begin at the frame."""
    wide, high = max(body.wide, WIDTH) + 2 * PAD, body.high + TITLE + 2 * PAD
    whole = Part(wide, high, [_drawn(place, title, progress, wide, high)], [], [place.path], [(place.path, "")])
    whole.take(body, (wide - body.wide) // 2, TITLE + PAD)
    return whole
