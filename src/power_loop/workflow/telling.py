"""What listeners hear of a run, and what a parent is told of its end.

Its beginning, what its leaves elsewhere cost and its end are told as those of any session; its steps as ``system_log``
events of the source ``workflow``.
"""

from __future__ import annotations

import json
from typing import Any

from power_loop.contracts.records import Record
from power_loop.contracts.store import RecordRow
from power_loop.runtime.tell import publish
from power_loop.runtime.told import Written, told_of
from power_loop.workflow.leaves import Leaf
from power_loop.workflow.results import WorkflowResult
from power_loop.workflow.rows import StepRow

# A parent reads so much of a result; `get_workflow` has the whole.
TOLD_CHARS = 20_000


class Telling:
    """Speaks to the bus of a loop for one run."""

    def __init__(self, bus: Any, session_id: str, run_id: str, name: str) -> None:
        self._bus, self._session_id, self._run_id, self._name = bus, session_id, run_id, name
        self._noted: list[Written] = []

    @property
    def is_heard(self) -> bool:
        return not self._bus.silent

    def goes_on(self, parent: str | None) -> None:
        """The run is in this process's hands; ``parent`` is the session that it works for."""
        if self._bus.wants("session_started"):
            told = {"scope": "workflow", "agent": self._name, "parent_session_id": parent}
            publish(self._bus, "session_started", told, session_id=self._session_id)

    def noted(self, record: Record, row: RecordRow) -> None:
        """To be told once it is written."""
        if self.is_heard:
            self._noted.append(Written(record, row))

    def wrote(self) -> None:
        """What was noted is written."""
        noted, self._noted = self._noted, []
        for written in noted:
            row = written.row
            for n, telling in enumerate(told_of(written, 0, 0)):
                if telling is not None and self._bus.wants(telling[0]):
                    where = {"send_index": row.send_index, "record_seq": row.seq, "cursor": f"{row.seq}.{n}"}
                    publish(self._bus, *telling, session_id=self._session_id, **where)

    def began(self, leaf: Leaf) -> None:
        if self._wanted():
            self._say(f"{leaf.node_id} began" + (f" (attempt {leaf.attempt})" if leaf.attempt > 1 else ""))

    def ended(self, row: StepRow) -> None:
        if self._wanted():
            state = {"returned": "was cut off", "waiting": "waits for somebody"}.get(row.state, row.status or row.state)
            self._say(f"{row.step} {state}" + (f": {row.error}" if row.error else ""), "warning" if row.state == "failed" else "info")

    def stands(self, status: str) -> None:
        if self._wanted():
            self._say(f"the run stands {status}")

    def _wanted(self) -> bool:
        return self.is_heard and self._bus.wants("system_log")

    def _say(self, text: str, level: str = "info") -> None:
        told = {"message": f"workflow {self._name} {self._run_id}: {text}", "level": level}
        publish(self._bus, "system_log", told, session_id=self._session_id, source="workflow")


def end_text(result: WorkflowResult) -> str:
    """The end of a run, as the model of its parent reads it."""
    lines = [f"[workflow {result.name!r} (run {result.run_id}) ended: {result.status}]"]
    lines += [f"- {each['node_id']}: {each['status']}: {each['error']}" for each in result.errors[:10]]
    if len(result.errors) > 10:
        lines.append(f"- and {len(result.errors) - 10} more failures")
    text = result.final if result.final or result.output is None else json.dumps(result.output, ensure_ascii=False)
    if len(text) > TOLD_CHARS:
        text = f"{text[:TOLD_CHARS]}\n[{len(text) - TOLD_CHARS} more characters; workflow_status has the whole]"
    return "\n".join([*lines, text] if text else lines)
