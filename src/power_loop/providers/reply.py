"""From the pieces of a stream to one reply, whatever the wire: text, thinking, calls, usage, how it ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from power_loop.contracts.model import LLMResponse, LLMStreamChunk, LLMTokenUsage
from power_loop.providers.ask import FINAL_ANSWER

# The words of many servers for the six that we know.
FINISH_REASONS = {
    "stop": "stop", "end_turn": "stop", "stop_sequence": "stop", "pause_turn": "stop", "eos": "stop", "completed": "stop",
    "tool_calls": "tool_calls", "tool_use": "tool_calls", "function_call": "tool_calls",
    "length": "length", "max_tokens": "length", "max_output_tokens": "length", "model_context_window_exceeded": "length",
    "content_filter": "content_filter", "safety": "content_filter", "sensitive": "content_filter", "recitation": "content_filter",
    "refusal": "refusal", "error": "error",
}  # fmt: skip


@dataclass(slots=True)
class CallDraft:
    """A tool call as far as it has arrived."""

    id: str = ""
    name: str = ""
    index: int | None = None
    arguments: list[str] = field(default_factory=list[str])
    extras: dict[str, Any] = field(default_factory=dict[str, Any])
    """What a provider put beside the known fields and may want back."""

    def text(self) -> str:
        return "".join(self.arguments)

    def is_whole(self) -> bool:
        """Its arguments are a JSON document already."""
        try:
            json.loads(self.text())
        except ValueError:
            return False
        return True

    def to_call(self) -> dict[str, Any]:
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.text()}}


@dataclass(slots=True)
class Draft:
    """A reply as far as it has arrived."""

    text: list[str] = field(default_factory=list[str])
    think: list[str] = field(default_factory=list[str])
    calls: list[CallDraft] = field(default_factory=list[CallDraft])
    usage: LLMTokenUsage | None = None
    finish: str | None = None
    refused: bool = False
    model: str | None = None
    response_id: str | None = None
    provider_blocks: Any = None
    raw: dict[str, Any] = field(default_factory=dict[str, Any])

    def response(self, *, answers_by_tool: bool, parse_json: bool) -> LLMResponse:
        """The whole reply."""
        text, calls = "".join(self.text), self.calls
        if answers_by_tool and (answer := next((call for call in calls if call.name == FINAL_ANSWER), None)):
            text, calls = answer.text(), [call for call in calls if call.name != FINAL_ANSWER]
        tool_calls = [call.to_call() for call in calls]
        response = LLMResponse(
            raw_text=text, content_text=text, think="".join(self.think), token_usage=self.usage, tool_calls=tool_calls,
            raw_completion=self.raw, finish_reason=self._finish_reason(bool(calls)), model=self.model,
            response_id=self.response_id, provider_blocks=self.provider_blocks,
        )  # fmt: skip
        response.raw_message = {"role": "assistant", "content": text, **({"tool_calls": tool_calls} if tool_calls else {})}
        if parse_json:
            parse_into(response)
        return response

    def _finish_reason(self, has_calls: bool) -> str:
        reason = FINISH_REASONS.get((self.finish or "stop").lower(), "stop")
        if self.refused and reason == "stop":
            return "refusal"
        # Many servers say "stop" with calls in the reply, and "tool_calls" when the only call was the answer itself.
        if reason in ("stop", "tool_calls"):
            return "tool_calls" if has_calls else "stop"
        return reason


class Reader(Protocol):
    """Understands one wire's replies; one object per reply."""

    draft: Draft
    complete: bool
    """The reply has been heard to its end; a stream that stops before broke off."""

    def feed(self, event: Mapping[str, Any]) -> LLMStreamChunk | None:
        """Take in one event of a stream; what of it is worth telling."""
        ...

    def whole(self, body: Mapping[str, Any]) -> LLMStreamChunk | None:
        """Take in a reply that came in one piece."""
        ...


def parsed(text: str) -> tuple[dict[str, Any], str | None]:
    """(the JSON object that ``text`` is, what is wrong with it); a code fence around it is taken off."""
    stripped = text.strip()
    if stripped.startswith("```"):
        stripped = stripped.partition("\n")[2].rpartition("```")[0]
    try:
        value: Any = json.loads(stripped)
    except ValueError as error:
        return {}, str(error)
    return (cast("dict[str, Any]", value), None) if isinstance(value, dict) else ({}, f"a JSON {type(value).__name__}, not an object")


def parse_into(response: LLMResponse) -> None:
    """Read the text of ``response`` as the JSON object that was asked for."""
    response.json_data, response.parse_error = parsed(response.content_text)
    response.raw_json_data, response.raw_json_error = response.json_data, response.parse_error
