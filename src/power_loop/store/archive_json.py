"""Sessions as JSON and back. What comes from outside is judged whole before anything is made of it.

An archive is one object: what describes the session, its ``records`` as they stand in the table, small state, armed
timers, blobs, and the same again for each child. Every complaint is a ValueError that names the place.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from power_loop.contracts.codec import dumps, from_cells
from power_loop.contracts.cron import can_read_cron, next_cron_ms
from power_loop.contracts.errors import RecordFromTheFuture
from power_loop.contracts.records import ContextFolded, ToolParked, UserSaid
from power_loop.contracts.store import MOST, Cells, RecordRow
from power_loop.contracts.text import check_key, check_text
from power_loop.kernel.history import History
from power_loop.store.archive_charges import ChargeImage
from power_loop.store.image import BlobImage, Info, SessionImage, TimerImage, sends_in
from power_loop.store.notes import NOTES_KEY
from power_loop.store.timers import check_time, check_timer

FORMAT, VERSION = "power-loop-session", 4

Json = Mapping[str, Any]

KINDS: Mapping[type, str] = {str: "text", int: "a whole number", list: "a list", dict: "an object", bool: "true or false"}

# What each note has.
NOTE: Mapping[str, type] = {"id": int, "content": str, "pinned": bool, "created_at": int, "updated_at": int}

# What of a charge is a whole number.
COUNTS = tuple(name for name in ChargeImage._fields if name not in ("charged_session", "purpose", "model", "cost"))

# The cells of a record that are no text.
NUMBERS = ("version", "escaped", "call_index")


# --- to JSON -------------------------------------------------------------------------------------


def archive_of(image: SessionImage, children: Sequence[dict[str, Any]], exported_at: int) -> dict[str, Any]:
    """The archive of ``image``, with the archives of its children."""
    info = image.info
    return {
        "format": FORMAT,
        "version": VERSION,
        "exported_at": exported_at,
        "session_id": image.session_id,
        "parent_session_id": info.parent_session_id,
        "created_at": image.created_at,
        "agent": image.agent,
        "archived": image.archived,
        "system_prompt": info.system_prompt,
        "model": info.model,
        "config": json.loads(info.config) if info.config else None,
        "metadata": json.loads(info.metadata) if info.metadata else {},
        "kind": info.kind,
        "lifecycle": info.lifecycle,
        "spawn_tool_call_id": info.spawn_tool_call_id,
        "stats": _stats(image),
        "head": len(image.rows),
        "records": [_record(row) for row in image.rows],
        "state": {key: json.loads(value) for key, value in sorted(image.values.items())},
        "timers": [timer._asdict() for timer in image.timers],
        "blobs": [{**blob._asdict(), "data": base64.b64encode(blob.data).decode("ascii")} for blob in image.blobs],
        "charges": [charge._asdict() for charge in image.charges],
        "children": list(children),
    }


def _stats(image: SessionImage) -> dict[str, Any]:
    history = History()
    for row in image.rows:
        history.add(row, from_cells(row.cells))
    return {**history.tally._asdict(), "first_send_at": image.first_send_at, "last_send_at": image.last_send_at}


def _record(row: RecordRow) -> dict[str, Any]:
    numbers = {"seq": row.seq, "send_index": row.send_index, "round_index": row.round_index, "created_at": row.created_at}
    return {name: value for name, value in {**numbers, **row.cells._asdict()}.items() if value is not None}


# --- from JSON -------------------------------------------------------------------------------------


def image_of(data: Json, where: str = "archive") -> SessionImage:
    """The session that one archive describes, its children left out. Raises `ValueError`."""
    rows = [_row(each, f"{where}.records[{at}]", data) for at, each in enumerate(_objects(data, "records", where))]
    if (head := _need(data, "head", int, where)) != len(rows):
        raise ValueError(f"{where}: it has {len(rows)} of {head} records; it is truncated")
    _judge(rows, where)
    stats: Json = _field(data, "stats", dict, where) or {}
    metadata, config = _field(data, "metadata", dict, where), _field(data, "config", dict, where)
    info = Info(
        _text(data, "system_prompt", where), _text(data, "model", where), None if config is None else dumps(config),
        dumps(metadata) if metadata else None, _field(data, "kind", str, where), _field(data, "lifecycle", str, where),
        _field(data, "parent_session_id", str, where), _field(data, "spawn_tool_call_id", str, where),
    )  # fmt: skip
    return SessionImage(
        _need(data, "session_id", str, where), info, rows, _text(data, "agent", where),
        first_send_at=_field(stats, "first_send_at", int, f"{where}.stats"),
        last_send_at=_field(stats, "last_send_at", int, f"{where}.stats"),
        values=_state(data, where),
        timers=[_timer(each, f"{where}.timers[{at}]") for at, each in enumerate(_objects(data, "timers", where))],
        blobs=[_blob(each, f"{where}.blobs[{at}]") for at, each in enumerate(_objects(data, "blobs", where))],
        charges=_charges(data, where, sends_in(rows)),
        head=len(rows),
    )  # fmt: skip


def check_header(data: object, where: str = "archive") -> Json:
    """``data``, if it is an archive that can be read here. Raises `ValueError`."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{where}: expected an object, found {type(data).__name__}")
    archive = cast("Json", data)
    name = archive.get("format")
    if name != FORMAT:
        raise ValueError(f"{where}: its format is {name!r}, not {FORMAT!r}; it was written by something else, or is truncated")
    version = _need(archive, "version", int, where)
    if version > VERSION:
        raise ValueError(
            f"{where}: version {version} was written by a newer power-loop; this one reads up to {VERSION}: upgrade the package"
        )
    return archive


