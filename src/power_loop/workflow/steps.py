"""What each kind of container does: when its children are opened, and what its result is made of."""

from __future__ import annotations

from collections import deque
from typing import Any, cast

from power_loop.workflow.conditions import holds, spellings
from power_loop.workflow.nodes import MAX_ITEMS, UNSET, BranchNode, ForeachNode, LoopNode, ParallelNode
from power_loop.workflow.outcome import SKIPPED, Outcome, Scope, failure, named_missing, of_value
from power_loop.workflow.references import parse_ref
from power_loop.workflow.rows import item_scope
from power_loop.workflow.tree import Step, Tree


class SequenceStep(Step):
    """The children in turn; its result is that of the last one which has one."""

    __slots__ = ("result",)

    result: Outcome

    def start(self, tree: Tree) -> None:
        self.result = SKIPPED
        tree.open(self.place.children[0], self, 0, self.scope)

    def child_settled(self, tree: Tree, child: Step, outcome: Outcome) -> None:
        if outcome.halts:
            tree.settle(self, outcome)
            return
        if outcome.status == "completed" or self.result is SKIPPED:
            self.result = outcome
        following = child.slot + 1
        if following == len(self.place.children):
            tree.settle(self, self.result)
        else:
            tree.open(self.place.children[following], self, following, self.scope)

    def may_follow(self, slot: int) -> bool:
        return self.last_begun > slot


class BranchStep(Step):
    """The case that the value names."""

    __slots__ = ()

    def start(self, tree: Tree) -> None:
        node = self.place.node
        assert isinstance(node, BranchNode)
        value = self.scope.look(parse_ref(node.on))
        names = list(node.cases)
        slot = next((names.index(name) for name in spellings(value) if name in node.cases), len(names))
        if slot < len(self.place.children):
            tree.open(self.place.children[slot], self, slot, self.scope)
            return
        what = f"{node.on} has no value" if value is UNSET else f"{node.on} is {of_value(value).text[:80]!r}"
        tree.fail(self, f"{what}, and there is no such case ({', '.join(names)}) and no default")


class LoopStep(Step):
    """The body, iteration after iteration; in it, the loop's own id names the iteration before."""

    __slots__ = ()

    def start(self, tree: Tree) -> None:
        self._iterate(tree, 0, None)

    def _iterate(self, tree: Tree, number: int, before: Outcome | None) -> None:
        scope = Scope(self.scope, f"{self.key}[{number}]/", f"{self.shown}[{number}].")
        if before is not None:
            scope.outcomes[self.place.label] = before
        tree.open(self.place.children[0], self, number, scope)

    def child_settled(self, tree: Tree, child: Step, outcome: Outcome) -> None:
        node = self.place.node
        assert isinstance(node, LoopNode)
        if outcome.halts:
            tree.settle(self, outcome)
        elif holds(node.until, child.scope.look):
            self._leave(tree, child, outcome)
        elif child.slot + 1 < node.max_iterations:
            self._iterate(tree, child.slot + 1, outcome)
        else:
            error = f"after {node.max_iterations} iterations its condition does not hold"
            if node.on_exhausted == "halt":
                tree.fail(self, error)
            else:
                tree.list_error(self, "failed", error)
                self._leave(tree, child, outcome)

    def _leave(self, tree: Tree, child: Step, outcome: Outcome) -> None:
        child.scope.outcomes.pop(self.place.label, None)
        self.scope.outcomes |= child.scope.outcomes
        tree.settle(self, outcome)

    def may_follow(self, slot: int) -> bool:
        return self.last_begun > slot


