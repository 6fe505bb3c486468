"""Journals of runs, read slice by slice: a run of ten thousand steps is more than one answer may read.

What was read stays here for a while, so whoever follows a run reads only what is new.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from power_loop.contracts.codec import from_cells
from power_loop.contracts.records import Record
from power_loop.inspector.reads import Reads
from power_loop.workflow.journal import Order, rows_of, run_id_of, told_by
from power_loop.workflow.plan import Plan
from power_loop.workflow.rows import OnChange, Row, RunRow

# So many records are read, and so many rows replayed, in one go: some 60 ms.
SLICE_ROWS = 1_500
# Runs that are kept in mind: who looks at more than these at once reads some of them again.
RUNS_KEPT = 4


class Journal:
    """One run, as far as it was read."""

    def __init__(self, session_id: str, given: Mapping[str, Any]) -> None:
        self.through: int = 0
        """The seq of the last record that was read."""
        self.lock: asyncio.Lock = asyncio.Lock()
        self._run_id, self._told = run_id_of(session_id), dict(given)
        self._rows: list[Row] = []
        self._begin()

    def _begin(self) -> None:
        said: list[OnChange] = [row.on_change for row in self._rows if isinstance(row, RunRow) and row.on_change]
        self.plan: Plan = Plan(Order.of(self._told).spec, run_id=self._run_id, on_change=said[-1] if said else None, live=True)
        self._replayed = 0

    def add(self, records: Sequence[Record], through: int) -> None:
        """The next records. What a resume says anew holds for all that came before it, too, so that is replayed."""
        told, rows = told_by(records), rows_of(records)
        self.through, self._told = through, self._told | told
        self._rows += rows
        if told or any(isinstance(row, RunRow) and row.on_change for row in rows):
            self._begin()

    def replay(self) -> bool:
        """Go on by a slice; True when all that was read is in the plan."""
        for row in self._rows[self._replayed : self._replayed + SLICE_ROWS]:
            self.plan.apply(row)
        self._replayed = min(len(self._rows), self._replayed + SLICE_ROWS)
        if self._replayed < len(self._rows):
            return False
        self.plan.leave()
        return True


class Journals:
    """The journals that were looked at last."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        self._known: dict[str, Journal] = {}

    async def read_on(self, session_id: str, given: Mapping[str, Any], head: int) -> tuple[Plan | None, int]:
        """The plan of the run, or None while it was not read to the ``head``; and how far it was."""
        journal = self._known.pop(session_id, None)
        if journal is None or journal.through > head:  # deleted meanwhile, and begun anew
            journal = Journal(session_id, given)
        self._known[session_id] = journal
        while len(self._known) > RUNS_KEPT:
            del self._known[next(iter(self._known))]
        async with journal.lock:
            end = min(head, journal.through + SLICE_ROWS)
            if end > journal.through:
                rows = await self._reads.rows(session_id, journal.through, end)
                journal.add([from_cells(row.cells) for row in rows], end)
            done = journal.replay() and end == head
        return journal.plan if done else None, journal.through