def children_of(data: Json, where: str) -> list[tuple[Json, str]]:
    """The archives of the children, each with its place. Raises `ValueError` for one that belongs elsewhere."""
    children: list[tuple[Json, str]] = []
    for at, each in enumerate(_objects(data, "children", where)):
        place = f"{where}.children[{at}]"
        child = check_header(each, place)
        if child.get("parent_session_id") != data.get("session_id"):
            raise ValueError(f"{place}: it is a child of {child.get('parent_session_id')!r}, not of {data.get('session_id')!r}")
        children.append((child, place))
    return children


def _row(data: Json, where: str, archive: Json) -> RecordRow:
    owner = data.get("session_id", archive.get("session_id"))
    if owner != archive.get("session_id"):
        raise ValueError(f"{where}: it belongs to the session {owner!r}, not to {archive.get('session_id')!r}")
    values: dict[str, Any] = {}
    for name in Cells._fields:
        value = data.get(name)
        if name in ("body", "tool_calls") and value is not None and not isinstance(value, str):
            value = dumps(value)
        values[name] = _field({name: value}, name, int if name in NUMBERS else str, where)
    if values["kind"] is None or values["version"] is None:
        raise ValueError(f"{where}: it has no kind or no version")
    seq, send_index = _need(data, "seq", int, where), _need(data, "send_index", int, where)
    return RecordRow(seq, send_index, _field(data, "round_index", int, where), Cells(**values), created_at=_at(data, where))


def _judge(rows: Sequence[RecordRow], where: str) -> None:
    """Raise `ValueError` at the first record that cannot be read, or does not fit where it stands."""
    history = History()
    for at, row in enumerate(rows):
        place = f"{where}.records[{at}] ({row.cells.kind})"
        try:
            wrong = _gone_on(history, row)
        except RecordFromTheFuture as error:
            raise ValueError(f"{place}: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{place}: it cannot be read: {error!r}") from error
        if wrong is not None:
            raise ValueError(f"{place}: {wrong}")


def _gone_on(history: History, row: RecordRow) -> str | None:
    """What is wrong with the next row; None: nothing, and ``history`` has gone on by it. A body of odd types raises what it likes."""
    record = from_cells(row.cells)
    for wrong in (*history.misplaced(row, record), *history.out_of_order(record)):
        return wrong
    if isinstance(record, ContextFolded) and not 0 <= record.through < row.seq:
        return f"it folds up to seq {record.through}, which does not stand before it"
    if isinstance(record, ToolParked) and type(record.interaction) is not dict:
        return f"it waits with {record.interaction!r:.80}, which is no object"
    if isinstance(record, UserSaid):
        check_key("its key", record.key)
    history.add(row, record)
    if not all(0 <= number <= MOST for number in history.tally):
        return f"with it the session counts {history.tally}, and no database counts so far"
    return None


def _state(data: Json, where: str) -> dict[str, str]:
    state: Json = _field(data, "state", dict, where) or {}
    if NOTES_KEY in state:
        _check_notes(_need(state, NOTES_KEY, dict, f"{where}.state"), f"{where}.state.{NOTES_KEY}")
    return {key: dumps(value) for key, value in state.items()}


def _check_notes(notes: Json, where: str) -> None:
    """Of all small state, this is read by us, and a note that cannot be read keeps all others from being read."""
    following, _ = _need(notes, "next", int, where), _need(notes, "notes", list, where)
    last = 0
    for at, note in enumerate(_objects(notes, "notes", where)):
        for name, kind in NOTE.items():
            _need(note, name, kind, f"{where}.notes[{at}]")
        if not last < note["id"] < following:
            raise ValueError(f"{where}.notes[{at}].id: {note['id']} does not stand between {last} and {following}")
        last = note["id"]


