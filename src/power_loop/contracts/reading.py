"""Rows of the log as the messages that a host, or a representation, reads."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, cast

from power_loop.contracts.codec import content_of
from power_loop.contracts.rows import MessageRow, MessageState
from power_loop.contracts.store import RecordRow


def in_call_order(rows: Iterable[RecordRow]) -> list[RecordRow]:
    """The rows that are messages. Results stand where their calls stand, whatever the order in which they landed."""
    ordered: list[RecordRow] = []
    asked: list[str] = []
    landed: dict[str, RecordRow] = {}
    for row in rows:
        if row.cells.role == "tool":
            landed.setdefault(row.cells.call_id or "", row)
        elif row.cells.role is not None:
            ordered += [landed[call] for call in asked if call in landed]
            ordered.append(row)
            asked, landed = [call["id"] for call in json.loads(row.cells.tool_calls or "[]")], {}
    return ordered + [landed[call] for call in asked if call in landed]


def message_row(session_id: str, row: RecordRow, state: MessageState = MessageState.ACTIVE) -> MessageRow:
    """The message; its ``meta`` is what a host gave with it, and what else its record holds."""
    cells = row.cells
    body: dict[str, Any] = json.loads(cells.body) if cells.body else {}
    return MessageRow(
        session_id, row.seq, cells.role or "", cells.name, content_of(cells.content, cells.escaped),
        json.loads(cells.tool_calls) if cells.tool_calls else None, cells.call_id, row.round_index, state,
        {**_of_the_host(body), **body}, row.created_at, row.send_index,
    )  # fmt: skip


def _of_the_host(body: dict[str, Any]) -> dict[str, Any]:
    """What came as ``meta=`` with the message: each kind of record has a place of its own for it."""
    for place in ("metadata", "meta", "data"):
        if isinstance(given := body.get(place), dict):
            return cast("dict[str, Any]", given)
    return {}
