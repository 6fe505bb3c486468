"""The leaves of a run: agents and questions. What they are asked, how often they are tried, and what the journal says of them.

A leaf is known by its key, its input by a digest: what the journal holds for the same key and input is taken, not run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from power_loop.contracts.agents import AgentSpec
from power_loop.contracts.usage import Usage
from power_loop.workflow.nodes import UNSET, AgentNode, HumanNode
from power_loop.workflow.outcome import Outcome, Scope, failure, of_answer
from power_loop.workflow.places import Place
from power_loop.workflow.results import AgentResult
from power_loop.workflow.rows import OnChange, StepRow, digest, usage_of, without
from power_loop.workflow.steps import KINDS
from power_loop.workflow.tree import Step, Tree


class Leaf(NamedTuple):
    """A leaf that may begin."""

    key: str
    """Names it in the journal, and makes its idempotency key."""
    node_id: str
    """As it is shown: ``research[2].r``."""
    node: AgentNode | HumanNode
    input: str
    """What the agent is told, or the person asked."""
    spec: AgentSpec | None
    """With its prompt filled in; None for a question."""
    attempt: int
    not_before_ms: int
    """A repeated attempt waits until then (UTC); 0 at once."""
    input_hash: str
    spec_hash: str
    handed: Mapping[str, Any] = {}
    """To a leaf elsewhere, beside its spec."""
    asked: int = 0
    """How many questions of it somebody was asked before."""


class Change(NamedTuple):
    """A finished step that would be asked something else today."""

    key: str
    what: str
    """"input" or "spec"."""
    was: str
    now: str


class LeafStep(Step):
    """An agent or a question, opened."""

    is_leaf = True
    __slots__ = ("base", "leaf", "state")

    def __init__(self, place: Place, parent: Step | None, slot: int, scope: Scope) -> None:
        super().__init__(place, parent, slot, scope)
        self.leaf: Leaf
        self.state: str = "new"
        """Then ready, running, waiting, fallback, over."""
        self.base: int = 0
        """Attempts of runs that ended; retries are counted from here."""

    def start(self, tree: Tree) -> None:
        assert isinstance(tree, Leaves)
        self.base = tree.bases.get(self.key, 0)
        tree.begin(self)

    def child_settled(self, tree: Tree, child: Step, outcome: Outcome) -> None:
        assert isinstance(tree, Leaves)
        if outcome.status == "completed":
            tree.settle(self, outcome)
        else:
            tree.lose(self)

    def is_busy(self) -> bool:
        return self.state in ("ready", "running")


class Leaves(Tree):
    """The tree, with the leaves in it and what the journal said of them."""

    begun: int

    def __init__(self, max_leaves: int, on_change: OnChange) -> None:
        super().__init__()
        self.max_leaves = max_leaves
        self.on_change: OnChange = on_change
        self.memo: dict[str, StepRow] = {}
        """The last row with a result, by key; also of steps that are not open yet, or no longer."""
        self.bases: dict[str, int] = {}
        self.usage: Usage = Usage()
        self.usage_of: dict[str, Usage] = {}
        self._told: dict[str, tuple[int, Usage]] = {}
        """By key: the latest attempt, and what it told that it used."""
        self.changes: list[Change] = []
        self.questions: dict[str, set[str]] = {}
        """By key: the ids of all that was asked, also in runs that ended. None is asked again: its answer may be on record."""
        self._forget()

    def _forget(self) -> None:
        self.begun = 0
        self.leaves: dict[str, LeafStep] = {}
        """Open ones, by key."""
        self.offered: dict[str, LeafStep] = {}
        """Those that may begin."""
        self.running: set[str] = set()
        self.parked: dict[str, StepRow] = {}
        self.unwanted: set[str] = set()
        """Those that run while nobody wants their result any more."""
        self.given_up: dict[str, LeafStep] = {}  # closed without a result; one that was running may bring it all the same
        self.results: dict[str, tuple[Step, AgentResult]] = {}
        self.failed: dict[str, Step] = {}
        """Steps whose failure counts, by key."""

    # --- opening ------------------------------------------------------------------

    def step(self, place: Place, parent: Step | None, slot: int, scope: Scope) -> Step:
        return KINDS.get(place.node.type, LeafStep)(place, parent, slot, scope)

    def begin(self, step: LeafStep) -> None:
        """Work out what the leaf is asked; take what the journal has for it, or offer it."""
        self.begun += 1
        if self.begun > self.max_leaves:
            self.overrun(f"the run has more than {self.max_leaves} leaves (max_leaves)")
            return
        try:
            step.leaf = self._asked(step)
        except LookupError as error:
            self._give_up(step, AgentResult(step.shown, "failed", error=error.args[0], attempts=0))
            return
        self.leaves[step.key] = step
        step.state = "ready"
        self.is_busy(step, 1)
        row = self.memo.get(step.key)
        if row is None:
            self._offer(step)
        else:
            self.mark_begun(step)
            self._take(step, row)

    def _asked(self, step: LeafStep) -> Leaf:
        place, scope = step.place, step.scope
        node = place.node
        spec = None
        if isinstance(node, AgentNode):
            text = scope.filled(place.templates["input"])
            if node.inputs_from:
                text = f"{text}\n\n{scope.context(node.inputs_from)}"
            prompt = scope.filled(place.templates["prompt"])
            if prompt.strip():
                spec = replace(node.spec, system_prompt=prompt) if prompt != node.spec.system_prompt else node.spec
            else:
                raise LookupError("its system prompt is empty once it is filled in")
            hashed = digest([text, prompt])
        else:
            assert isinstance(node, HumanNode)
            text = scope.filled(place.templates["prompt"])
            hashed = digest([text])
        return Leaf(step.key, step.shown, node, text, spec, step.base + 1, 0, hashed, place.spec_hash)

    def _changed(self, step: LeafStep, row: StepRow) -> list[Change]:
        compared = (("input", row.input_hash, step.leaf.input_hash), ("spec", row.spec_hash, step.leaf.spec_hash))
        return [Change(step.key, what, was, now) for what, was, now in compared if was and was != now]

    def _still_holds(self, step: LeafStep, row: StepRow) -> bool:
        """The journal's result is of this input and spec, or is to be taken all the same."""
        changed = self._changed(step, row)
        if not changed or self.on_change == "keep":
            return True
        if self.on_change == "error":
            self.changes += changed
            return True
        del self.memo[step.key]
        self.bases[step.key] = step.base = row.attempt
        step.leaf = step.leaf._replace(attempt=row.attempt + 1)
        return False

    def _offer(self, step: LeafStep) -> None:
        step.leaf = step.leaf._replace(asked=len(self.questions.get(step.key, ())))
        holder = self.holder_of(step)
        if holder is None:
            self.offered[step.key] = step
        else:
            assert holder.held is not None
            holder.held.append(step)

    def release(self, leaves: Iterable[Step]) -> None:
        for step in leaves:
            assert isinstance(step, LeafStep)
            if step.open and step.state == "ready":
                self._offer(step)

    # --- what the journal says --------------------------------------------------------

    def hear(self, row: StepRow) -> None:
        """One more row. What repeats a row changes nothing."""
        if row.state in ("completed", "failed") and not self._is_news(row):
            return
        if row.usage:
            self.charge(row)
        if row.interaction is not None:
            self.questions.setdefault(row.step, set()).add(str(row.interaction.get("interaction_id")))
        if row.state in ("completed", "failed", "waiting", "timeout"):
            self.memo[row.step] = row
        if row.state in ("completed", "failed", "returned"):
            self.unwanted.discard(row.step)
        if step := self.leaves.get(row.step):
            self.mark_begun(step)
            self._take(step, row)
        elif row.state == "completed" and (late := self.given_up.get(row.step)):
            self._keep_result(late, row)
        elif row.state == "timeout" and (timed := self.timed.get(row.step)):
            self.run_out(timed)
        if row.state == "failed" and step is None:  # nobody waited for it any more, so nothing was built on its failure
            del self.memo[row.step]
            self.bases[row.step] = row.attempt

    def _is_news(self, row: StepRow) -> bool:
        known = self.memo.get(row.step)
        if known is not None and known.state == "completed":
            return (row.input_hash, row.spec_hash) != (known.input_hash, known.spec_hash) and row.state == "completed"
        last = known.attempt if known is not None and known.state == "failed" else self.bases.get(row.step, 0)
        return row.state == "completed" or row.attempt > last

    def news(self, row: StepRow) -> Usage:
        """What ``row`` adds to what its attempt told before: a leaf that waited, or was cut off, tells the whole of it again."""
        attempt, known = self._told.get(row.step, (0, Usage()))
        usage = usage_of(row.usage)
        return usage if attempt != row.attempt else without(usage, known)

    def charge(self, row: StepRow) -> None:
        usage = self.news(row)
        # What was given back here is begun anew; elsewhere it is gone on with.
        self._told[row.step] = row.attempt, Usage() if row.state == "returned" and row.db_path is None else usage_of(row.usage)
        self.usage = self.usage + usage
        before = self.usage_of.get(row.step)
        self.usage_of[row.step] = usage if before is None else before + usage

    def _take(self, step: LeafStep, row: StepRow) -> None:
        match row.state:
            case "started":
                self._set_running(step)
            case "returned":
                if step.state == "running":
                    self.running.discard(step.key)
                    step.state = "ready"
                    self._offer(step)
            case "waiting" if isinstance(step.leaf.node, HumanNode) and self._changed(step, row):
                self._offer(step)  # another question by now
            case "waiting":
                self._park(step, row)
            case "completed" if not self._still_holds(step, row):
                self._again(step)
            case "completed":
                self._keep_result(step, row)
                self._over(step)
                self.settle(step, Outcome("completed", row.text, row.payload))
            case "failed":
                self._fail(step, row)
            case "timeout":
                self._late(step, row)

    def go_on(self, key: str, handed: Mapping[str, Any]) -> None:
        """Somebody has answered what the leaf waits for: it may begin again."""
        step = self.leaves[key]
        step.leaf = step.leaf._replace(attempt=self.parked[key].attempt, handed=handed)
        self._again(step)

    def _set_running(self, step: LeafStep) -> None:
        if step.state == "waiting":
            self.parked.pop(step.key, None)
            self.is_busy(step, 1)
        self.offered.pop(step.key, None)
        step.state = "running"
        self.running.add(step.key)

    def _park(self, step: LeafStep, row: StepRow) -> None:
        if step.is_busy():
            self.offered.pop(step.key, None)
            self.running.discard(step.key)
            step.state = "waiting"
            self.is_busy(step, -1)
        self.parked[step.key] = row

    # --- how a leaf ends ----------------------------------------------------------------

    def _fail(self, step: LeafStep, row: StepRow) -> None:
        node, status = step.place.node, row.status or "failed"
        retry = node.retry if isinstance(node, AgentNode) else None
        tried = row.attempt - step.base
        if retry is not None and status in retry.on and 0 < tried < retry.max_attempts:
            pause_ms = int(retry.backoff_s * 1000 * 2 ** (tried - 1))
            step.leaf = step.leaf._replace(attempt=row.attempt + 1, not_before_ms=row.at + pause_ms if pause_ms else 0, handed={})
            self._again(step)
            return
        usage = self.usage_of.get(step.key, Usage())
        error = row.error or f"the leaf ended {status}"
        result = AgentResult(step.shown, status, row.text, row.payload, usage, row.session_id, error, row.db_path, row.attempt)
        self._over(step)
        self._give_up(step, result)

    def _again(self, step: LeafStep) -> None:
        if step.state == "waiting":
            self.parked.pop(step.key, None)
            self.is_busy(step, 1)
        self.running.discard(step.key)
        step.state = "ready"
        if step.key not in self.offered:
            self._offer(step)

    def _late(self, step: LeafStep, row: StepRow) -> None:
        node = step.place.node
        if isinstance(node, AgentNode):
            self._fail(step, replace(row, state="failed", status="timeout", error=row.error or "it took too long"))
            return
        assert isinstance(node, HumanNode)
        self._over(step)
        if node.on_timeout == "continue" and node.default is not UNSET:
            outcome = of_answer(node, node.default)
            self.results[step.shown] = step, AgentResult(step.shown, "completed", outcome.text, outcome.payload)
            self.settle(step, outcome)
        else:
            self._give_up(step, AgentResult(step.shown, "timeout", error="nobody answered in time"))

    def _give_up(self, step: LeafStep, result: AgentResult) -> None:
        """No attempt is left: the fallback has its turn, if there is one."""
        self.results[step.shown] = step, result
        if step.place.fallback is not None:
            step.state = "fallback"
            self.open(step.place.fallback, step, 0, step.scope)
        else:
            self.lose(step)

    def lose(self, step: LeafStep) -> None:
        """The leaf failed for good."""
        node, result = step.place.node, self.results[step.shown][1]
        error = result.error or result.status
        self.list_error(step, result.status, error)
        self.failed[step.key] = step
        goes_on = (node.on_error if isinstance(node, AgentNode) else getattr(node, "on_timeout", "halt")) == "continue"
        self.settle(step, failure(error, halts=not goes_on))

    def run_out(self, step: Step) -> None:
        """A container took longer than it may."""
        error = f"it took longer than {step.place.node.timeout_s:g} s"
        self.list_error(step, "timeout", error)
        self.failed[step.key] = step
        self.settle(step, failure(error))

    def _keep_result(self, step: LeafStep, row: StepRow) -> None:
        usage = self.usage_of.get(step.key, Usage())
        made = AgentResult(step.shown, "completed", row.text, row.payload, usage, row.session_id, None, row.db_path, row.attempt)
        self.results[step.shown] = step, made

    def _over(self, step: LeafStep) -> None:
        """The leaf itself has nothing to do any more."""
        for known in (self.leaves, self.offered, self.parked):
            known.pop(step.key, None)
        self.running.discard(step.key)
        if step.is_busy():
            self.is_busy(step, -1)
        step.state = "over"

    def _close(self, step: Step) -> None:
        if isinstance(step, LeafStep) and step.open and step.state in ("ready", "running", "waiting"):
            self.unwanted |= self.running & {step.key}
            self.given_up[step.key] = step
            self._over(step)
        super()._close(step)

    def opened_anew(self, step: Step) -> None:
        row = self.memo.get(step.key)
        if row is not None and row.state == "timeout" and step.open and not isinstance(step, LeafStep):
            self.run_out(step)

    def reopen(self) -> None:
        """Begin anew with what the journal holds, but without the failures that the run has not lived with: these are tried again."""
        for key, step in self.failed.items():
            row = self.memo.get(key)
            if row is not None and not self.lived_with(step):
                self.bases[key] = row.attempt
                del self.memo[key]
        self.clear()
        self._forget()

    def stop_running(self) -> None:
        """Nobody wants to wait for what runs; what it still brings is kept."""
        self.unwanted |= self.running
