"""A workflow, and how far a run of it is, as a Mermaid flowchart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from power_loop.workflow.nodes import AgentNode, BranchNode, ForeachNode, HumanNode, LoopNode, ParallelNode, SequenceNode
from power_loop.workflow.places import Map, Place
from power_loop.workflow.plan import Plan
from power_loop.workflow.spec import WorkflowSpec

Progress = Mapping[str, Mapping[str, int]]
STYLES = {
    "completed": "fill:#d9f2d9,stroke:#2e7d32",
    "failed": "fill:#f8d7da,stroke:#b71c1c",
    "running": "fill:#dbe9ff,stroke:#1a56b0",
    "waiting": "fill:#fff3cd,stroke:#9a6b00",
}
"""By how a node stands; one that was not reached has no style of its own."""


def mermaid(of: WorkflowSpec | Plan) -> str:
    """The flowchart of a workflow, or of a run: each node with its state, those in a body with how many times they are done."""
    if isinstance(of, Plan):
        return _Drawing(of.progress()).whole(of.root)
    return _Drawing({}).whole(Map(of).root)


class _Drawing:
    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.lines: list[str] = []
        self.classes: dict[str, list[str]] = {}
        self.drawn = 0

    def whole(self, root: Place) -> str:
        self.node(root, [], 1)
        styles = [f"  classDef {name} {style}" for name, style in STYLES.items() if name in self.classes]
        used = [f"  class {','.join(nodes)} {name}" for name, nodes in self.classes.items() if name in STYLES]
        return "\n".join(["flowchart TD", *self.lines, *styles, *used]) + "\n"

    def say(self, depth: int, line: str) -> None:
        self.lines.append("  " * depth + line)

    def box(self, place: Place, text: str, shape: tuple[str, str], before: Sequence[str], depth: int) -> str:
        """Draw one box behind ``before``, which are boxes with the arrow that leads away from them."""
        name = f"n{self.drawn}"
        self.drawn += 1
        counts = self.progress.get(place.path, {})
        total, done = sum(counts.values()), counts.get("completed", 0)
        if total > 1:
            text = f"{text}: {done} of {total}"
        self.say(depth, f'{name}{shape[0]}"{quoted(text)}"{shape[1]}')
        for each in before:
            self.say(depth, f"{each} {name}")
        if state := next((state for state in ("failed", "waiting", "running", "completed") if counts.get(state)), None):
            self.classes.setdefault(state, []).append(name)
        return f"{name} -->"

    def node(self, place: Place, before: list[str], depth: int) -> list[str]:
        """Draw a node; the boxes that end it."""
        match place.node:
            case AgentNode(id=ident):
                box = self.box(place, ident, ("[", "]"), before, depth)
                if place.fallback is None:
                    return [box]
                return [box, *self.node(place.fallback, [f"{box.split()[0]} -. failed .->"], depth)]
            case HumanNode(id=ident):
                return [self.box(place, f"{ident}?", ("[/", "/]"), before, depth)]
            case SequenceNode():
                for child in place.children:
                    before = self.node(child, before, depth)
                return before
            case ParallelNode():
                return [end for child in place.children for end in self.node(child, before, depth)]
            case BranchNode(on=on, cases=cases):
                name = self.box(place, on, ("{", "}"), before, depth).split()[0]
                labels = [*cases, "else"]
                ends = [self.node(child, [f'{name} -- "{quoted(labels[n])}" -->'], depth) for n, child in enumerate(place.children)]
                return [end for each in ends for end in each]
            case ForeachNode(as_var=variable, id=ident):
                return self.around(place, f"{ident or 'for each'} ({variable})", before, depth)
            case LoopNode(id=ident):
                return self.around(place, f"{ident} (until)", before, depth)

    def around(self, place: Place, title: str, before: list[str], depth: int) -> list[str]:
        """A frame around the body."""
        self.say(depth, f'subgraph g{self.drawn}["{quoted(title)}"]')
        first = f"n{self.drawn}"
        ends = self.node(place.children[0], before, depth + 1)
        if isinstance(place.node, LoopNode):
            self.say(depth + 1, f'{ends[-1].split()[0]} -. "again" .-> {first}')
        self.say(depth, "end")
        return ends


def quoted(text: str) -> str:
    """Safe between the quotes of a label."""
    short = text if len(text) <= 60 else f"{text[:60]}…"
    return "".join(char if char.isalnum() or char in " _-.,:?()[]…" else f"#{ord(char)};" for char in short)
