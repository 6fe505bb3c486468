"""The request behind a reply, derived from the records that stood before it, and how it differs from the one before.

Where the loop keeps requests (``running.keep_requests``) it is the request itself, whole. What is stored nowhere else (memory,
edits by hooks, todos) is not in a derived one; the digest of the whole request, which the reply keeps, says whether two
replies had the same one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from power_loop.context.window import Window
from power_loop.contracts.codec import from_cells
from power_loop.contracts.kept_requests import unpacked
from power_loop.contracts.messages import Message
from power_loop.contracts.records import ModelReplied
from power_loop.contracts.store import RecordRow
from power_loop.inspector.reads import Reads
from power_loop.inspector.shown import ANSWER_CHARS, Passage, common_prefix
from power_loop.inspector.timeline import Json, cut, usage

# Of what stood in the request before and not in this one, so much is shown.
GONE_SHOWN = 100


class Asked(NamedTuple):
    """One request, as far as it is known."""

    messages: list[Message]
    left_out: int = 0
    """So many messages stand before them."""
    sent: dict[str, Any] | None = None
    """What went with the messages, where the request was kept."""


async def request_of(reads: Reads, session_id: str, seq: int) -> Json | None:
    """The messages that the reply at ``seq`` answered; None where no reply stands there."""
    reply = await reads.record(session_id, seq)
    record = from_cells(reply.cells) if reply is not None else None
    if reply is None or not isinstance(record, ModelReplied):
        return None
    fold = await reads.fold_before(session_id, seq)
    previous = await reads.reply_before(session_id, seq)
    asked, before = await _both(reads, session_id, reply, previous, fold)
    common = common_prefix(before.messages, asked.messages)
    return {
        "seq": seq, "send": reply.send_index, "round": reply.round_index, "digest": record.request_digest,
        "previous_seq": previous.seq if previous is not None else None, "fold_seq": fold.seq if fold is not None else None,
        "usage": usage(record.usage), "left_out": asked.left_out,
        "messages": [_message(message, whole if asked.sent is not None else cut) for message in asked.messages],
        "sent": None if asked.sent is None else {name: whole(value) for name, value in asked.sent.items()},
        "common": asked.left_out + common, "previous_messages": before.left_out + len(before.messages),
        "gone": [_message(message, cut) for message in before.messages[common : common + GONE_SHOWN]],
    }  # fmt: skip


async def _both(reads: Reads, session_id: str, reply: RecordRow, previous: RecordRow | None, fold: RecordRow | None) -> tuple[Asked, Asked]:
    """The request of ``reply``, and the one before. Where both are derived they begin with the same message, and are read once."""
    asked = await kept(reads, session_id, reply)
    before = await kept(reads, session_id, previous) if previous is not None else Asked([])
    folded = fold is not None and previous is not None and fold.seq > previous.seq
    if asked is None:
        rows, left_out = await reads.latest_rows(session_id, _covered_by(fold), reply.seq)
        asked = Asked(shown(rows), left_out)
        if before is None and previous is not None and not folded:
            before = Asked(shown([row for row in rows if row.seq < previous.seq]), left_out)
    if before is None and previous is not None:
        earlier = await reads.fold_before(session_id, previous.seq)
        rows, left_out = await reads.latest_rows(session_id, _covered_by(earlier), previous.seq)
        before = Asked(shown(rows), left_out)
    return asked, before or Asked([])


async def kept(reads: Reads, session_id: str, reply: RecordRow) -> Asked | None:
    """The request that ``reply`` answered, as it was sent; None where it was not kept."""
    digest = getattr(from_cells(reply.cells), "request_digest", None)
    data = await reads.kept_request(session_id, digest) if digest else None
    sent = unpacked(data) if data is not None else None
    return Asked(sent.pop("messages", []), 0, sent) if sent is not None else None


def shown(rows: Sequence[RecordRow]) -> list[Message]:
    """What a model sees of a session whose rows, from its last fold on, are these."""
    window = Window()
    for row in rows:
        window.add(row)
    return window.messages


def _covered_by(fold: RecordRow | None) -> int:
    record = from_cells(fold.cells) if fold is not None else None
    return getattr(record, "through", 0)


def whole(content: Any) -> Passage:
    """All of it, within what an answer may hold; what is no text as JSON."""
    return Passage(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, indent=1), ANSWER_CHARS)


def _message(message: Message, content: Callable[[Any], Passage] = cut) -> Json:
    told: Json = {"role": message["role"], "content": content(message.get("content") or "")}
    for name in ("name", "tool_call_id", "is_error"):
        if message.get(name) is not None:
            told[name] = message[name]
    if calls := message.get("tool_calls"):
        told["tool_calls"] = [{"name": call["function"]["name"], "arguments": content(call["function"]["arguments"])} for call in calls]
    return told
