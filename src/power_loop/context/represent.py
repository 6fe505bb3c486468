"""How finished sends are shown: word for word, or as one line of the user's and one of the assistant's. Pure.

A representation projects a send once, when it ends; what it made of it is a record, and `render` only spells that
record out. So a later version of the code does not change earlier prompts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast, runtime_checkable

from power_loop.context.note import summary_message
from power_loop.context.shorten import one_line
from power_loop.contracts.messages import Message, text_of

if TYPE_CHECKING:
    from power_loop.contracts.kept_rows import ProjectMessageRow
    from power_loop.contracts.rows import MessageRow
    from power_loop.contracts.tool import Toolbox, ToolDefinition

VERBATIM, PROJECTED = "verbatim", "projected"
USER, PROJECT, COMPACT = "user", "project", "compact"
NO_OUTPUT = "(no output)"
# What is not text leaves a trace: the model should know that there was something to look at.
NOT_TEXT = "[{kind}]"


class ProjectedRow(NamedTuple):
    """One piece of a projected send."""

    kind: str
    """``user`` or ``project``."""
    content: Any
    """JSON; for `render`, and for whoever reads the rows."""
    rendered_text: str = ""


class ProjectedSend(NamedTuple):
    """One finished send, as it is shown from now on."""

    rows: Sequence[ProjectedRow]
    source_seq_lo: int = 0
    source_seq_hi: int = 0


@runtime_checkable
class Representation(Protocol):
    """How finished sends are shown. ``version`` is stored with what it made; raise it when `render` must tell them apart."""

    kind: str
    version: int

    def project_send(self, send_rows: list[MessageRow], *, send_index: int, tool_registry: Toolbox | None) -> ProjectedSend:
        """The messages of one finished send, complete and in order, as they are shown from now on. Called once per end of a send."""
        ...

    def render(self, rows: list[ProjectMessageRow]) -> list[Message]:
        """The messages for rows that `project_send` made, or for one row of the kind ``compact``: a summary of earlier sends."""
        ...


class VerbatimRepresentation:
    """Finished sends exactly as they are stored."""

    kind = VERBATIM
    version = 1

    def project_send(self, send_rows: list[MessageRow], *, send_index: int, tool_registry: Toolbox | None) -> ProjectedSend:
        rows = [ProjectedRow(USER if row.role == "user" else PROJECT, message_of(row), text_of(row.content)) for row in send_rows]
        return ProjectedSend(rows, *_covered(send_rows))

    def render(self, rows: list[ProjectMessageRow]) -> list[Message]:
        return [compact_message(row) if row.kind == COMPACT else row.content for row in rows]

    def __repr__(self) -> str:
        return "VerbatimRepresentation()"


class ProjectedRepresentation:
    """A finished send is one text of the user's and one of the assistant's: the tools it used, each cut short, and its answer.

    Both begin with the number of the send, by which `recall_send` gives the whole of it.
    """

    kind = PROJECTED
    version = 1

    def __init__(self, max_chars: int = 300) -> None:
        if type(max_chars) is not int or max_chars < 1:
            raise ValueError(f"ProjectedRepresentation needs max_chars >= 1, not {max_chars!r}")
        self.max_chars = max_chars

    def project_send(self, send_rows: list[MessageRow], *, send_index: int, tool_registry: Toolbox | None) -> ProjectedSend:
        said = [_said(row) for row in send_rows if row.role == "user"]
        results = {row.tool_call_id: row for row in send_rows if row.role == "tool"}
        replies = [row for row in send_rows if row.role == "assistant" and row.name != "degraded"]
        calls = [call for row in replies for call in row.tool_calls or ()]
        lines = [self._tool(call, results.get(call.get("id")), tool_registry) for call in calls]
        answer = text_of(replies[-1].content).strip() if replies and not replies[-1].tool_calls else ""
        used = f" [tools] {'; '.join(lines)}" if lines else ""
        told = answer or NO_OUTPUT
        shown = f"#{send_index}{used}\n{told}" if used else f"#{send_index} {told}"
        user = ProjectedRow(USER, {"text": "\n".join(said)}, f"[#{send_index}] " + "\n".join(said))
        return ProjectedSend([user, ProjectedRow(PROJECT, {"tools": lines, "text": answer}, shown)], *_covered(send_rows))

    def render(self, rows: list[ProjectMessageRow]) -> list[Message]:
        return [rendered(row) for row in rows]

    def _tool(self, call: Mapping[str, Any], result: MessageRow | None, tools: Toolbox | None) -> str:
        function = cast("Mapping[str, Any]", call.get("function") or {})
        name, arguments = str(function.get("name") or ""), _arguments(function.get("arguments"))
        output = text_of(result.content) if result is not None else None
        tool = tools.get(name) if tools is not None else None
        own = _in_its_own_words(tool.definition, arguments, output) if tool is not None else None
        if own is not None:
            return one_line(own, self.max_chars)
        told = one_line(output.strip(), self.max_chars) if output is not None else ""
        return f"{_named(name, {k: one_line(v, 80) for k, v in arguments.items()})}: {told or NO_OUTPUT}"

    def __repr__(self) -> str:
        return f"ProjectedRepresentation(max_chars={self.max_chars})"


def rendered(row: ProjectMessageRow) -> Message:
    """One row as a message, by its text."""
    if row.kind == COMPACT:
        return compact_message(row)
    text = row.rendered_text or (row.content if isinstance(row.content, str) else "") or NO_OUTPUT
    return {"role": "user" if row.kind == USER else "assistant", "content": text}


def compact_message(row: ProjectMessageRow) -> Message:
    """The summary that a row of the kind ``compact`` holds."""
    shown: Any = row.content
    given = cast("Mapping[str, Any]", shown if isinstance(shown, Mapping) else {"summary": shown})
    return summary_message(str(given.get("summary") or ""), row.compact_to_send or 0, given.get("rounds") or 0)


def message_of(row: MessageRow) -> Message:
    """A stored message in the common shape."""
    message: Message = {"role": row.role, "content": row.content}
    for name, value in (("name", row.name if row.role != "assistant" else None), ("tool_calls", row.tool_calls)):
        if value is not None:
            message[name] = value
    if row.tool_call_id is not None:
        message["tool_call_id"] = row.tool_call_id
    return message


def _covered(rows: Sequence[MessageRow]) -> tuple[int, int]:
    seqs = [row.seq for row in rows]
    return min(seqs, default=0), max(seqs, default=0)


def _said(row: MessageRow) -> str:
    if isinstance(row.content, str):
        return row.content
    others = [NOT_TEXT.format(kind=block.get("type")) for block in row.content if block.get("type") != "text"]
    return "\n".join(filter(None, [text_of(row.content), *others]))


def _arguments(text: Any) -> Mapping[str, Any]:
    """What the model wrote as arguments, as far as it is an object."""
    try:
        given: Any = json.loads(text or "{}", strict=False) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        return {"arguments": text}
    return cast("Mapping[str, Any]", given) if isinstance(given, Mapping) else {"arguments": given}


def _in_its_own_words(definition: ToolDefinition, arguments: Mapping[str, Any], output: str | None) -> str | None:
    """What the tool says of a call; None where it says nothing, or fails at it."""
    if definition.project is None:
        return None
    try:
        told = definition.project(arguments, output)
    except Exception:  # the tool's own code
        return None
    return _named(definition.name, told) if told else None


def _named(name: str, told: Any) -> str:
    """What a tool says of a call: its own words, or its fields behind its name."""
    if not isinstance(told, Mapping):
        return str(told)
    return f"{name}({', '.join(f'{key}={value}' for key, value in cast('Mapping[str, Any]', told).items())})"
