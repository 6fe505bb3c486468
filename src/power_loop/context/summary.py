"""What the summariser reads and writes: role-tagged text of what is folded, in slices that fit its own window. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from power_loop.contracts.messages import readable

SUMMARY_PROMPT = (
    "You compress the earlier part of a conversation between a user and an assistant that uses tools. "
    "Write what the assistant must still know to go on: goals, decisions, facts, names, numbers, open questions, "
    "what was tried and how it came out. Keep identifiers and quoted text exact. Leave out pleasantries. "
    "Put the text between <summary> and </summary>."
)
AGENTIC_PROMPT = (
    SUMMARY_PROMPT + " Before that you may keep single facts that must outlive every summary as notes, with note_add, or bring a note "
    "up to date with note_update by its number. Do not repeat in the summary what stands in a note."
)

LEFT_OUT = "\n[… the middle is left out …]\n"
EARLIER = "earlier summary"
ARGUMENT_CHARS = 300
RESULT_CHARS, RESULT_HEAD, RESULT_TAIL = 1000, 700, 300


def as_lines(messages: Sequence[Mapping[str, Any]], summary_name: str = "compact_note") -> list[str]:
    """One text per message: who, what, which calls; arguments and results cut."""
    return [_line(message, summary_name) for message in messages]


def _line(message: Mapping[str, Any], summary_name: str) -> str:
    calls = "".join(
        f" [calls {c['function']['name']}({c['function']['arguments'][:ARGUMENT_CHARS]})]" for c in message.get("tool_calls") or ()
    )
    who = EARLIER if message.get("name") == summary_name else message["role"]
    text = readable(message.get("content"))
    cut = message["role"] == "tool" and len(text) > RESULT_CHARS
    shown = f"{text[:RESULT_HEAD]} … {text[-RESULT_TAIL:]}" if cut else text
    return f"{who}: {shown}{calls}"


def as_text(messages: Sequence[Mapping[str, Any]], max_chars: int) -> str:
    """``messages`` as `as_lines` writes them, at most ``max_chars`` of it (head and tail)."""
    return bounded("\n".join(as_lines(messages)), max_chars)


def bounded(text: str, max_chars: int) -> str:
    """``text``, or its head and tail where it is longer than ``max_chars``."""
    if len(text) <= max_chars:
        return text
    kept = max(0, max_chars - len(LEFT_OUT))
    return text[: kept - kept // 2] + LEFT_OUT + text[len(text) - kept // 2 :]


def slices(texts: Sequence[str], max_chars: int) -> Iterator[str]:
    """``texts`` joined into as few pieces as fit ``max_chars`` each; one that alone is longer keeps its head and tail."""
    piece: list[str] = []
    size = 0
    for text in (bounded(text, max_chars) for text in texts):
        if piece and size + len(text) + 1 > max_chars:
            yield "\n".join(piece)
            piece, size = [], 0
        piece.append(text)
        size += len(text) + 1
    if piece:
        yield "\n".join(piece)


def with_earlier(summary: str, text: str) -> str:
    """A slice, behind what was summarised before it."""
    return f"{EARLIER}: {summary}\n{text}" if summary else text


def summary_in(reply: str) -> str:
    """The text between the summary tags when there are any, else the whole reply."""
    _, opened, rest = reply.partition("<summary>")
    inner, _, _ = rest.partition("</summary>")
    return (inner if opened else reply).strip()
