"""Records to rows and back: the one place where they meet JSON.

A message's text, name and calls stand in columns, so that anyone with SQL can read them; the rest is one JSON
object in ``body``, defaults left out. A row carries its kind and version. Older versions are lifted by an
upcaster on reading; a newer kind or version is refused by name and left as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

from power_loop.contracts.errors import RecordFromTheFuture
from power_loop.contracts.json_text import writer
from power_loop.contracts.made import made
from power_loop.contracts.messages import Content, ToolCall, is_content
from power_loop.contracts.records import (
    Answered,
    CallCharged,
    ContextFolded,
    Decided,
    FoldSkipped,
    ModelReplied,
    Record,
    RoundSkipped,
    SendEnded,
    SendProjected,
    SendRested,
    SendResumed,
    StepChanged,
    StopRequested,
    ToolParked,
    ToolReturned,
    ToolStarted,
    UserSaid,
)
from power_loop.contracts.store import Cells
from power_loop.contracts.text import encodes
from power_loop.contracts.usage import NO_USAGE, CallUsage

ESCAPED, BLOCKS = 1, 2

Body = dict[str, Any]

# Kinds that have changed since they were first released, with their version now; all others are at 1. One kind's
# change leaves the rows of all others readable for the release before.
CHANGED: dict[str, int] = {}

# (kind, version) → the body as the next version has it. Released versions stay readable through these.
UPCASTERS: dict[tuple[str, int], Callable[[Body], Body]] = {}

_encode, _encode_ascii = writer(), writer(ascii_only=True)


def dumps(value: Any) -> str:
    """Compact JSON that every database can store: lone surrogates are escaped, NUL always is."""
    text = _encode(value)
    return text if text.isascii() or encodes(text) else _encode_ascii(value)


def version_of(kind: str) -> int:
    """The version in which rows of this kind are written."""
    return CHANGED.get(kind, 1)


def content_cells(content: Content) -> tuple[str, int | None]:
    """(column text, how it is escaped)."""
    if not isinstance(content, str):
        return dumps(content), BLOCKS
    if "\0" in content or not (content.isascii() or encodes(content)):
        return _encode_ascii(content), ESCAPED
    return content, None


def content_of(content: str | None, escaped: int | None) -> Content:
    """What a row says; its JSON as text, where that is of no form that a message has."""
    if not escaped:
        return content or ""
    said = json.loads(content or '""')
    return said if is_content(said) else content or ""


def calls_to_json(calls: tuple[ToolCall, ...]) -> str:
    return dumps([call.to_message() for call in calls])


def calls_of(tool_calls: str | None) -> tuple[ToolCall, ...]:
    if not tool_calls:
        return ()
    return tuple(ToolCall(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in json.loads(tool_calls))


def usage_to_json(usage: CallUsage) -> list[Any]:
    """Trailing defaults are left out."""
    values = list(usage)
    while values and values[-1] == NO_USAGE[len(values) - 1]:
        values.pop()
    return values


# What nearly every send ends with.
JUST_COMPLETED = SendEnded("completed")
COMPLETED = Cells("send_ended", CHANGED.get("send_ended", 1), body='{"status":"completed"}')

# --- to rows -----------------------------------------------------------------------------------

# The columns that rows of the frequent kinds fill beside kind and version: (always, sometimes). Those of all other kinds may fill any.
FILLED: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "user_said": (("role", "content"), ("name", "escaped", "body")),
    "model_replied": (("role", "content", "body"), ("name", "escaped", "tool_calls")),
    "tool_returned": (("role", "content", "call_id"), ("name", "escaped", "body")),
    "send_ended": (("body",), ()),
}


def to_cells(record: Record) -> Cells:
    """What of ``record`` goes into which column."""
    return _WRITERS[type(record)](record)


SAID, REPLIED = version_of("user_said"), version_of("model_replied")


def _said_cells(record: UserSaid) -> Cells:
    said, name, overrides, key, metadata = record
    text, escaped = content_cells(said)
    plain = overrides is None and key is None and metadata is None
    body = None if plain else _body(overrides=overrides, key=key, metadata=metadata)
    return made(Cells, ("user_said", SAID, "user", name, text, escaped, None, None, None, body))


def _reply_cells(record: ModelReplied) -> Cells:
    said, calls, purpose, usage, finish, model, response_id, digest, think, blocks = record
    text, escaped = content_cells(said)
    name = None if purpose == "round" else purpose
    told = (None if finish == _usual_finish(calls) else finish, model, response_id, think or None, blocks)
    asked = calls_to_json(calls) if calls else None
    return made(Cells, ("model_replied", REPLIED, "assistant", name, text, escaped, asked, None, None, _reply_body(usage, digest, told)))


def _reply_body(usage: CallUsage, digest: str | None, told: tuple[Any, ...]) -> str:
    prompt, completion, cache_read, cache_write, reasoning, times, cost, estimated = usage
    if told == NOTHING_MORE and times and cost is None and not estimated and digest is not None:
        # The plain reply, of which there is one in every send: setting the encoder up would take longer than all of this.
        return f'{{"usage":[{prompt},{completion},{cache_read},{cache_write},{reasoning},{times}],"digest":{dumps(digest)}}}'
    body: Body = {"usage": usage_to_json(usage), "digest": digest}
    body.update(zip(("finish", "model", "id", "think", "blocks"), told, strict=True))
    return dumps({name: value for name, value in body.items() if value is not None})


NOTHING_MORE = (None,) * 5


def _usual_finish(calls: tuple[ToolCall, ...]) -> str:
    return "tool_calls" if calls else "stop"


def _end_cells(record: SendEnded) -> Cells:
    if record == JUST_COMPLETED:
        return COMPLETED
    return _plain("send_ended", status=record.status, reason=record.reason or None, error=record.error)


def _result_cells(record: ToolReturned) -> Cells:
    text, escaped = content_cells(record.output)
    outcome = None if record.outcome == "ok" else record.outcome
    retry = 1 if record.retry else None
    body = _body(outcome=outcome, data=record.data, ms=record.duration_ms or None, ran=None if record.ran else 0, retry=retry)
    return Cells("tool_returned", version_of("tool_returned"), "tool", record.name, text, escaped, call_id=record.call_id, body=body)


def _start_cells(record: ToolStarted) -> Cells:
    body = _body(name=record.name, arguments=record.arguments)
    return Cells("tool_started", version_of("tool_started"), call_id=record.call_id, body=body)


def _fold_cells(record: ContextFolded) -> Cells:
    text, escaped = content_cells(record.summary)
    inside = {"keeps": record.keeps or None, "rounds": record.rounds or None, "scale": record.scale or None}
    body = _body(through=record.through, send=record.through_send, tokens=[record.before_tokens, record.after_tokens], **inside)
    return Cells("context_folded", version_of("context_folded"), content=text, escaped=escaped, body=body)


def _resumed_cells(record: SendResumed) -> Cells:
    unknown = None if record.unknown == "report" else record.unknown
    return _plain("send_resumed", extra_rounds=record.extra_rounds or None, unknown=unknown, overrides=record.overrides)


def _charge_cells(record: CallCharged) -> Cells:
    usage = usage_to_json(record.usage)
    return _plain("call_charged", purpose=record.purpose, usage=usage, error=record.error, model=record.model)


def _parked_cells(record: ToolParked) -> Cells:
    return Cells("tool_parked", version_of("tool_parked"), call_id=record.call_id, body=_body(interaction=record.interaction))


def _decided_cells(record: Decided) -> Cells:
    more = {"digest": record.digest or None, "at": record.decided_at}
    body = _body(interaction_id=record.interaction_id, approved=record.approved, by=record.by, note=record.note, **more)
    return Cells("decided", version_of("decided"), call_id=record.call_id, body=body)


def _answered_cells(record: Answered) -> Cells:
    body = _body(interaction_id=record.interaction_id, answer=record.answer)
    return Cells("answered", version_of("answered"), call_id=record.call_id, body=body)


def _skip_cells(record: FoldSkipped) -> Cells:
    left = {"tokens": record.tokens or None, "cut": list(record.cut) if record.cut is not None else None}
    return _plain("fold_skipped", reason=record.reason, through=record.through or None, **left)


def _projected_cells(record: SendProjected) -> Cells:
    covers = {"lo": record.lo or None, "hi": record.hi or None, "scale": record.scale or None}
    body = _body(send=record.send, kind=record.kind, version=record.version, rows=list(record.rows), **covers)
    # Kind and send in columns too: one kind can be read without the others, and both by anyone with SQL.
    return Cells("send_projected", version_of("send_projected"), name=record.kind, call_index=record.send, body=body)


_WRITERS: dict[type[Record], Callable[[Any], Cells]] = {
    UserSaid: _said_cells,
    ModelReplied: _reply_cells,
    ToolReturned: _result_cells,
    SendEnded: _end_cells,
    ToolStarted: _start_cells,
    ContextFolded: _fold_cells,
    SendResumed: _resumed_cells,
    CallCharged: _charge_cells,
    RoundSkipped: lambda r: _plain("round_skipped", reason=r.reason or None),
    ToolParked: _parked_cells,
    Decided: _decided_cells,
    Answered: _answered_cells,
    StopRequested: lambda r: _plain("stop_requested", status=r.status, reason=r.reason or None, by=r.by or None),
    FoldSkipped: _skip_cells,
    SendProjected: _projected_cells,
    SendRested: lambda r: _plain("send_rested", status=r.status, error=r.error),
    StepChanged: lambda r: _plain("step_changed", step=r.step or None, change=dict(r.change)),
}


def _plain(kind: str, /, **body: Any) -> Cells:
    return Cells(kind, version_of(kind), body=_body(**body))


def _body(**fields: Any) -> str | None:
    present = {name: value for name, value in fields.items() if value is not None}
    return dumps(present) if present else None


# --- from rows -----------------------------------------------------------------------------------


def from_cells(cells: Cells) -> Record:
    """The record that these columns hold.

    Raises `RecordFromTheFuture` for a kind or version not known here, `ValueError` for a version that there never was.
    """
    reader, known = _READERS.get(cells.kind), version_of(cells.kind)
    if reader is None or cells.version > known:
        raise RecordFromTheFuture(cells.kind, cells.version)
    if cells.version < 1:
        raise ValueError(f"a record {cells.kind!r} has no version {cells.version}; the first one is 1")
    body = cast("Body", json.loads(cells.body)) if cells.body else {}
    for version in range(cells.version, known):
        if upcast := UPCASTERS.get((cells.kind, version)):
            body = upcast(body)
    return reader(cells, body)


def _user_said(cells: Cells, body: Body) -> UserSaid:
    return UserSaid(content_of(cells.content, cells.escaped), cells.name, body.get("overrides"), body.get("key"), body.get("metadata"))


def _model_replied(cells: Cells, body: Body) -> ModelReplied:
    calls = calls_of(cells.tool_calls)
    return ModelReplied(
        cast("str", content_of(cells.content, cells.escaped)), calls, cells.name or "round", usage_of(body),
        body.get("finish", _usual_finish(calls)), body.get("model"), body.get("id"),
        body.get("digest"), body.get("think", ""), body.get("blocks"),
    )  # fmt: skip


def usage_of(body: Mapping[str, Any]) -> CallUsage:
    return CallUsage(*body.get("usage", ()))


def _tool_returned(cells: Cells, body: Body) -> ToolReturned:
    output = content_of(cells.content, cells.escaped)
    return ToolReturned(
        cells.call_id or "", output, body.get("outcome", "ok"), cells.name, body.get("data"), body.get("ms", 0), body.get("ran", 1) == 1,
        "retry" in body,
    )  # fmt: skip


def _context_folded(cells: Cells, body: Body) -> ContextFolded:
    before, after = body.get("tokens", (0, 0))
    summary = cast("str", content_of(cells.content, cells.escaped))
    inside = (body.get("keeps", 0), body.get("rounds", 0), body.get("scale", 0.0))
    return ContextFolded(body["through"], summary, body.get("send", 0), before, after, *inside)


def _fold_skipped(_: Cells, body: Body) -> FoldSkipped:
    cut = body.get("cut")
    return FoldSkipped(body["reason"], body.get("through", 0), body.get("tokens", 0), (cut[0], cut[1]) if cut else None)


def _send_projected(_: Cells, body: Body) -> SendProjected:
    covers = (body.get("lo", 0), body.get("hi", 0), body.get("scale", 0.0))
    return SendProjected(body["send"], body["kind"], body["version"], tuple(body["rows"]), *covers)


_READERS: dict[str, Callable[[Cells, Body], Record]] = {
    "user_said": _user_said,
    "model_replied": _model_replied,
    "tool_returned": _tool_returned,
    "context_folded": _context_folded,
    "send_resumed": lambda _, b: SendResumed(b.get("extra_rounds", 0), b.get("unknown", "report"), b.get("overrides")),
    "call_charged": lambda _, b: CallCharged(b["purpose"], usage_of(b), b.get("error"), b.get("model")),
    "round_skipped": lambda _, b: RoundSkipped(b.get("reason", "")),
    "tool_started": lambda c, b: ToolStarted(c.call_id or "", b.get("name"), b.get("arguments")),
    "tool_parked": lambda c, b: ToolParked(c.call_id or "", b["interaction"]),
    "decided": lambda c, b: Decided(
        b["interaction_id"], c.call_id or "", b["approved"], b.get("by"), b.get("note"), b.get("digest", ""), b.get("at")
    ),
    "answered": lambda c, b: Answered(b["interaction_id"], c.call_id or "", b.get("answer")),
    "stop_requested": lambda _, b: StopRequested(b["status"], b.get("reason", ""), b.get("by", "")),
    "fold_skipped": _fold_skipped,
    "send_projected": _send_projected,
    "send_rested": lambda _, b: SendRested(b["status"], b.get("error")),
    "step_changed": lambda _, b: StepChanged(b.get("step", ""), b["change"]),
    "send_ended": lambda _, b: SendEnded(b["status"], b.get("reason", ""), b.get("error")),
}
