"""Results of MCP tools and resources, as the model reads them: text stays text, pictures stay pictures, files become attachments.

Pure. What is structured reaches the event and the record whole, and the model where no text stands for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from power_loop.contracts.tool import ToolHandlerResult
from power_loop.contrib.mcp_source import wire_field, wire_of

Block = dict[str, Any]

FAILED = "The MCP server reported an error and said nothing about it."


def result_of(value: Any) -> Any:
    """A result of the protocol as a tool result; what is none is handed on as it is, for the loop to render.

    ``isError`` makes it a failed one. The structured part is in ``data["structured"]``.
    """
    if isinstance(value, ToolHandlerResult) or not _is_result(value):
        return value
    wire = wire_of(value)
    ok = wire.get("isError") is not True
    content = content_of(wire["content"])
    structured = wire.get("structuredContent")
    if not content:
        content = json.dumps(structured, ensure_ascii=False) if structured is not None else "" if ok else FAILED
    return ToolHandlerResult(ok, content, {"structured": structured} if structured is not None else {})


def _is_result(value: Any) -> bool:
    content = wire_field(value, "content")
    if not isinstance(content, (list, tuple)):
        return False
    return all(isinstance(wire_field(block, "type"), str) for block in cast("Sequence[Any]", content))


def resource_of(value: Any) -> ToolHandlerResult:
    """What ``resources/read`` gave, as a tool result."""
    contents = wire_of(value).get("contents")
    parts = cast("Sequence[Any]", contents) if isinstance(contents, (list, tuple)) else ()
    return ToolHandlerResult(True, content_of([{"type": "resource", "resource": wire_of(part)} for part in parts]))


def content_of(blocks: Sequence[Any]) -> str | list[Block]:
    """Text where everything is text, one piece to a line; else blocks."""
    made = [_block(wire_of(block)) for block in blocks]
    if all(block["type"] == "text" for block in made):
        return "\n".join(block["text"] for block in made)
    return made


def _block(block: Mapping[str, Any]) -> Block:
    match block:
        case {"type": "text", "text": str(text)}:
            return _text(text)
        case {"type": "image", "data": str(data)}:
            return _picture(str(block.get("mimeType") or "image/png"), data)
        case {"type": "audio", "data": str(data)}:
            return _file("audio", str(block.get("mimeType") or "audio/wav"), data)
        case {"type": "resource", "resource": resource}:
            return _resource(wire_of(resource))
        case {"type": "resource_link", "uri": uri}:
            about = ": ".join(str(block[name]) for name in ("name", "description") if block.get(name))
            return _text(f"[resource {uri}{f' ({about})' if about else ''}]")
        case _:
            return _text(json.dumps(dict(block), ensure_ascii=False, default=str))


def _resource(resource: Mapping[str, Any]) -> Block:
    uri, kind = str(resource.get("uri") or ""), str(resource.get("mimeType") or "")
    match resource:
        case {"text": str(text)}:
            return _text(f"[resource {uri}]\n{text}")
        case {"blob": str(data)} if kind.startswith("image/"):
            return _picture(kind, data)
        case {"blob": str(data)}:
            return _file(uri.rstrip("/").rpartition("/")[2] or uri or "resource", kind or "application/octet-stream", data)
        case _:
            return _text(f"[resource {uri}: empty]")


def _text(text: str) -> Block:
    return {"type": "text", "text": text}


def _picture(kind: str, data: str) -> Block:
    return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}


def _file(name: str, kind: str, data: str) -> Block:
    """``data`` is base64, as it came."""
    shown = "pdf" if kind == "application/pdf" else "other"
    return {"type": "attachment", "attachment": {"filename": name, "mime_type": kind, "kind": shown, "data": data}}
