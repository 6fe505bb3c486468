"""The system text of a request."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from power_loop.contracts.tool import ToolDefinition

CATALOG_HEADER = "# Available Tools"

DEFAULT_AGENT_SYSTEM_PROMPT = (
    "You are a capable assistant. Use the tools you are given when they help, one step after the other, and check "
    "what they return. When a tool fails, read why and try another way. When you know the answer, give it plainly."
)


def system_text(
    explicit: str | None, *, catalog: Sequence[Mapping[str, Any]] | None = None, header: str = CATALOG_HEADER, skills: str = ""
) -> str:
    """The base prompt (the built-in one when none is given), a catalogue where the model cannot take tools natively, the skills."""
    base = (DEFAULT_AGENT_SYSTEM_PROMPT if explicit is None else explicit).strip()
    return "\n\n".join(filter(None, (base, format_tool_catalog(catalog, header=header) if catalog else "", skills)))


def format_tool_catalog(tools: Iterable[ToolDefinition | Mapping[str, Any]], *, header: str = CATALOG_HEADER) -> str:
    """Tools, as definitions or in the common shape, as a list that a model can read; sorted by name, so that it is always the same."""
    shapes = [tool.to_openai_tool() if isinstance(tool, ToolDefinition) else tool for tool in tools]
    functions = [cast("Mapping[str, Any]", shape.get("function", shape)) for shape in shapes]
    return "\n".join([header, *(line for each in sorted(functions, key=_name) for line in _described(each))])


def _name(function: Mapping[str, Any]) -> str:
    return str(function["name"])


def _described(function: Mapping[str, Any]) -> Iterator[str]:
    """A line for the tool, and one below it for each parameter."""
    schema = cast("Mapping[str, Any]", function.get("parameters") or {})
    required = cast("Sequence[str]", schema.get("required", ()))
    text = " ".join(str(function.get("description") or "").split())
    yield f"- {_name(function)}: {text}" if text else f"- {_name(function)}"
    for name, parameter in cast("Mapping[str, Any]", schema.get("properties", {})).items():
        about = cast("Mapping[str, Any]", parameter if isinstance(parameter, dict) else {})
        told = [_kind(about), *([] if name in required else ["optional"])]
        more = " ".join(str(about.get("description") or "").split())
        yield f"  - {name} ({', '.join(filter(None, told))}){': ' + more if more else ''}"


def _kind(schema: Mapping[str, Any]) -> str:
    """What may stand there, in a few words; empty where that cannot be said in a few."""
    if "enum" in schema:
        return "one of " + ", ".join(json.dumps(value, ensure_ascii=False) for value in schema["enum"])
    kind = schema.get("type", "")
    if isinstance(kind, str):
        inner = _kind(cast("Mapping[str, Any]", items)) if isinstance(items := schema.get("items"), dict) else ""
        return f"{kind} of {inner}" if kind == "array" and inner else kind
    return " or ".join(map(str, cast("list[Any]", kind))) if isinstance(kind, (list, tuple)) else ""
