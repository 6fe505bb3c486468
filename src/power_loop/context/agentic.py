"""A fold that also keeps notes: single facts that must outlive every summary."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from power_loop.context.fold_context import FoldContext
from power_loop.context.strategy import FoldResult, LLMSummaryFold, NoteOp
from power_loop.context.summary import AGENTIC_PROMPT, summary_in
from power_loop.contracts.kept_rows import ProjectMessageRow
from power_loop.contracts.messages import Message
from power_loop.contracts.model import LLMResponse, LLMService, capabilities_of

CONTENT: dict[str, Any] = {"type": "string", "minLength": 1, "description": "One fact, in a sentence"}
PINNED = {"type": "boolean", "description": "It must never be dropped"}


def _tool(name: str, description: str, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


NOTE_TOOLS = (
    _tool("note_add", "Keep a fact as a new note.", {"content": CONTENT, "pinned": PINNED}, ["content"]),
    _tool(
        "note_update", "Replace the text of a note.", {"note_id": {"type": "integer"}, "content": CONTENT, "pinned": PINNED},
        ["note_id", "content"],
    ),
)  # fmt: skip


class AgenticFold(LLMSummaryFold):
    """A bounded tool loop may add and update notes, then writes the summary; where it fails, the plain summary stands in.

    The notes are written when the fold stands, within the notes policy of the session. The model sees the numbers of
    those that are there, so that it can bring one up to date instead of adding another.
    """

    fold_id = "agentic"

    def __init__(
        self, keep_last_sends: int = 4, trigger_ratio: float = 0.75, summary_max_tokens: int = 5000, max_rounds: int = 4,
        system_prompt: str | None = None, summary_llm: LLMService | None = None,
    ) -> None:  # fmt: skip
        super().__init__(keep_last_sends, trigger_ratio, summary_max_tokens, summary_llm)
        if max_rounds < 1:
            raise ValueError(f"AgenticFold needs max_rounds >= 1, not {max_rounds!r}")
        self.max_rounds = max_rounds
        self.system_prompt = system_prompt

    async def fold(self, rows: Sequence[ProjectMessageRow], *, context: FoldContext) -> FoldResult | None:
        """The summary and the notes; the plain summary, with the notes so far, where no summary came of the tool loop."""
        notes = Notes(context)
        if capabilities_of(context.summary_llm).tools is not False and rows:
            try:
                summary = await self._with_notes(rows, context, notes)
            except Exception:  # the model's; the plain fold asks once more, in the simplest way
                summary = ""
            if summary:
                return FoldResult(summary, rows[-1].send_index, note_ops=tuple(notes.ops))
        plain = await super().fold(rows, context=context)
        return plain._replace(note_ops=tuple(notes.ops)) if plain is not None else None

    async def _with_notes(self, rows: Sequence[ProjectMessageRow], context: FoldContext, notes: Notes) -> str:
        prompt = self.system_prompt or AGENTIC_PROMPT

        async def tool_loop(text: str) -> str:
            return await self._one_piece(f"{notes.listed()}{text}", prompt, context, notes)

        return await context.by_pieces(rows, self.summary_max_tokens, prompt, tool_loop)

    async def _one_piece(self, text: str, prompt: str, context: FoldContext, notes: Notes) -> str:
        """The tool loop over one piece of history; empty when it ends without a summary."""
        messages: list[Message] = [{"role": "user", "content": text}]
        for left in range(self.max_rounds - 1, -1, -1):
            request = context.request(list(messages), prompt, self.summary_max_tokens)
            if left:
                request.tools = list(NOTE_TOOLS)
            response = await context.summary_llm.complete(request)
            if not response.tool_calls:
                return summary_in(response.text)
            messages += answered(response, notes)
        return ""


class Notes:
    """What was noted until now, in a fold that may still fail."""

    def __init__(self, context: FoldContext) -> None:
        self.ops: list[NoteOp] = []
        self._known, self._policy = list(context.notes), context.notes_policy

    def listed(self) -> str:
        """The notes as the model sees them."""
        lines = [f"#{note.note_id}{' (pinned)' if note.pinned else ''}: {note.content}" for note in self._known]
        return "notes:\n" + "\n".join(lines) + "\n\n" if lines else ""

    def take(self, name: str, arguments: Mapping[str, Any]) -> str:
        """Note it; what the model is told."""
        content, pinned = str(arguments.get("content") or "").strip(), arguments.get("pinned") is True
        if (fault := self._policy.fault_in(content)) is not None:
            return f"Error: {fault}. Nothing was noted."
        if name == "note_update":
            note_id = arguments.get("note_id")
            if type(note_id) is not int or note_id not in {note.note_id for note in self._known}:
                return f"Error: there is no note #{note_id}. Nothing was noted."
            self.ops.append(NoteOp("update", content, pinned, note_id))
            return f"Note #{note_id} will be updated."
        if name != "note_add":
            return f"Error: there is no tool {name!r}; there are note_add and note_update."
        there = [note.pinned for note in self._known] + [op.pinned for op in self.ops if op.op == "add"]
        if self._policy.evicted(there) is None:
            return f"Error: there are {len(there)} notes already: update one of them. Nothing was noted."
        self.ops.append(NoteOp("add", content, pinned))
        return "Noted."


def answered(response: LLMResponse, notes: Notes) -> list[Message]:
    """The reply as a message, and an answer to each of its calls."""
    calls = [{**call, "id": call.get("id") or f"note_{at}"} for at, call in enumerate(response.tool_calls)]
    results: list[Message] = [{"role": "tool", "tool_call_id": call["id"], "content": _taken(call, notes)} for call in calls]
    return [{"role": "assistant", "content": response.text, "tool_calls": calls}, *results]


def _taken(call: Mapping[str, Any], notes: Notes) -> str:
    function = cast("Mapping[str, Any]", call.get("function") or {})
    try:
        arguments: Any = json.loads(function.get("arguments") or "{}", strict=False)
    except (ValueError, TypeError, RecursionError) as error:
        return f"Error: the arguments are not valid JSON ({error}). Nothing was noted."
    if not isinstance(arguments, Mapping):
        return "Error: the arguments must be one JSON object. Nothing was noted."
    return notes.take(str(function.get("name") or ""), cast("Mapping[str, Any]", arguments))
