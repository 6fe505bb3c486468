"""The steps of a run as a tree that grows while it runs: what is open, what follows when a step is settled, and who has no place.

Each change costs what it changes, whatever else there is: a foreach of ten thousand items is as quick at its end as at its
beginning. What each kind of node does is `steps`' and `leaves`' business.
"""

from __future__ import annotations

from collections import deque

from power_loop.workflow.conditions import holds
from power_loop.workflow.outcome import SKIPPED, Outcome, Scope, failure
from power_loop.workflow.places import Place

# A run that opens more steps than this, skipped ones too, turns in circles.
MAX_STEPS = 200_000


class Step:
    """One node, opened."""

    is_leaf = False
    __slots__ = ("busy", "children", "held", "key", "last_begun", "open", "opened_ms", "order", "parent", "place", "scope", "shown", "slot")

    def __init__(self, place: Place, parent: Step | None, slot: int, scope: Scope) -> None:
        self.place: Place = place
        self.parent: Step | None = parent
        self.slot: int = slot
        self.scope: Scope = scope
        self.key: str = scope.prefix + place.label
        self.shown: str = scope.shown + place.label
        self.order: tuple[int, ...] = (*parent.order, slot) if parent is not None else ()
        self.open: bool = True
        self.children: dict[int, Step] = {}
        """Those that are open."""
        self.busy: int = 0
        """Leaves below that run or are about to."""
        self.held: list[Step] | None = None
        """Ready leaves below that wait until there is a place for this one; None while it has one."""
        self.last_begun: int = -1
        """The slot of the latest child in which anything ever began."""
        self.opened_ms: int = 0

    def start(self, tree: Tree) -> None:
        raise AssertionError(f"{type(self).__name__} does nothing")

    def child_settled(self, tree: Tree, child: Step, outcome: Outcome) -> None:
        tree.settle(self, outcome)

    def admit(self, child: Step) -> None:
        """The child has something to do."""

    def rests(self, tree: Tree, child: Step) -> None:
        """The child has nothing to do: it is over, or waits for somebody outside."""

    def may_follow(self, slot: int) -> bool:
        """Something after ``slot`` has begun, so what happened there was lived with."""
        return False


class Tree:
    """The open steps of a run."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.visited: int = 0
        """How often a step was looked at: what planning costs, counted."""
        self.clear()

    def clear(self) -> None:
        """Forget all steps."""
        self.opened: int = 0
        self.root: Step | None = None
        self.outcome: Outcome | None = None
        """Of the whole run, once it is settled."""
        self.timed: dict[str, Step] = {}
        """Open steps with a time limit that they do not keep by themselves."""
        self.settled: dict[str, tuple[Step, Outcome]] = {}
        """Containers with an id, by the name under which their results are shown."""
        self.errors: dict[tuple[int, ...], dict[str, str]] = {}
        self._news: deque[tuple[Step, Step, Outcome]] = deque()
        self._resting: deque[tuple[Step, Step]] = deque()

    # --- growing ------------------------------------------------------------------

    def open(self, place: Place, parent: Step | None, slot: int, scope: Scope) -> Step:
        """Open a node: what is ready in it is offered, and what it comes to at once is settled."""
        self.opened += 1
        self.visited += 1
        step = self.step(place, parent, slot, scope)
        step.opened_ms = self.now_ms
        if parent is None:
            self.root = step
        else:
            parent.children[slot] = step
        if self.opened > MAX_STEPS:
            self.overrun(f"the run has more than {MAX_STEPS} steps")
        elif place.node.when is not None and not holds(place.node.when, scope.look):
            self.settle(step, SKIPPED)
        else:
            if place.node.timeout_s is not None and place.node.type != "agent":
                self.timed[step.key] = step
            step.start(self)
            self.opened_anew(step)
        return step

    def settle(self, step: Step, outcome: Outcome) -> None:
        """The step is over; what is still open in it is given up. What follows is done by `work`."""
        for child in list(step.children.values()):
            self.abandon(child)
        self._close(step)
        if step.place.ident is not None:
            step.scope.outcomes[step.place.ident] = outcome
            if not step.is_leaf:
                self.settled[step.shown] = (step, outcome)
        if step.parent is None:
            self.outcome = outcome
        else:
            step.parent.children.pop(step.slot, None)
            self._news.append((step.parent, step, outcome))

    def fail(self, step: Step, error: str) -> None:
        """The step failed, and that is told."""
        self.list_error(step, "failed", error)
        self.settle(step, failure(f"{step.shown}: {error}" if step.place.ident else error))

    def overrun(self, error: str) -> None:
        """A cap on the whole run is reached: it fails, whatever its nodes say of errors."""
        assert self.root is not None
        self.list_error(self.root, "failed", error)
        if self.root.open:
            self.settle(self.root, failure(error))

    def list_error(self, step: Step, status: str, error: str) -> None:
        self.errors[step.order] = {"node_id": step.shown, "status": status, "error": error}

    def abandon(self, step: Step) -> None:
        """Nobody wants its result any more."""
        for child in list(step.children.values()):
            self.abandon(child)
        self._close(step)

    def _close(self, step: Step) -> None:
        step.open = False
        self.timed.pop(step.key, None)
        self.visited += 1

    def work(self) -> None:
        """Do what follows from what was settled, until nothing does."""
        while self._news or self._resting:
            if self._news:
                parent, child, outcome = self._news.popleft()
                if parent.open:
                    self.visited += 1
                    parent.child_settled(self, child, outcome)
            else:
                parent, child = self._resting.popleft()
                parent.rests(self, child)

    # --- leaves -------------------------------------------------------------------

    def is_busy(self, leaf: Step, change: int) -> None:
        """A leaf has something to do (1), or no longer (-1): those above it learn whether they need a place."""
        step: Step | None = leaf
        while step is not None:
            step.busy += change
            above = step.parent
            if above is not None and change > 0 and step.busy == 1:
                above.admit(step)
            elif above is not None and change < 0 and not step.busy:
                self._resting.append((above, step))
            step = above

    def holder_of(self, leaf: Step) -> Step | None:
        """Who, from the leaf upwards, has no place; None when the leaf may begin."""
        step: Step | None = leaf
        while step is not None and step.held is None:
            step = step.parent
        return step

    def step(self, place: Place, parent: Step | None, slot: int, scope: Scope) -> Step:
        """The step for a node, not yet started."""
        raise AssertionError(f"{type(self).__name__} knows no kinds of steps")

    def opened_anew(self, step: Step) -> None:
        """The step is open, and what the journal holds of it is to be heeded."""

    def release(self, leaves: list[Step]) -> None:
        """There is a place for what these leaves are part of."""
        raise AssertionError(f"{type(self).__name__} has no leaves")

    def mark_begun(self, step: Step) -> None:
        """Something of it is in the journal."""
        above = step.parent
        while above is not None:
            above.last_begun = max(above.last_begun, step.slot)
            step, above = above, above.parent

    def lived_with(self, step: Step) -> bool:
        """The run has gone on past this step, so that what it came to is part of what others built on."""
        above = step.parent
        while above is not None:
            if above.may_follow(step.slot):
                return True
            step, above = above, above.parent
        return False
