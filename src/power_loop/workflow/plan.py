"""What may run next in a workflow, and what it has come to: a pure function of its spec and its journal.

`Plan` reads rows one after the other; each costs what it changes. `ready` is the same for a whole journal at once.
No clock, no chance, no await: who runs leaves, and who writes rows, are others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from power_loop.contracts.errors import WorkflowRunError
from power_loop.contracts.usage import Usage
from power_loop.workflow.leaves import Change, Leaf, Leaves
from power_loop.workflow.nodes import FAILURES
from power_loop.workflow.outcome import Scope, of_value
from power_loop.workflow.places import Map, Place
from power_loop.workflow.results import AgentResult, WorkflowResult
from power_loop.workflow.rows import OnChange, Row, RunRow, StepRow
from power_loop.workflow.spec import WorkflowSpec

NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Plan:
    """One run of a workflow, as its journal tells it."""

    def __init__(
        self, spec: WorkflowSpec, rows: Iterable[Row] = (), *, run_id: str = "", on_change: OnChange | None = None, live: bool = False
    ) -> None:
        """Reads ``rows``. Unless ``live``, nobody runs what they say was begun: it is ready again.

        ``on_change`` says what becomes of finished steps whose input or spec is not what it was: "error" makes
        `refuse_changes` raise, "keep" takes the stored results, "rerun" runs them again. None: what the journal's last
        resume said, else "error". Raises `WorkflowSpecError` for a spec that was put together wrongly.
        """
        self.spec = spec
        self.run_id = run_id
        journal = list(rows)
        said: list[OnChange] = [row.on_change for row in journal if isinstance(row, RunRow) and row.on_change]
        self._map = Map(spec)
        self._tree = Leaves(spec.max_leaves, on_change or (said[-1] if said else "error"))
        self._stopped: RunRow | None = None
        self._started_ms = journal[0].at if journal else 0
        self._open()
        self._replay(journal)
        self._changed_specs = _changed_specs(self._tree.memo, self._map.leaves)
        if not live:
            self.leave()

    def leave(self) -> None:
        """Nobody runs what was begun: it is ready again."""
        for key in list(self._tree.running):
            self._tree.hear(StepRow(key, "returned"))
        self._tree.unwanted.clear()

    def _open(self) -> None:
        scope = Scope(None, "", "")
        scope.outcomes["input"] = of_value(self.spec.input)
        self._tree.now_ms = self._started_ms
        self._tree.open(self._map.root, None, 0, scope)
        self._tree.work()

    def _replay(self, journal: list[Row]) -> None:
        # A step that was run again has two results; only the last one ever counted for what came after.
        last = {row.step: n for n, row in enumerate(journal) if isinstance(row, StepRow) and row.state == "completed"}
        for n, row in enumerate(journal):
            if isinstance(row, StepRow) and row.state == "completed" and last[row.step] != n and _differ(row, journal[last[row.step]]):
                self._tree.charge(row)
            else:
                self.apply(row)

    # --- the journal --------------------------------------------------------------

    def apply(self, row: Row) -> None:
        """The next row of the journal. Costs what it changes."""
        self._tree.now_ms = row.at or self._tree.now_ms
        if isinstance(row, StepRow):
            self._tree.hear(row)
        elif row.run == "stopped":
            self._stopped = row
            self._tree.stop_running()
        elif row.run == "resumed":
            self._stopped = None
            self._started_ms = row.at or self._started_ms  # time limits begin anew
            self._tree.reopen()
            self._open()
        self._tree.work()

    def go_on(self, key: str, handed: Mapping[str, Any] = NOTHING) -> None:
        """The leaf that waits was answered: it may begin again, with what is ``handed`` to it."""
        self._tree.go_on(key, handed)

    def news(self, row: StepRow) -> Usage:
        """What ``row`` tells of usage that no row before it told; asked before it is applied."""
        return self._tree.news(row)

    def refuse_changes(self) -> None:
        """Raise `WorkflowRunError` (``workflow.changed``) when finished steps would be asked something else today."""
        if not (changes := self.changes):
            return
        lines = [f"{each.key}: its {each.what} was {each.was} and is {each.now}" for each in changes]
        text = f"finished steps of the run {self.run_id} were changed: {'; '.join(lines)}; "
        ways = 'on_change="keep" takes their stored results, "rerun" runs them again'
        raise WorkflowRunError(text + ways, run_id=self.run_id, code="workflow.changed")

    @property
    def changes(self) -> list[Change]:
        """Finished steps that were changed, unless that is to be lived with."""
        if self._tree.on_change != "error":
            return []
        return list(dict.fromkeys([*self._tree.changes, *self._changed_specs]))

    # --- what to do ---------------------------------------------------------------

    def ready(self) -> list[Leaf]:
        """The leaves that may begin, in the order in which they came up; none once the run is over or stopped."""
        if self._stopped or self._tree.outcome:
            return []
        return [step.leaf for step in self._tree.offered.values()]

    def leaf(self, key: str) -> Leaf:
        """An open leaf by its key: what it was asked. Raises `KeyError` when no such leaf is open."""
        return self._tree.leaves[key].leaf

    def to_cancel(self) -> list[str]:
        """Keys of leaves that run while nobody wants their result any more. What they finish all the same may be journaled."""
        return list(self._tree.unwanted)

    def running(self) -> list[str]:
        """Keys of leaves that somebody runs."""
        return [*self._tree.running, *(key for key in self._tree.unwanted if key not in self._tree.running)]

    def questions(self) -> Mapping[str, StepRow]:
        """The waiting rows of what waits for a person, by key."""
        return dict(self._tree.parked)

    def deadlines(self) -> dict[str, int]:
        """When (ms, UTC) a ``timeout`` row is due, by step; the run itself stands under ''. Time limits of agents are their runner's."""
        due = {
            key: step.opened_ms + int(step.place.node.timeout_s * 1000)
            for key, step in self._tree.timed.items()
            if step.place.node.timeout_s is not None
        }
        return due if self.spec.timeout_s is None else {**due, "": self._started_ms + int(self.spec.timeout_s * 1000)}

    def is_timed(self, key: str) -> bool:
        """The step is open and has a time limit; a limit that ran out around it may have closed it."""
        return key in self._tree.timed

    # --- what it has come to --------------------------------------------------------

    @property
    def status(self) -> str:
        """completed, failed; why it was stopped; waiting_for_input; or running."""
        tree = self._tree
        if tree.outcome is not None:
            return "failed" if tree.outcome.status == "failed" else "completed"
        if self._stopped is not None:
            return self._stopped.status or "cancelled"
        return "waiting_for_input" if tree.parked and not tree.offered and not tree.running else "running"

    @property
    def is_over(self) -> bool:
        """Nothing is left to do in this run, unless somebody resumes it."""
        return self._tree.outcome is not None or self._stopped is not None

    def result(self) -> WorkflowResult:
        """What it has come to up to here."""
        tree = self._tree
        found = [(step.order, made) for step, made in tree.results.values()]
        for name, (step, outcome) in tree.settled.items():
            text, error = outcome.text, outcome.error or None
            found.append((step.order, AgentResult(name, outcome.status, text, outcome.payload, error=error, attempts=0)))
        results = {made.node_id: made for _, made in sorted(found, key=lambda each: each[0])}
        errors = [tree.errors[order] for order in sorted(tree.errors)]
        end = tree.outcome
        return WorkflowResult(
            self.spec.name, self.status, results, end.text if end else "", tree.usage, errors, self.run_id, end.payload if end else None
        )

    def progress(self) -> dict[str, dict[str, int]]:
        """How many steps stand how (completed, failed, running, waiting, ready), by path in the document. Costs what there is."""
        counts: dict[str, dict[str, int]] = {}
        tree = self._tree
        standing = [(step.place, made.status) for step, made in tree.results.values()]
        standing += [(step.place, outcome.status) for step, outcome in tree.settled.values()]
        standing += [(step.place, step.state) for step in tree.leaves.values()]
        for place, status in standing:
            of_place = counts.setdefault(place.path, {})
            status = "failed" if status in FAILURES else status
            of_place[status] = of_place.get(status, 0) + 1
        return counts

    @property
    def root(self) -> Place:
        return self._map.root

    @property
    def usage(self) -> Usage:
        """Of all that was journaled."""
        return self._tree.usage

    @property
    def visited(self) -> int:
        """How often a step was looked at up to here: the cost of planning, counted."""
        return self._tree.visited


def _changed_specs(memo: dict[str, StepRow], places: dict[str, Place]) -> list[Change]:
    """Finished leaves whose spec is not what it was, whether the run has come to them again or not."""
    found: list[Change] = []
    for row in memo.values():
        place = places.get(row.step.rsplit("/", 1)[-1])
        if row.state == "completed" and row.spec_hash and place is not None and place.spec_hash != row.spec_hash:
            found.append(Change(row.step, "spec", row.spec_hash, place.spec_hash))
    return found


def _differ(row: StepRow, other: Row) -> bool:
    return isinstance(other, StepRow) and (row.input_hash, row.spec_hash) != (other.input_hash, other.spec_hash)


def ready(spec: WorkflowSpec, rows: Iterable[Row]) -> list[Leaf]:
    """The leaves that may begin after ``rows``: the decision of a workflow, as `kernel.decide` is that of a send."""
    return Plan(spec, rows).ready()