def _timer(data: Json, where: str) -> TimerImage:
    texts = [_field(data, name, str, where) for name in ("note", "cron", "tz", "body")]
    due_at = _need(data, "due_at", int, where)
    anchor_at, interval_ms = (_field(data, name, int, where) for name in ("anchor_at", "interval_ms"))
    note, cron, tz, body = texts
    timer = TimerImage(due_at, anchor_at or due_at, note, interval_ms, cron, tz, body, _at(data, where))
    if cron is not None:
        _check_cron(cron, tz, where)
    try:
        _check_times(timer)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return timer


def _check_times(timer: TimerImage) -> None:
    """What nobody could arm, no archive brings along."""
    interval_s = None if timer.interval_ms is None else timer.interval_ms / 1000
    check_timer(timer.due_at if timer.cron is None else None, timer.note or "", interval_s, timer.cron)
    check_time("due_at", timer.due_at)
    check_time("anchor_at", timer.anchor_at)


def _check_cron(cron: str, tz: str | None, where: str) -> None:
    """A zone that this machine does not know may be known where the timer fires; an expression is good or bad everywhere."""
    if tz is None:
        raise ValueError(f"{where}: its cron has no tz")
    if can_read_cron():
        try:
            next_cron_ms(cron, "UTC", 0)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error


def _blob(data: Json, where: str) -> BlobImage:
    try:
        content = base64.b64decode(_need(data, "data", str, where), validate=True)
    except binascii.Error as error:
        raise ValueError(f"{where}.data: it is no base64: {error}") from error
    return BlobImage(_need(data, "digest", str, where), content, _field(data, "media_type", str, where), _at(data, where))


def _charges(data: Json, where: str, sends: int) -> list[ChargeImage]:
    charges = [_charge(each, f"{where}.charges[{at}]") for at, each in enumerate(_objects(data, "charges", where))]
    if len({charge.key for charge in charges}) < len(charges):
        raise ValueError(f"{where}.charges: two of them are one call")
    if any(not 1 <= charge.of_send <= sends for charge in charges):
        raise ValueError(f"{where}.charges: one is of a send that is not there; it has {sends}")
    if sum(charge.calls + charge.input_tokens + charge.output_tokens for charge in charges) > MOST:
        raise ValueError(f"{where}.charges: no database counts as far as their sum")
    return charges


def _charge(data: Json, where: str) -> ChargeImage:
    cost: Any = data.get("cost")
    if cost is not None and not (type(cost) in (int, float) and 0 <= cost < MOST):
        raise ValueError(f"{where}.cost: expected a number of at least 0, found {cost!s:.80}")
    texts = {"charged_session": _need(data, "charged_session", str, where), "purpose": _need(data, "purpose", str, where)}
    for name, text in texts.items():
        check_key(f"{where}.{name}", text)
    numbers = {name: _need(data, name, int, where) for name in COUNTS}
    if min(numbers.values()) < 0:
        raise ValueError(f"{where}: it has a number below 0")
    model = _field(data, "model", str, where)
    check_key(f"{where}.model", model)
    return ChargeImage(**texts, **numbers, cost=None if cost is None else float(cost), model=model)


def _at(data: Json, where: str) -> int:
    return _field(data, "created_at", int, where) or 0


def _objects(data: Json, name: str, where: str) -> Sequence[Json]:
    found = data.get(name)
    if name == "records" and found is None:
        raise ValueError(f"{where}: it has no {name}; it is truncated, or no session export")
    if found is not None and not isinstance(found, list):
        raise ValueError(f"{where}.{name}: expected a list, found {type(found).__name__}")
    items = cast("list[object]", found or [])
    for at, each in enumerate(items):
        if not isinstance(each, Mapping):
            raise ValueError(f"{where}.{name}[{at}]: expected an object, found {type(each).__name__}")
    return cast("list[Json]", items)


def _need(data: Json, name: str, kind: type, where: str) -> Any:
    value = _field(data, name, kind, where)
    if value is None:
        raise ValueError(f"{where}: it has no {name}; it is truncated, or no session export")
    return value


def _text(data: Json, name: str, where: str) -> str | None:
    """``data[name]`` if it is text that every database keeps, or None where it is absent."""
    text: str | None = _field(data, name, str, where)
    check_text(f"{where}.{name}", text)
    return text


def _field(data: Json, name: str, kind: type, where: str) -> Any:
    """``data[name]`` if it is of ``kind``, or None where it is absent."""
    value = data.get(name)
    if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise ValueError(f"{where}.{name}: expected {KINDS[kind]}, found {value!r:.80}")
    if kind is int and value is not None and not -MOST <= value <= MOST:
        raise ValueError(f"{where}.{name}: {value!r:.80} is too large; no database counts so far")
    return value
