"""What was said, as the GenAI conventions write messages down: a role and parts. Captured on request only, and redacted."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

from power_loop.contrib.redact import Redactor

SWITCH = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
ON = ("true", "1", "span_only", "span_and_event")


def is_wanted(given: bool | None) -> bool:
    """Whether content is captured: as it was said, else by the environment variable of the conventions."""
    return os.environ.get(SWITCH, "").lower() in ON if given is None else given


def message(told: Mapping[str, Any]) -> dict[str, Any]:
    """The message of a ``message_appended`` payload."""
    role, content = told["role"], told["content"]
    if role == "tool":
        return {"role": "tool", "parts": [{"type": "tool_call_response", "id": told["tool_call_id"], "response": content}]}
    calls = cast("Sequence[Mapping[str, Any]]", told["tool_calls"] or ())
    return {"role": role, "parts": [*_parts(content), *map(_call, calls)]}


def written(redactor: Redactor, messages: Sequence[Mapping[str, Any]], finish_reason: str | None = None) -> str:
    """``messages`` as the JSON of an attribute."""
    return redactor.json([{**each, "finish_reason": finish_reason} if finish_reason else each for each in messages])


def _parts(content: object) -> list[dict[str, Any]]:
    if not content:
        return []
    if isinstance(content, str):
        return [{"type": "text", "content": content}]
    blocks = cast("Sequence[Mapping[str, Any]]", content)
    return [{"type": "text", "content": block["text"]} if "text" in block else {"type": str(block.get("type"))} for block in blocks]


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = cast("Mapping[str, Any]", call.get("function") or {})
    return {"type": "tool_call", "id": call.get("id"), "name": function.get("name"), "arguments": function.get("arguments")}
