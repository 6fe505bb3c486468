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
    asked = await _asked(reads, session_id, seq, record, fold)
    previous = await reads.reply_before(session_id, seq)
    before = await _before(reads, session_id, previous, asked)
    common = common_prefix(before.messages, asked.messages)
    return {
        "seq": seq, "send": reply.send_index, "round": reply.round_index, "digest": record.request_digest,
        "previous_seq": previous.seq if previous is not None else None, "fold_seq": fold.seq if fold is not None else None,
        "usage": usage(record.usage), "left_out": asked.left_out,
        "messages": [_message(message, whole if asked.sent is not None else cut) for message in asked.messages],
        "sent": None if asked.sent is None else {name: whole(value)["shown"] for name, value in asked.sent.items()},
        "common": asked.left_out + common, "previous_messages": before.left_out + len(before.messages),
        "gone": [_message(message, cut) for message in before.messages[common : common + GONE_SHOWN]],
    }  # fmt: skip


async def _asked(reads: Reads, session_id: str, seq: int, record: ModelReplied, fold: RecordRow | None) -> Asked:
    sent = await kept(reads, session_id, record)
    if sent is not None:
        return Asked(sent.pop("messages", []), 0, sent)
    rows, unread = await reads.latest_rows(session_id, _covered_by(fold), seq)
    return Asked(shown(rows), unread)


async def _before(reads: Reads, session_id: str, previous: RecordRow | None, asked: Asked) -> Asked:
    """The request before, beginning with the same message where both are derived and long."""
    record = from_cells(previous.cells) if previous is not None else None
    if previous is None or not isinstance(record, ModelReplied):
        return Asked([])
    before = await _asked(reads, session_id, previous.seq, record, await reads.fold_before(session_id, previous.seq))
    if before.left_out < asked.left_out:
        return Asked(before.messages[asked.left_out - before.left_out :], asked.left_out)
    return before


async def kept(reads: Reads, session_id: str, record: ModelReplied) -> dict[str, Any] | None:
    """The request that ``record`` answered, as it was sent; None where it was not kept."""
    data = await reads.kept_request(session_id, record.request_digest) if record.request_digest else None
    return unpacked(data) if data is not None else None


def shown(rows: Sequence[RecordRow]) -> list[Message]:
    """What a model sees of a session whose rows, from its last fold on, are these."""
    window = Window()
    for row in rows:
        window.add(row)
    return window.messages


def common_prefix(one: Sequence[Message], other: Sequence[Message]) -> int:
    """With how many equal messages both begin."""
    for n, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return n
    return min(len(one), len(other))


def _covered_by(fold: RecordRow | None) -> int:
    record = from_cells(fold.cells) if fold is not None else None
    return getattr(record, "through", 0)


def whole(content: Any) -> Json:
    """All of it; what is no text as JSON."""
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, indent=1)
    return {"shown": text, "chars": len(text)}


def _message(message: Message, content: Callable[[Any], Json] = cut) -> dict[str, Any]:
    told: dict[str, Any] = {"role": message["role"], "content": content(message.get("content") or "")}
    for name in ("name", "tool_call_id", "tool_calls", "is_error"):
        if message.get(name) is not None:
            told[name] = message[name]
    return told