class FanStep(Step):
    """Children side by side: branches, or a body for each item. At most ``limit`` of them have something to do at a time."""

    __slots__ = ("active", "count", "done", "items", "limit", "next", "outcomes", "patient", "strict", "waiting")

    count: int
    done: int
    limit: int
    next: int
    patient: bool
    strict: bool

    def start(self, tree: Tree) -> None:
        node = self.place.node
        assert isinstance(node, (ParallelNode, ForeachNode))
        self.items: list[Any] = []
        if isinstance(node, ForeachNode):
            found = self._find_items(node)
            if isinstance(found, Outcome):
                if found is SKIPPED:
                    tree.settle(self, SKIPPED)
                else:
                    tree.fail(self, found.error)
                return
            self.items = found
        self.count = len(self.items) if isinstance(node, ForeachNode) else len(self.place.children)
        in_turn = isinstance(node, ForeachNode) and not node.parallel
        self.limit = 1 if in_turn else node.max_concurrency
        self.strict = in_turn
        """One that waits for a person keeps its place: the next one must not begin before it."""
        self.patient = node.on_error == "continue"
        self.active: set[int] = set()
        self.waiting: deque[Step] = deque()
        """Opened ones that have something to do again, and no place."""
        self.outcomes: list[Outcome] = [SKIPPED] * self.count
        self.next = self.done = 0
        self.fill(tree)
        if not self.count:
            tree.settle(self, self._together())

    def _find_items(self, node: ForeachNode) -> list[Any] | Outcome:
        if node.items is not None:
            return list(node.items)
        ref = parse_ref(node.items_from or "")
        source = self.scope.find(ref.name)
        if source is not None and source.status == "skipped":
            return SKIPPED
        if source is None or source.status == "failed":
            return failure(f"there are no items: {named_missing(ref.name, source)}")
        value = self.scope.look(ref)
        if not ref.path and isinstance(value, dict) and list(cast("dict[str, Any]", value)) == ["items"]:
            value = cast("dict[str, Any]", value)["items"]
        if not isinstance(value, list):
            return failure(f"there are no items: {ref.written} is {'not there' if value is UNSET else 'no list'}")
        value = cast("list[Any]", value)
        return value if len(value) <= MAX_ITEMS else failure(f"{len(value)} items are more than {MAX_ITEMS}")

    # --- places -------------------------------------------------------------------

    def fill(self, tree: Tree) -> None:
        """Give free places to those that wait for one, then to new children."""
        while self.open and len(self.active) < self.limit:
            if self.waiting:
                child = self.waiting.popleft()
                held, child.held = child.held or [], None
                if child.open and child.busy:
                    self.active.add(child.slot)
                    tree.release(held)
            elif self.next < self.count:
                slot, self.next = self.next, self.next + 1
                self.active.add(slot)
                child = self._open(tree, slot)
                if child.open and not child.busy and not self.strict:
                    self.active.discard(slot)
            else:
                break

    def _open(self, tree: Tree, slot: int) -> Step:
        node = self.place.node
        if not isinstance(node, ForeachNode):
            return tree.open(self.place.children[slot], self, slot, self.scope)
        name = node.id or node.as_var
        item = self.items[slot]
        scope = Scope(self.scope, item_scope(self.scope.prefix + name, slot, item), f"{self.scope.shown}{name}[{slot}].")
        scope.outcomes[node.as_var] = of_value(item)
        return tree.open(self.place.children[0], self, slot, scope)

    def admit(self, child: Step) -> None:
        if child.slot in self.active:
            return
        if len(self.active) < self.limit:
            self.active.add(child.slot)
        else:
            child.held = []
            self.waiting.append(child)

    def rests(self, tree: Tree, child: Step) -> None:
        if self.open and child.open and not child.busy and not self.strict and child.slot in self.active:
            self.active.discard(child.slot)
            self.fill(tree)

    # --- results ------------------------------------------------------------------

    def child_settled(self, tree: Tree, child: Step, outcome: Outcome) -> None:
        self.active.discard(child.slot)
        self.outcomes[child.slot] = outcome
        self.done += 1
        if outcome.halts and not self.patient:
            tree.settle(self, outcome)
            return
        self.fill(tree)
        if self.done == self.count:
            tree.settle(self, self._together())

    def _together(self) -> Outcome:
        texts = [each.text if each.status == "completed" else named_missing(self._called(n), each) for n, each in enumerate(self.outcomes)]
        values = [each.value if each.status == "completed" else None for each in self.outcomes]
        return Outcome("completed", "\n\n".join(texts) or "(no items)", {"items": values})

    def _called(self, slot: int) -> str:
        if isinstance(node := self.place.node, ForeachNode):
            return f"{node.id or node.as_var}[{slot}]"
        return self.place.children[slot].label


KINDS: dict[str, type[Step]] = {
    "sequence": SequenceStep, "parallel": FanStep, "foreach": FanStep, "branch": BranchStep, "loop": LoopStep,
}  # fmt: skip
