"""Archives of the 3.x line: messages, compactions, notes and stats become records and state of ours.

Read as leniently as is safe: fields have the names of the public rows, and what is not known is left out. How earlier
sends were projected is not taken over; it is made anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from power_loop.contracts.codec import dumps
from power_loop.contracts.messages import Content, ToolCall, text_of
from power_loop.contracts.records import CallCharged, ContextFolded
from power_loop.contracts.usage import CallUsage
from power_loop.kernel.outside import REPAIRS, Arrivals, OutsideMessage
from power_loop.store.archive_json import FORMAT
from power_loop.store.image import Info, SessionImage
from power_loop.store.notes import NOTES_KEY, notes_value

Json = Mapping[str, Any]
COUNTED = ("prompt_tokens", "completion_tokens", "llm_calls")


def is_3x(data: object) -> bool:
    """It looks like one: messages, and no format of ours."""
    return isinstance(data, Mapping) and "messages" in data and cast("Json", data).get("format") != FORMAT


def images_of_3x(data: Json) -> list[SessionImage]:
    """The session that the archive describes. Raises `ValueError`, naming the place."""
    session = _mapping(data.get("session"))
    messages = _rows(data, "messages")
    arrivals, ours = Arrivals(), dict[int, int]()
    stats = _mapping(data.get("stats"))
    charged = False
    for at, row in enumerate(messages):
        seq = arrivals.hear(_message(row, f"archive.messages[{at}]")) if row.get("state") != "dropped" and not _is_note(row, data) else None
        if seq is not None and isinstance(row.get("seq"), int):
            ours[row["seq"]] = seq
        if seq is not None and not charged:
            charged = True
            _charge(arrivals, stats)
    arrivals.end()
    _fold(arrivals, data, ours)
    times = (_number(stats, "first_send_at"), _number(stats, "last_send_at")) if arrivals.rows else (None, None)
    return [SessionImage(_name(data, session), _info(session or data), arrivals.rows, None, False, 0, *times, _state(data, arrivals))]


def _message(row: Json, where: str) -> OutsideMessage:
    role, content = row.get("role"), row.get("content")
    if role not in ("user", "assistant", "tool", "system"):
        raise ValueError(f"{where}: role {role!r} is none of user, assistant, tool, system")
    if content is not None and not isinstance(content, (str, list)):
        raise ValueError(f"{where}.content: expected text or a list of blocks, found {type(content).__name__}")
    calls = tuple(_call(each, f"{where}.tool_calls[{at}]") for at, each in enumerate(_list(row.get("tool_calls"))))
    name, call_id, send = row.get("name"), row.get("tool_call_id"), row.get("send_index")
    return OutsideMessage(
        role, cast("Content", content or ""), name if isinstance(name, str) else None, calls, call_id if isinstance(call_id, str) else None,
        send if isinstance(send, int) else None, _number(row, "created_at") or 0,
    )  # fmt: skip


def _call(data: Json, where: str) -> ToolCall:
    function = _mapping(data.get("function")) or data
    name, arguments = function.get("name"), function.get("arguments", "{}")
    if not isinstance(data.get("id"), str) or not isinstance(name, str):
        raise ValueError(f"{where}: a call needs an id and a name, found {dict(data)!r:.80}")
    return ToolCall(data["id"], name, arguments if isinstance(arguments, str) else dumps(arguments))


def _charge(arrivals: Arrivals, stats: Json) -> None:
    """What the session cost there, as one row; which call cost what is not in the archive."""
    prompt, completion, calls = (_number(stats, name) or 0 for name in COUNTED)
    if prompt or completion or calls:
        arrivals.note(CallCharged("imported", CallUsage(prompt, completion, calls=calls)))


# --- compactions -----------------------------------------------------------------------------------


def _is_note(row: Json, data: Json) -> bool:
    """It is a compaction's summary: here that is no message, but what stands in for the folded ones."""
    return row.get("seq") in {each.get("note_seq") for each in _rows(data, "compactions")} - {None}


def _fold(arrivals: Arrivals, data: Json, ours: Mapping[int, int]) -> None:
    """The compactions as folds. A border within a send moves back to where the send began, so that nothing is lost."""
    texts = {row.get("seq"): text_of(row.get("content")) for row in _rows(data, "messages")}
    done = 0
    for each in _rows(data, "compactions"):
        covered = [ours[seq] for seq in ours if seq <= (_number(each, "to_seq") or 0)]
        summary = each.get("summary") or texts.get(each.get("note_seq")) or ""
        through, send = _border(arrivals, max(covered, default=0))
        if through > done and isinstance(summary, str) and summary:
            before, after = _number(each, "before_tokens") or 0, _number(each, "after_tokens") or 0
            arrivals.note(ContextFolded(through, summary, send, before, after))
            done = through


def _border(arrivals: Arrivals, through: int) -> tuple[int, int]:
    """(seq, send) of the last record up to ``through`` with which a send ends."""
    rows = arrivals.rows
    ends = {row.send_index: row.seq for row in rows if row.cells.role is not None}
    last = rows[-1].send_index if rows else 0
    whole = [send for send, end in ends.items() if end <= through and send < last]
    if not whole:
        return 0, 0
    send = max(whole)
    return max(row.seq for row in rows if row.send_index == send), send


# --- the rest ----------------------------------------------------------------------------------------


def _state(data: Json, arrivals: Arrivals) -> dict[str, str]:
    """Small state: the notes, and what the doctor shall report of the import."""
    notes = _rows(data, "notes")
    state = {NOTES_KEY: dumps(notes_value(notes))} if notes else {}
    return {**state, REPAIRS: dumps(arrivals.repairs)} if arrivals.repairs else state


def _name(data: Json, session: Json) -> str:
    name = session.get("session_id") or data.get("session_id")
    return name if isinstance(name, str) and name else "imported"


def _info(session: Json) -> Info:
    prompt, model, kind = (session.get(name) if isinstance(session.get(name), str) else None for name in ("system_prompt", "model", "kind"))
    config, metadata = (dumps(dict(found)) if (found := _mapping(session.get(name))) else None for name in ("config", "metadata"))
    return Info(prompt, model, config, metadata, kind)


def _rows(data: Json, name: str) -> Sequence[Json]:
    found: Any = data.get(name) or []
    if not isinstance(found, list) or not all(isinstance(each, Mapping) for each in cast("list[object]", found)):
        raise ValueError(f"archive.{name}: expected a list of objects")
    return cast("list[Json]", found)


def _list(value: Any) -> Sequence[Json]:
    return [cast("Json", each) for each in cast("list[object]", value or []) if isinstance(each, Mapping)]


def _mapping(value: Any) -> Json:
    return cast("Json", value) if isinstance(value, Mapping) else {}


def _number(data: Json, name: str) -> int | None:
    value = data.get(name)
    return value if isinstance(value, int) else None
