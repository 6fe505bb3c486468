"""What a fold covers, send by send: the rows that a strategy reads, and the border behind each of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from power_loop.context.fold import Cut
from power_loop.context.represent import PROJECT, VERBATIM
from power_loop.context.summary import as_lines
from power_loop.context.window import Window
from power_loop.contracts.kept_rows import ProjectMessageRow
from power_loop.contracts.messages import Message, estimate_tokens, text_of


def parts_of(window: Window, part: Cut) -> Mapping[int, Cut]:
    """For each send that ``part`` covers: the fold that ends with it."""
    parts: dict[int, Cut] = {}
    for this, following in zip(window.borders, window.borders[1:], strict=False):
        if following.at <= len(part.messages):
            parts[this.send_index] = Cut(following.seq - 1, this.send_index, window.messages[: following.at])
    parts[part.through_send] = part
    return parts


def fold_rows(window: Window, part: Cut, session_id: str, representation: Any) -> list[ProjectMessageRow]:
    """One row per send that ``part`` covers, the one under way with the rounds that may be folded, oldest first."""
    rows: list[ProjectMessageRow] = []
    borders = [border for border in window.borders if border.at < len(part.messages)]
    ends = [border.at for border in borders[1:]] + [len(part.messages)]
    for border, end in zip(borders, ends, strict=True):
        rows.append(_row(session_id, border.send_index, border.seq, part, window.messages[border.at : end], representation))
    return rows


def _row(session_id: str, send: int, seq: int, part: Cut, messages: list[Message], representation: Any) -> ProjectMessageRow:
    kind, version = (VERBATIM, 1) if representation is None else (PROJECT, representation.version)
    text = "\n".join(as_lines(messages))
    return ProjectMessageRow(
        session_id, send, kind, messages, text, seq, part.through, None, None, version, estimate_tokens(messages), 0
    )  # fmt: skip


def previous_summary(window: Window) -> str:
    """The text of the summary that stands before everything now; empty without one."""
    text = text_of(window.note["content"]) if window.note is not None else ""
    first, _, rest = text.partition("]\n")
    return rest if first.startswith("[Summary of ") else text


def kept_word(window: Window, part: Cut) -> Message | None:
    """The word that stays although ``part`` covers it."""
    return next((window.messages[border.at] for border in window.borders if part.keeps and border.seq == part.keeps), None)
