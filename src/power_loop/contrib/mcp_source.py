"""What MCP tools come from: the small seam that needs no SDK, and how what others hand in is read.

Anything with ``list_tools`` and ``call_tool`` is a source: our clients, a session of the official SDK, ten lines of yours.
Objects of the protocol arrive as mappings, as models of the SDK or as plain objects; from here on they are JSON as on the wire.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast, runtime_checkable

from power_loop.contracts.tool import ToolRun, no_parameters

Wire = dict[str, Any]
"""An object of the protocol as JSON, its fields named as on the wire (``inputSchema``, ``isError``)."""

# The fields that we read, by the name that Python objects give them.
_ON_THE_WIRE: Mapping[str, str] = {
    "input_schema": "inputSchema",
    "is_error": "isError",
    "structured_content": "structuredContent",
    "mime_type": "mimeType",
    "read_only_hint": "readOnlyHint",
    "idempotent_hint": "idempotentHint",
}


@dataclass(frozen=True)
class McpToolSpec:
    """A tool as its server describes it."""

    name: str
    description: str = ""
    input_schema: Mapping[str, Any] = field(default_factory=no_parameters)
    annotations: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The server's hints, unproved: ``readOnlyHint``, ``idempotentHint`` and others."""


class MCPToolSource(Protocol):
    """Where tools come from. Both methods may be ordinary functions too."""

    async def list_tools(self) -> Sequence[Any]:
        """`McpToolSpec` objects, or what an SDK gives: objects or mappings with name, description and input schema."""
        ...

    async def call_tool(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Call a tool by the server's own name for it: a result of the protocol, or anything that a handler may return."""
        ...


@runtime_checkable
class CallsForRun(Protocol):
    """A source that wants to know for which call of a session it works: to tell of progress, and to be asked things."""

    async def call_for_run(self, run: ToolRun, name: str, arguments: Mapping[str, Any], *, repeatable: bool) -> Any:
        """``repeatable``: the call may be sent again when the connection is lost while it runs."""
        ...


@runtime_checkable
class HasResources(Protocol):
    """A source that can hand out resources."""

    async def serves_resources(self) -> bool: ...

    async def list_resources(self) -> Any: ...

    async def read_resource(self, uri: str) -> Any: ...


def spec_of(listed: Any) -> McpToolSpec:
    """What was listed, as a spec. Raises `ValueError` for what has no name."""
    if isinstance(listed, McpToolSpec):
        return listed
    tool = wire_of(listed)
    name, schema = tool.get("name"), tool.get("inputSchema")
    if not isinstance(name, str) or not name:
        raise ValueError(f"a tool without a name: {listed!r:.200}")
    description, hints = tool.get("description"), tool.get("annotations")
    # A schema that is no object is kept as it is: it is refused, with the place, where schemas are read.
    return McpToolSpec(
        name,
        description if isinstance(description, str) else "",
        no_parameters() if schema is None else schema,
        wire_of(hints) if hints is not None else {},
    )


def specs_of(listed: Any) -> list[Any]:
    """The tools of a listing: a sequence, or the SDK's result that holds one."""
    if isinstance(listed, (list, tuple)):
        return list(cast("Sequence[Any]", listed))
    tools = wire_field(listed, "tools")
    if not isinstance(tools, (list, tuple)):
        raise TypeError(f"list_tools() gave {type(listed).__name__}, not a list of tools")
    return list(cast("Sequence[Any]", tools))


def wire_of(value: Any) -> Wire:
    """A foreign object as on the wire; empty for what has no fields."""
    if isinstance(value, Mapping):
        fields: Mapping[Any, Any] = cast("Mapping[Any, Any]", value)
    elif callable(dump := getattr(value, "model_dump", None)):
        return cast("Wire", dump(mode="json", by_alias=True, exclude_none=True))
    else:
        fields = cast("Mapping[Any, Any]", getattr(value, "__dict__", {}))
    return {_ON_THE_WIRE.get(str(name), str(name)): each for name, each in fields.items() if each is not None}


def wire_field(value: Any, name: str) -> Any:
    """One field of a foreign object, as it is; None where there is none."""
    if isinstance(value, Mapping):
        return cast("Mapping[str, Any]", value).get(name)
    return getattr(value, name, None)
