"""When older sends are folded into a summary, and where the border lies.

The summary itself is a model call and so the performer's business; this decides what it covers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from power_loop.context.window import SUMMARY_NAME, Border, Window
from power_loop.contracts.messages import Message, estimate_tokens, text_of

# A fold is due again only when the window grew by this part of the budget, so that a session at the border
# pays for a summary now and then, not at every send.
GROWTH_PART = 10

LEFT_OUT = "\n[… the middle is left out …]\n"

SUMMARY_PROMPT = (
    "You compress the earlier part of a conversation between a user and an assistant that uses tools. "
    "Write what the assistant must still know to go on: goals, decisions, facts, names, numbers, open questions, "
    "what was tried and how it came out. Keep identifiers and quoted text exact. Leave out pleasantries. "
    "Put the text between <summary> and </summary>."
)


class Cut(NamedTuple):
    """What a fold would replace."""

    through: int
    """seq of the last record that the summary covers."""
    through_send: int
    messages: list[Message]
    """What is shown of it now, the previous summary first."""


def too_long(window: Window, head_tokens: int, fold_at_tokens: int | None) -> bool:
    """The request has reached the trigger and grew enough since the last fold. ``head_tokens``: system and tools."""
    if fold_at_tokens is None or window.tokens + head_tokens < fold_at_tokens:
        return False
    return window.note is None or window.growth() * GROWTH_PART >= fold_at_tokens


def cut(window: Window, keep_last_sends: int, target_tokens: int) -> Cut | None:
    """Where to fold: whole sends, oldest first, all but the last ``keep_last_sends``, until the rest fits ``target_tokens``.

    None when there is nothing to fold.
    """
    last = len(window.borders) - keep_last_sends
    if last < 1:
        return None
    border = _fitting(window, window.borders[1 : last + 1], target_tokens)
    return Cut(border.seq - 1, border.send_index - 1, window.messages[: border.at])


def _fitting(window: Window, candidates: Sequence[Border], target_tokens: int) -> Border:
    """The first of ``candidates`` behind which no more than ``target_tokens`` stand, else the last."""
    left, at = window.tokens, 0
    for border in candidates:
        left -= estimate_tokens(window.messages[at : border.at])
        at = border.at
        if left <= target_tokens:
            return border
    return candidates[-1]


def as_text(messages: Sequence[Message], max_chars: int) -> str:
    """``messages`` for the summariser: role-tagged, calls and results cut, at most ``max_chars`` (head and tail)."""
    text = "\n".join(_line(message) for message in messages)
    if len(text) <= max_chars:
        return text
    kept = max(0, max_chars - len(LEFT_OUT))
    return text[: kept - kept // 2] + LEFT_OUT + text[len(text) - kept // 2 :]


def _line(message: Message) -> str:
    calls = "".join(f" [calls {c['function']['name']}({c['function']['arguments'][:300]})]" for c in message.get("tool_calls", ()))
    who = "earlier summary" if message.get("name") == SUMMARY_NAME else message["role"]
    text = text_of(message.get("content"))
    shown = text if message["role"] != "tool" or len(text) <= 1000 else f"{text[:700]} … {text[-300:]}"
    return f"{who}: {shown}{calls}"


def summary_in(reply: str) -> str:
    """The text between the summary tags when there are any, else the whole reply."""
    _, opened, rest = reply.partition("<summary>")
    inner, _, _ = rest.partition("</summary>")
    return (inner if opened else reply).strip()
