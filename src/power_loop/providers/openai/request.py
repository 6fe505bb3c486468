"""An `Ask` as the body of an OpenAI-compatible chat completion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from power_loop.contracts.messages import Message, text_of
from power_loop.contracts.model import LLMRequest
from power_loop.contracts.text import wire_name
from power_loop.providers.arguments import as_text
from power_loop.providers.ask import Ask
from power_loop.providers.call_ids import OPENAI, fitting
from power_loop.providers.capabilities import Ways
from power_loop.providers.values import mapping, objects

Body = dict[str, Any]


def chat_body(ask: Ask, request: LLMRequest, *, model: str, ways: Ways, stream: bool) -> Body:
    """The JSON body, without what nobody set; the caller merges its extras last."""
    body: Body = {"model": model, "messages": list(wire_messages(ask))}
    if ask.tools:
        body["tools"] = ask.tools
        if ask.tool_choice is not None:
            body["tool_choice"] = ask.tool_choice
    if ask.response_format is not None:
        body["response_format"] = ask.response_format
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if (cap := ways.capped(request.max_tokens)) is not None:
        body[ways.cap_field] = cap
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return {key: value for key, value in body.items() if key not in ways.without}


def wire_messages(ask: Ask) -> Iterator[Message]:
    """The messages as this wire takes them: the system prompt first, pictures out of tool results, no empty assistant rows."""
    if ask.system_prompt:
        yield {"role": "system", "content": ask.system_prompt}
    pictures: list[dict[str, Any]] = []
    for message in ask.messages:
        role = message.get("role")
        if role == "tool":
            content, shown = _tool_content(message)
            pictures += shown
            yield {"role": "tool", "tool_call_id": fitting(str(message.get("tool_call_id")), OPENAI), "content": content}
            continue
        if pictures:
            yield {"role": "user", "content": pictures}
            pictures = []
        if role == "assistant":
            yield from _assistant(message)
        else:
            # Chat Completions refuses others, with the whole request (github.com/FlowiseAI/Flowise/issues/2948).
            named = {"name": wire_name(str(message["name"]))} if message.get("name") else {}
            yield {"role": role, "content": message.get("content") or "", **named}
    if pictures:
        yield {"role": "user", "content": pictures}


def _assistant(message: Message) -> Iterator[Message]:
    content = message.get("content")
    calls = objects(message.get("tool_calls"))
    if not calls and not text_of(content):
        return
    row: Message = {"role": "assistant", "content": content or None}
    kept = mapping(message.get("provider_blocks"))
    for key in REPLAYED:
        if key in kept:
            row[key] = kept[key]
    if calls:
        extras = objects(kept.get("tool_calls"))
        fits = len(extras) == len(calls)
        row["tool_calls"] = [{**_call(call), **(extras[i] if fits else {})} for i, call in enumerate(calls)]
    yield row


# What a provider streamed beside the text of a reply with calls, and wants back while its round is open.
REPLAYED = ("reasoning_content", "reasoning_details")


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = mapping(call["function"])
    asked = {"name": function["name"], "arguments": as_text(function["arguments"])}
    return {"id": fitting(call["id"], OPENAI), "type": "function", "function": asked}


def _tool_content(message: Message) -> tuple[Any, list[dict[str, Any]]]:
    """(what the tool row may say, the pictures that must follow it in a user row): this wire takes text in results only."""
    content = message.get("content")
    if content is None or isinstance(content, str):
        return content or "", []
    blocks = cast("list[dict[str, Any]]", content)
    others = [block for block in blocks if block.get("type") != "text"]
    if not others:
        return blocks, []
    label = {"type": "text", "text": f"[shown by the tool call {message.get('tool_call_id')}]"}
    return text_of(blocks) or "[see the picture below]", [label, *others]
