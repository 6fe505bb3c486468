"""What is asked, in the common shape, made to fit the model: attachments rendered, tools sorted, the schema by the means at hand.

Both wires translate an `Ask`; neither knows why it looks as it does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

from power_loop.contracts.attachments import needs_rendering, render
from power_loop.contracts.messages import Message, text_of
from power_loop.contracts.model import LLMRequest, ModelCapabilities
from power_loop.providers.capabilities import Ways
from power_loop.providers.values import mapping

# The tool by which a model without native schema output hands in its answer; the caller never sees it.
FINAL_ANSWER = "final_answer"

Tool = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, ready to be put on a wire."""

    system_prompt: str | None
    messages: list[Message]
    tools: list[Tool]
    tool_choice: str | dict[str, Any] | None
    response_format: dict[str, Any] | None
    answers_by_tool: bool = False
    """The reply's text is the argument of a `FINAL_ANSWER` call."""


class Schema(NamedTuple):
    """The document that a reply shall be."""

    name: str
    schema: dict[str, Any]
    description: str | None


@runtime_checkable
class _AsResponseFormat(Protocol):
    def to_openai_response_format(self) -> dict[str, Any]: ...


async def prepare(request: LLMRequest, ways: Ways, capabilities: ModelCapabilities) -> Ask:
    """``request`` as this model can take it. Files are read off the event loop."""
    messages = request.messages
    if any(needs_rendering(message) for message in messages):
        messages = await asyncio.to_thread(lambda: [render(message, capabilities) for message in request.messages])
    system_prompt, tools = request.system_prompt, sorted(request.tools or (), key=tool_name)
    if capabilities.tools is False:
        system_prompt, messages, tools = _joined(system_prompt, catalogue(tools)), [_told(message) for message in messages], []
    response_format = _response_format(request.response_format)
    schema = schema_of(response_format)
    choice = request.tool_choice if tools else None
    if schema is None or ways.schema_by == "native":
        return Ask(system_prompt, messages, tools, choice, response_format)
    if ways.schema_by == "tool":
        final = sorted([*tools, _final_tool(schema)], key=tool_name)
        return Ask(system_prompt, messages, final, _final_choice(tools, choice), None, answers_by_tool=True)
    return Ask(_joined(system_prompt, _instructions(schema)), messages, tools, choice, None)


def tool_name(tool: Mapping[str, Any]) -> str:
    """The name of a tool definition in the common shape."""
    return str(mapping(tool.get("function") or tool).get("name", ""))


# --- schemas -----------------------------------------------------------------------------


def schema_of(response_format: Mapping[str, Any] | None) -> Schema | None:
    """The schema in a ``response_format`` of type ``json_schema``."""
    if response_format is None or response_format.get("type") != "json_schema":
        return None
    inner = mapping(response_format.get("json_schema")) or response_format
    return Schema(str(inner.get("name") or FINAL_ANSWER), dict(mapping(inner.get("schema"))), inner.get("description"))


def _response_format(given: Any) -> dict[str, Any] | None:
    if isinstance(given, _AsResponseFormat):
        return given.to_openai_response_format()
    if given is None or isinstance(given, Mapping):
        return dict(cast("Mapping[str, Any]", given)) if given else None
    raise TypeError(f"response_format must be a dict here, not {type(given).__name__}; give types as output_type of the loop")


def _final_tool(schema: Schema) -> Tool:
    description = schema.description or "Hand in the final answer. Call this once, when you are done."
    return {"type": "function", "function": {"name": FINAL_ANSWER, "description": description, "parameters": schema.schema}}


def _final_choice(tools: list[Tool], choice: str | dict[str, Any] | None) -> str | dict[str, Any]:
    """Any tool where the model may still use others, else the final one."""
    if tools and choice in (None, "auto", "required"):
        return "required"
    return choice if isinstance(choice, dict) else {"type": "function", "function": {"name": FINAL_ANSWER}}


def _instructions(schema: Schema) -> str:
    text = json.dumps(schema.schema, ensure_ascii=False, sort_keys=True)
    return f"Your final answer is one JSON document of this schema, without any other text or code fence:\n{text}"


# --- models without tools -------------------------------------------------------------------


def catalogue(tools: list[Tool]) -> str:
    """The tools as text, for models that cannot be given definitions."""
    return "\n".join(["# Available Tools", *map(_line, tools)]) if tools else ""


def _line(tool: Tool) -> str:
    function = mapping(tool.get("function") or tool)
    parameters = json.dumps(function.get("parameters") or {}, ensure_ascii=False, sort_keys=True)
    return f"- {function.get('name')}: {function.get('description') or ''} Parameters: {parameters}"


def _told(message: Message) -> Message:
    """``message`` with calls and results told in words."""
    if message.get("role") == "tool":
        return {"role": "user", "content": f"[result of {message.get('name') or 'the tool'}]\n{text_of(message.get('content'))}"}
    calls = cast("list[dict[str, Any]]", message.get("tool_calls") or [])
    if not calls:
        return message
    said = [f"[called {call['function']['name']} with {call['function']['arguments']}]" for call in calls]
    return {"role": "assistant", "content": _joined(text_of(message.get("content")), "\n".join(said))}


def _joined(first: str | None, second: str) -> str | None:
    return "\n\n".join(part for part in (first, second) if part) or None
