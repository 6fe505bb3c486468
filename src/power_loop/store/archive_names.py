"""The ids of a copy: of its sessions, and wherever its records name one of them.

A call finds its sub-agent by an id that is made of the session's own id and the call, and a workflow's run its leaf by one
that is made of its own id and the step. So the sub-agents of a copy are named as the copy's calls and steps name them, and
whoever waits for one waits for that of the copy: never for that of the original.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from power_loop.contracts.children import CHILD, child_id_of, leaf_key
from power_loop.contracts.clock import Ids
from power_loop.contracts.codec import from_cells, to_cells
from power_loop.contracts.records import ModelReplied, StepChanged, ToolParked
from power_loop.contracts.rows import RUN_PREFIX, SessionKind
from power_loop.contracts.store import RecordRow
from power_loop.kernel.call_keys import idempotency_key
from power_loop.store.image import Info, SessionImage


def renamed(images: Sequence[SessionImage], top_id: str | None, ids: Ids) -> list[SessionImage]:
    """``images`` (parents first) under new ids; the first of them is a root, called ``top_id`` where that is given."""
    children: dict[str | None, list[Info]] = {}
    for image in images[1:]:
        children.setdefault(image.info.parent_session_id, []).append(image.info)
    names: dict[str, str] = {}
    begun: dict[str, str] = {}
    for image in images:
        name = names[image.session_id] = (None if names else top_id) or begun.get(image.session_id) or _drawn(image, ids)
        if image.session_id in children:
            begun.update(_begun_by(image, name, children[image.session_id]))
    return [_renamed(image, names, root=at == 0) for at, image in enumerate(images)]


def _drawn(image: SessionImage, ids: Ids) -> str:
    # A workflow is told by its name, so a copy of one is named as one.
    return RUN_PREFIX + ids.token(8) if image.info.kind == SessionKind.WORKFLOW else f"sess_{ids.token(12)}"


def _begun_by(image: SessionImage, name: str, children: Iterable[Info]) -> Iterator[tuple[str, str]]:
    """(id, id below ``name``) of each sub-agent that a call of ``image``, or a step of the run that it is, may have begun."""
    for child in children:
        if (call_id := child.spawn_tool_call_id) is not None:
            yield child_id_of(image.session_id, call_id), child_id_of(name, call_id)
        elif image.info.kind == SessionKind.WORKFLOW and (step := _step_of(child)) is not None:
            there, here = (child_id_of(one, f"{one.removeprefix(RUN_PREFIX)}:{step}") for one in (image.session_id, name))
            yield there, here
    for row in image.rows:
        if row.cells.tool_calls and isinstance(record := from_cells(row.cells), ModelReplied):
            for at, call in enumerate(record.calls):
                place = (row.send_index, row.round_index or 0, at, call)
                there, here = (child_id_of(one, idempotency_key(one, *place)) for one in (image.session_id, name))
                yield there, here


def _step_of(leaf: Info) -> str | None:
    """Which step of its run a leaf is, in which attempt. A copy's leaf still says of which run the first of them was."""
    key = leaf_key(json.loads(leaf.metadata)) if leaf.metadata else None
    return None if key is None else key.partition(":")[2]


def _renamed(image: SessionImage, names: Mapping[str, str], *, root: bool) -> SessionImage:
    info, name = image.info, names[image.session_id]
    if root:
        kind = SessionKind.ROOT if info.kind == SessionKind.SUBAGENT else info.kind
        info = info._replace(kind=kind, lifecycle=None, parent_session_id=None, spawn_tool_call_id=None, spawn_depth=0)
    elif info.parent_session_id is not None:
        info = info._replace(parent_session_id=names[info.parent_session_id])
    # Whoever is not in the archive is begun anew below the copy.
    rows = [_waiting(row, lambda child: names.get(child) or child_id_of(name, child)) for row in image.rows]
    charges = [charge._replace(charged_session=names.get(charge.charged_session, charge.charged_session)) for charge in image.charges]
    return image._replace(session_id=name, info=info, rows=rows, charges=charges)


def _waiting(row: RecordRow, below: Callable[[str], str]) -> RecordRow:
    """``row``; where a call or a step waits in it for a sub-agent, it waits for the one that ``below`` says."""
    if row.cells.kind not in ("tool_parked", "step_changed"):
        return row
    record = told = from_cells(row.cells)
    if isinstance(record, ToolParked):
        told = record._replace(interaction=_asked(record.interaction, below))
    elif isinstance(record, StepChanged) and isinstance(asked := record.change.get("interaction"), Mapping):
        told = record._replace(change={**record.change, "interaction": _asked(cast("Mapping[str, Any]", asked), below)})
    return row if told == record else row._replace(cells=to_cells(told))


def _asked(interaction: Mapping[str, Any], below: Callable[[str], str]) -> dict[str, Any]:
    told = dict(interaction)
    for part in ("state", "metadata"):
        inner: Any = told.get(part)
        if isinstance(inner, dict) and isinstance(child := cast("dict[str, Any]", inner).get(CHILD), str):
            told[part] = {**inner, CHILD: below(child)}
    return told
