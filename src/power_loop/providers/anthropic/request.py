"""An `Ask` as the body of an Anthropic message request.

Only the system prompt goes to ``system``; a system row inside the history stays where it stands, as a tagged block of
a user message. Neighbours of the same role are merged, because the protocol wants the roles to alternate.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

from power_loop.contracts.messages import Message, text_of
from power_loop.contracts.model import LLMRequest
from power_loop.providers.anthropic.borders import marked_messages, marked_tail
from power_loop.providers.anthropic.thinking import replayed
from power_loop.providers.arguments import as_object
from power_loop.providers.ask import Ask, Tool, schema_of, tool_name
from power_loop.providers.call_ids import ANTHROPIC, fitting
from power_loop.providers.capabilities import Ways
from power_loop.providers.values import mapping, objects

Body = dict[str, Any]
Block = dict[str, Any]

# The protocol insists on a cap. This is the documented maximum of the current models; a model that has a lower one
# names it in its refusal, and the transport remembers it.
MAX_TOKENS = 64_000

_OBJECT_ONLY = "Answer with one JSON object and nothing else."


def message_body(ask: Ask, request: LLMRequest, *, model: str, ways: Ways, stream: bool, mark: bool) -> Body:
    """The JSON body, without what nobody set; ``mark`` sets ``cache_control`` at the stable borders."""
    body: Body = {"model": model, "max_tokens": ways.capped(request.max_tokens or MAX_TOKENS)}
    if system := _system(ask):
        body["system"] = marked_tail(system) if mark else system
    rows = marked_messages(ask.messages) if mark else ask.messages
    body["messages"] = wire_messages(rows)
    tools = [_tool(tool) for tool in ask.tools] if ask.tools else past_tools(ask.messages)
    if tools:
        body["tools"] = marked_tail(tools) if mark else tools
        choice = ask.tool_choice if ask.tools else "none"
        if choice is not None:
            body["tool_choice"] = _tool_choice(choice)
    if (schema := schema_of(ask.response_format)) is not None:
        body["output_config"] = {"format": {"type": "json_schema", "schema": schema.schema}}
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if stream:
        body["stream"] = True
    return {key: value for key, value in body.items() if key not in ways.without}


def _system(ask: Ask) -> list[Block]:
    texts = [ask.system_prompt or ""]
    if ask.response_format is not None and ask.response_format.get("type") == "json_object":
        texts.append(_OBJECT_ONLY)
    return [{"type": "text", "text": text} for text in texts if text.strip()]


def _tool(tool: Tool) -> Body:
    function = mapping(tool.get("function"))
    if not function:
        return tool  # a definition in this protocol's own shape, such as a server tool
    description = {"description": function["description"]} if function.get("description") else {}
    schema: Any = function.get("parameters") or {"type": "object", "properties": {}}
    return {"name": tool_name(tool), **description, "input_schema": schema}


def past_tools(messages: Sequence[Message]) -> list[Body]:
    """Definitions for the tools that the history names: the protocol refuses tool blocks without any, on offer or not."""
    names = {tool_name(call) for message in messages for call in objects(message.get("tool_calls"))}
    return [{"name": name, "input_schema": {"type": "object"}} for name in sorted(names)]


def _tool_choice(choice: str | Mapping[str, Any]) -> Body:
    if isinstance(choice, str):
        return {"type": {"required": "any"}.get(choice, choice)}
    if choice.get("type") == "function":
        return {"type": "tool", "name": mapping(choice.get("function")).get("name")}
    return dict(choice)


# --- messages ------------------------------------------------------------------------------


def wire_messages(messages: Sequence[Message]) -> list[Message]:
    """Alternating user and assistant messages of blocks; the first is a user's."""
    merged: list[Message] = []
    for message in messages:
        role, blocks = _blocks_of(message)
        if not blocks:
            continue
        if message.get("cache_control"):
            blocks = marked_tail(blocks)
        if merged and merged[-1]["role"] == role:
            merged[-1]["content"] += blocks
        else:
            merged.append({"role": role, "content": list(blocks)})
    if merged and merged[0]["role"] == "assistant":
        merged.insert(0, {"role": "user", "content": [{"type": "text", "text": "[the conversation begins here]"}]})
    return merged


def _blocks_of(message: Message) -> tuple[str, list[Block]]:
    """(role on this wire, blocks) of one row; empty where it says nothing."""
    match message.get("role"):
        case "assistant":
            return "assistant", _assistant_blocks(message)
        case "tool":
            return "user", [_tool_result(message)]
        case "system":
            return "user", _tagged(message)
        case _:
            return "user", list(_content_blocks(message.get("content")))


def _assistant_blocks(message: Message) -> list[Block]:
    calls = [_tool_use(call) for call in objects(message.get("tool_calls"))]
    thought = replayed(message.get("provider_blocks"), message.get("content"), calls)
    return [*_content_blocks(message.get("content")), *calls] if thought is None else thought


def _tool_use(call: Mapping[str, Any]) -> Block:
    function = mapping(call["function"])
    return {"type": "tool_use", "id": fitting(call["id"], ANTHROPIC), "name": function["name"], "input": as_object(function["arguments"])}


def _tool_result(message: Message) -> Block:
    result: Block = {"type": "tool_result", "tool_use_id": fitting(str(message.get("tool_call_id")), ANTHROPIC)}
    if content := list(_content_blocks(message.get("content"))):
        result["content"] = content
    if message.get("is_error"):
        result["is_error"] = True
    return result


def _tagged(message: Message) -> list[Block]:
    text = text_of(message.get("content"))
    if not text.strip():
        return []
    name = f' name="{message["name"]}"' if message.get("name") else ""
    return [{"type": "text", "text": f"<system-message{name}>\n{text}\n</system-message>"}]


# --- content ---------------------------------------------------------------------------------


def _content_blocks(content: Any) -> Iterator[Block]:
    """The blocks of a content, without empty text, which the protocol refuses."""
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    for block in objects(content):
        match block.get("type"):
            case "text":
                if str(block.get("text") or "").strip():
                    yield {"type": "text", "text": block["text"]}
            case "image_url":
                yield {"type": "image", "source": _source(_url_of(block))}
            case "file":
                yield _document(mapping(block.get("file")))
            case _:
                yield dict(block)


def _url_of(block: Mapping[str, Any]) -> str:
    inner: Any = block.get("image_url")
    return str(mapping(inner).get("url") or inner or "")


def _source(url: str) -> Block:
    scheme, _, rest = url.partition(":")
    if scheme.lower() != "data":
        return {"type": "url", "url": url}
    head, _, data = rest.partition(",")
    kind, *parameters = head.lower().split(";")
    if "base64" not in parameters:  # then it is percent-encoded (RFC 2397)
        data = b64encode(unquote_to_bytes(data)).decode("ascii")
    return {"type": "base64", "media_type": kind or "image/png", "data": data}


def _document(file: Mapping[str, Any]) -> Block:
    title = {"title": file["filename"]} if file.get("filename") else {}
    return {"type": "document", "source": _source(str(file.get("file_data") or "")), **title}
