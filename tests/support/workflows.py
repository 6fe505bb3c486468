"""Workflows for tests: specs made by chance, a world that answers leaves, and a driver that dies when it is told to."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

from power_loop.contracts.usage import Usage
from power_loop.workflow.nodes import FAILURES, AgentNode
from power_loop.workflow.plan import Leaf, Plan
from power_loop.workflow.rows import Row, StepRow, digest
from power_loop.workflow.spec import WorkflowSpec

SPEC = {"name": "a", "system_prompt": "You work."}
TOPICS = {
    "name": "topics",
    "schema": {"type": "object", "properties": {"topics": {"type": "array", "items": {"type": "string"}}, "ok": {"type": "boolean"}}},
}


def agent(ident: str, **more: Any) -> dict[str, Any]:
    return {"type": "agent", "id": ident, "spec": SPEC, **more}


def seq(*steps: Any, **more: Any) -> dict[str, Any]:
    return {"type": "sequence", "steps": list(steps), **more}


def par(*branches: Any, **more: Any) -> dict[str, Any]:
    return {"type": "parallel", "branches": list(branches), **more}


def each(ident: str, items: Any, body: Any, **more: Any) -> dict[str, Any]:
    source = {"items_from": items} if isinstance(items, str) else {"items": items}
    return {"type": "foreach", "id": ident, "as": "item", "body": body, **source, **more}


def workflow(root: Any, **more: Any) -> WorkflowSpec:
    return WorkflowSpec.from_json({"name": "w", "root": root, **more})


class World:
    """Answers leaves; the same leaf and attempt gets the same answer. Remembers what was paid."""

    def __init__(self, failing: float = 0.0, answers: dict[str, Any] | None = None) -> None:
        self.failing = failing
        self.answers = answers or {}
        self.paid: Counter[str] = Counter()

    def end(self, leaf: Leaf, at: int = 0) -> StepRow:
        """The row of a leaf that has run to its end."""
        self.paid[leaf.key] += 1
        row = StepRow(leaf.key, "completed", at, leaf.attempt, leaf.input_hash, leaf.spec_hash, usage=Usage(total_tokens=3, calls=1))
        chance = random.Random(f"{leaf.key}:{leaf.attempt}")
        if isinstance(leaf.node, AgentNode) and chance.random() < self.failing:
            return StepRow(leaf.key, "failed", at, leaf.attempt, status=chance.choice(FAILURES), error="by chance", usage=row.usage)
        payload = self.answers.get(leaf.node_id, self.answers.get(leaf.node.id))
        if payload is None and isinstance(leaf.node, AgentNode) and leaf.node.schema is not None:
            payload = {"topics": [f"t{n}" for n in range(chance.randrange(4))], "ok": chance.random() < 0.6}
        text = payload if isinstance(payload, str) else f"<{leaf.key} {digest(leaf.input, 6)}>" if payload is None else json.dumps(payload)
        return StepRow(
            leaf.key, "completed", at, leaf.attempt, leaf.input_hash, leaf.spec_hash, text=text,
            payload=None if isinstance(payload, str) else payload, usage=row.usage,
        )  # fmt: skip


class Died(Exception):
    pass


class Driver:
    """Runs a plan, in an order that a seed decides, on a journal in memory."""

    def __init__(self, spec: WorkflowSpec, world: World, rows: list[Row] | None = None, *, seed: int = 0, die_after: int = -1) -> None:
        self.rows = rows if rows is not None else []
        self.plan = Plan(spec, self.rows)
        self.world = world
        self.chance = random.Random(seed)
        self.die_after = die_after
        self.running: dict[str, Leaf] = {}
        self.most_at_once = 0

    def note(self, row: Row) -> None:
        if len(self.rows) == self.die_after:
            raise Died
        self.rows.append(row)
        self.plan.apply(row)

    def begin(self, leaf: Leaf) -> None:
        if isinstance(leaf.node, AgentNode):
            self.note(StepRow(leaf.key, "started", attempt=leaf.attempt))
            self.running[leaf.key] = leaf
            self.most_at_once = max(self.most_at_once, len(self.running))
        else:
            self.note(StepRow(leaf.key, "waiting", interaction={"prompt": leaf.input}))
            self.running[leaf.key] = leaf

    def end(self, key: str) -> None:
        self.note(self.world.end(self.running.pop(key)))

    def run(self) -> Plan:
        """Until nothing is left to do."""
        while True:
            ready = self.plan.ready()
            parked = [key for key in self.plan.questions() if key not in self.running]
            for key in parked:  # asked by a driver that died
                self.running[key] = self.question(key)
            for key in self.plan.to_cancel():
                leaf = self.running.pop(key)
                if self.chance.random() < 0.5:
                    self.note(self.world.end(leaf))
                else:
                    self.note(StepRow(key, "returned"))
            if ready and (not self.running or self.chance.random() < 0.6):
                self.begin(self.chance.choice(ready))
            elif self.running:
                self.end(self.chance.choice(sorted(self.running)))
            elif not self.plan.ready():
                return self.plan

    def question(self, key: str) -> Leaf:
        return self.plan.leaf(key)


# --- specs by chance ------------------------------------------------------------------


class Maker:
    """Makes one workflow, of some twenty nodes at most."""

    def __init__(self, seed: int, *, patient: bool = False) -> None:
        """``patient``: what runs side by side goes on when one of it fails. Else it depends on the order what has run by then."""
        self.chance = random.Random(seed)
        self.on_error = ["continue"] if patient else ["halt", "continue"]
        self.made = 0
        self.lists: list[str] = []
        self.texts: list[str] = ["input"]

    def workflow(self) -> WorkflowSpec:
        return WorkflowSpec.from_json({"name": "by chance", "input": "go", "root": self.node(0)})

    def id(self) -> str:
        self.made += 1
        return f"n{self.made}"

    def node(self, depth: int) -> dict[str, Any]:
        few, all_kinds = ["agent", "agent", "human"], ["agent", "sequence", "parallel", "foreach", "branch", "loop"]
        kinds = few if depth > 3 or self.made > 18 else all_kinds
        when = {"when": self.condition()} if self.chance.random() < 0.15 and len(self.texts) > 1 else {}
        return getattr(self, self.chance.choice(kinds))(depth) | when

    def condition(self) -> dict[str, Any]:
        ref = {"ref": self.chance.choice(self.texts)}
        return self.chance.choice([ref | {"op": "exists"}, ref | {"op": "eq", "value": "x"}, {"not": ref | {"op": "falsy"}}])

    def agent(self, depth: int) -> dict[str, Any]:
        ident, chance = self.id(), self.chance
        made = agent(ident, input=f"do {{{{{chance.choice(self.texts)}}}}}")
        if chance.random() < 0.4:
            made["output_schema"] = TOPICS
        if chance.random() < 0.3:
            made["inputs_from"] = [chance.choice(self.texts)]
        if chance.random() < 0.3:
            made["retry"] = {"max_attempts": chance.randint(2, 3)}
        if chance.random() < 0.2:
            made["fallback"] = self.apart(depth + 1)
        if chance.random() < 0.7:
            made["on_error"] = "continue"
        self.texts.append(ident)
        if "output_schema" in made:
            self.lists.append(f"{ident}.topics")
        return made

    def human(self, depth: int) -> dict[str, Any]:
        ident = self.id()
        made = {"type": "human", "id": ident, "prompt": "Well? {{input}}"}
        self.texts.append(ident)
        return made

    def apart(self, depth: int) -> dict[str, Any]:
        """A node whose names nobody else sees."""
        texts, lists = list(self.texts), list(self.lists)
        made = self.node(depth)
        self.texts, self.lists = texts, lists
        return made

    def sequence(self, depth: int) -> dict[str, Any]:
        return seq(*(self.node(depth + 1) for _ in range(self.chance.randint(1, 3))))

    def parallel(self, depth: int) -> dict[str, Any]:
        branches = [self.apart(depth + 1) for _ in range(self.chance.randint(1, 3))]
        return par(*branches, max_concurrency=self.chance.randint(1, 3), on_error=self.chance.choice(self.on_error))

    def foreach(self, depth: int) -> dict[str, Any]:
        items: Any = [{"n": n} for n in range(self.chance.randrange(4))]
        if self.lists and self.chance.random() < 0.7:
            items = self.chance.choice(self.lists)
        texts = self.texts
        self.texts = [*texts, "item"]
        body = self.apart(depth + 1)
        self.texts = texts
        settings = {"max_concurrency": self.chance.randint(1, 3), "parallel": self.chance.random() < 0.8}
        ident = self.id()
        self.texts.append(ident)
        self.lists.append(ident)
        return each(ident, items, body, **settings, on_error=self.chance.choice(self.on_error))

    def branch(self, depth: int) -> dict[str, Any]:
        cases = {"true": self.apart(depth + 1), "x": self.apart(depth + 1)}
        return {"type": "branch", "on": self.chance.choice(self.texts), "cases": cases, "default": self.apart(depth + 1)}

    def loop(self, depth: int) -> dict[str, Any]:
        ident = self.id()
        body = self.apart(depth + 1)
        until = {"ref": self.chance.choice(self.texts), "op": "eq", "value": "x"}
        settings = {"max_iterations": self.chance.randint(1, 2), "on_exhausted": self.chance.choice(["halt", "continue", "continue"])}
        self.texts.append(ident)
        return {"type": "loop", "id": ident, "body": body, "until": until, **settings}
