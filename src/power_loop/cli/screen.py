"""What a conversation looks like on a terminal: text as it comes, one line for each tool call and each result.

`Screen.hear` is a subscriber of the event bus. Nothing that a model or a tool says can move the cursor or change
the terminal, or the direction in which it writes: such characters are shown as a dot.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO, cast

from power_loop.context import shorten
from power_loop.contracts.events import AgentEvent
from power_loop.contracts.messages import text_of
from power_loop.contracts.outcome import RunStatus, StatefulResult

LINE_CHARS = 100

# C0 and C1 control characters and DEL, but for the tab and the new line (ECMA-48: these begin what a terminal obeys).
_CONTROLS = (*range(0x20), *range(0x7F, 0xA0))
# And the marks that turn the direction of what follows (UAX 9): a command would read other than it runs.
_TURNS = (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
# What shows as nothing (Default_Ignorable_Code_Point, the empty braille cell, the marks of annotations): nobody sees that it is there.
_BLANK = (
    *(0xAD, 0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x200B, *range(0x2060, 0x2066), *range(0x206A, 0x2070), 0x2800),
    *(0x3164, 0xFEFF, 0xFFA0, *range(0xFFF0, 0xFFFC), *range(0x1BCA0, 0x1BCA4), *range(0x1D173, 0x1D17B), *range(0xE0000, 0xE0080)),
    *range(0xE0100, 0xE01F0),
)
# The same, in the words of people: what joins and varies letters and emoji.
_JOINERS = (0x200C, 0x200D, *range(0xFE00, 0xFE10))
_UNSEEN = {code: "\u00b7" for code in (*_CONTROLS, *_TURNS, *_BLANK) if chr(code) not in "\t\n"}
# In JSON they are written as what they are; so is what ends a line for some programs, and half a surrogate pair, which no output can hold.
_ESCAPED = {
    code: json.dumps(chr(code))[1:-1] if code != 0x7F else "\\u007f"
    for code in (*_CONTROLS[0x20:], *_TURNS, *_BLANK, *_JOINERS, 0x2028, 0x2029, *range(0xD800, 0xE000))
}


def seen(text: str) -> str:
    """``text`` as it may stand on a terminal."""
    return text.translate(_UNSEEN)


def as_json(data: Any, indent: int | None = None) -> str:
    """``data`` as it may stand on a terminal, and as a program reads it back to the character."""
    whole = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    return json.dumps(data, indent=indent, ensure_ascii=not whole, default=str).translate(_ESCAPED)


def one_line(text: str, limit: int = LINE_CHARS) -> str:
    """``text`` on one line of at most ``limit`` characters."""
    return shorten.one_line(seen(text), limit)


def call_line(call: Mapping[str, Any]) -> str:
    """One call of an assistant message: its name and arguments."""
    function = cast("Mapping[str, Any]", call.get("function", {}))
    return one_line(f"{function.get('name')} {function.get('arguments')}")


def message_line(message: Mapping[str, Any]) -> str:
    """One message of the history."""
    text = text_of(message.get("content"))
    calls = "; ".join(call_line(call) for call in cast("Sequence[Mapping[str, Any]]", message.get("tool_calls") or ()))
    match message.get("role"):
        case "user":
            return f"> {one_line(text)}"
        case "tool":
            return f"  <- {one_line(text)}"
        case _:
            return "\n".join(part for part in (one_line(text), f"  -> {calls}" if calls else "") if part)


class Screen:
    """Where the conversation is shown."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out if out is not None else sys.stdout
        self._column = 0
        self._shown = ""
        """What the model streamed since its last call began."""

    def opens(self, session_id: str, dsn: str) -> None:
        """A conversation begins; people are greeted with `line`."""

    def line(self, text: str = "") -> None:
        """``text`` on lines of its own."""
        self.end_line()
        print(text, file=self._out, flush=True)

    def end_line(self) -> None:
        """What comes next begins on a new line."""
        if self._column:
            self._column = 0
            print(file=self._out, flush=True)

    def hear(self, event: AgentEvent) -> None:
        """Show what ``event`` tells, if it is for people."""
        told = event.payload
        match event.type:
            case "stream_delta":
                self._text(event.delta)
            case "stream_started":
                self._shown = ""
            case "stream_completed" if told.get("aborted") and self._shown:
                self.line("[this attempt broke off; what it said does not count]")
                self._shown = ""
            case "llm_retry_attempted":
                self.line(f"[{one_line(str(told['error_message']))}; again in {told['next_sleep_seconds']:.1f} s]")
            case "tool_call_started":
                self.line(f"  -> {one_line(_call(told))}")
            case "tool_call_completed":
                outcome = "" if told["outcome"] == "ok" else f"[{told['outcome']}] "
                self.line(f"  <- {outcome}{one_line(text_of(told['output']))}")
            case "tool_progress" | "user_notification":
                self.line(f"     {one_line(str(told.get('text') or told.get('message')))}")
            case "status_changed" if told.get("kind") == "auto_compact" and told.get("phase") == "started":
                self.line("[older parts of the conversation are being summarised]")
            case _:
                return

    def result(self, result: StatefulResult) -> None:
        """What is left to say when a send rests: a text that was not streamed, a status that is not plain."""
        if result.status in (RunStatus.COMPLETED, RunStatus.PENDING_TOOLS, RunStatus.WAITING_FOR_INPUT):
            missing = "" if self._shown.strip() else result.final_text
        elif result.final_text.endswith(self._shown) and self._shown:
            missing = result.final_text.removesuffix(self._shown)
        else:
            missing = result.final_text or f"[{result.status}]"
        self._shown = ""
        if missing.strip():
            self.line(seen(missing.strip()))
        self.end_line()

    def _text(self, text: str) -> None:
        self._shown += text
        text = seen(text)
        print(text, end="", file=self._out, flush=True)
        self._column = len(text) - text.rfind("\n") - 1 if "\n" in text else self._column + len(text)


class JsonLines(Screen):
    """The same conversation for programs: one event a line, and nothing else."""

    def opens(self, session_id: str, dsn: str) -> None:
        self._tell({"session_id": session_id, "dsn": dsn})

    def line(self, text: str = "") -> None:
        """What is for people is left out."""

    def hear(self, event: AgentEvent) -> None:
        self._tell(event.to_dict())

    def result(self, result: StatefulResult) -> None:
        """Nothing: the last event of a send holds it."""

    def _tell(self, told: Mapping[str, Any]) -> None:
        print(as_json(told), file=self._out, flush=True)


def _call(told: Mapping[str, Any]) -> str:
    given = told["tool_input"]
    return f"{told['name']} {given if isinstance(given, str) else json.dumps(given, ensure_ascii=False, default=str)}"
