"""The system text of a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

DEFAULT_AGENT_SYSTEM_PROMPT = (
    "You are a capable assistant. Use the tools you are given when they help, one step after the other, and check "
    "what they return. When a tool fails, read why and try another way. When you know the answer, give it plainly."
)


def system_text(explicit: str | None, *, catalog: Sequence[dict[str, Any]] | None = None, header: str = "# Available Tools") -> str:
    """The base prompt (the built-in one when none is given), and a catalogue where the model cannot take tools natively."""
    base = (DEFAULT_AGENT_SYSTEM_PROMPT if explicit is None else explicit).strip()
    parts = [base, format_tool_catalog(catalog, header=header) if catalog else ""]
    return "\n\n".join(part for part in parts if part)


def format_tool_catalog(tools: Sequence[dict[str, Any]], *, header: str = "# Available Tools") -> str:
    """Tools in the common shape, as a list that a model can read."""
    lines = [header]
    for tool in tools:
        function = tool.get("function", tool)
        names = ", ".join(function.get("parameters", {}).get("properties", {}))
        lines.append(f"- {function['name']}({names}): {function.get('description', '').strip()}")
    return "\n".join(lines)
