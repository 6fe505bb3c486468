"""Signed thinking, kept with a reply and shown again word for word while its round is open.

Kept is the order of the reply's blocks: thinking in full, text as a length, tool calls as places. Text and calls are
in the reply already, so nothing is stored twice and an edited reply is noticed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from power_loop.contracts.messages import text_of
from power_loop.providers.values import Json, number, objects

Block = dict[str, Any]

THINKING = frozenset({"thinking", "redacted_thinking"})


def kept(blocks: Sequence[Json]) -> list[Block] | None:
    """What `replayed` needs of a reply's content blocks; None where nobody thought."""
    if not any(block.get("type") in THINKING for block in blocks):
        return None
    return [_short(block) for block in blocks]


def _short(block: Json) -> Block:
    match block.get("type"):
        case "text":
            return {"type": "text", "chars": len(str(block.get("text") or ""))}
        case "tool_use":
            return {"type": "tool_use"}
        case _:
            return dict(block)


def replayed(provider_blocks: Any, content: Any, calls: Sequence[Block]) -> list[Block] | None:
    """The blocks of the reply as the model wrote them; None where it did not think, or another provider spoke."""
    order = objects(provider_blocks)
    thoughts = [dict(block) for block in order if block.get("type") in THINKING]
    if not thoughts:
        return None
    text = text_of(content)
    whole = _in_order(order, text, list(calls))
    if whole is not None:
        return whole
    # Someone edited the reply: the thinking stands in front of what it says now.
    return [*thoughts, *([{"type": "text", "text": text}] if text.strip() else []), *calls]


def _in_order(order: Sequence[Json], text: str, calls: list[Block]) -> list[Block] | None:
    blocks: list[Block] = []
    for block in order:
        match block.get("type"):
            case "text":
                chars = number(block, "chars") or 0
                piece, text = text[:chars], text[chars:]
                if len(piece) < chars:
                    return None
                blocks += [{"type": "text", "text": piece}] if piece.strip() else []
            case "tool_use":
                if not calls:
                    return None
                blocks.append(calls.pop(0))
            case _:
                blocks.append(dict(block))
    return None if text or calls else blocks
