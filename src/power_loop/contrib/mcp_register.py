"""Tools of an MCP server in a registry: which, under what name, with which effects."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from inspect import isawaitable
from typing import Any, Literal, NamedTuple, get_args

from power_loop.contracts.log import mcp_log as log
from power_loop.contracts.tool import Effects, ToolDefinition, ToolRun
from power_loop.contrib.mcp_content import resource_of, result_of
from power_loop.contrib.mcp_names import McpName, names_for
from power_loop.contrib.mcp_source import CallsForRun, HasResources, MCPToolSource, McpToolSpec, spec_of, specs_of
from power_loop.tools.bound import BoundTool, check_settings
from power_loop.tools.toolbox import ToolRegistry, as_bound

McpEffects = Effects | Literal["annotations"]
Handler = Callable[..., Any]
Approval = bool | Callable[..., Any]

# Two methods of the protocol as tools; no server's own tool has a slash in the way of these.
LIST_RESOURCES = McpToolSpec("resources/list", "List the resources that this server offers: their URIs, names and kinds.")
READ_RESOURCE = McpToolSpec(
    "resources/read",
    "Read one resource of this server.",
    {"type": "object", "properties": {"uri": {"type": "string", "description": "Its URI, as listed"}}, "required": ["uri"]},
)


class Offer(NamedTuple):
    """A tool that may be registered, and what answers its calls."""

    spec: McpToolSpec
    effects: Effects
    handler: Handler


async def register_mcp_tools(
    registry: ToolRegistry,
    source: MCPToolSource,
    *,
    prefix: str = "",
    overwrite: bool = False,
    effects: McpEffects = "once",
    needs_approval: Approval = False,
    timeout_s: float | None = 60.0,
    include: Collection[str] | None = None,
    exclude: Collection[str] | None = None,
) -> list[McpName]:
    """Offer the tools of ``source`` in ``registry``; the names that they got, each with its ``original``.

    Names are ``prefix`` and the server's own, made to fit every provider. ``effects``: one class for all, or ``annotations``:
    believe the server that a tool only reads (pure) or may be repeated (idempotent). ``include`` and ``exclude`` are names of
    the server. A tool whose schema cannot be validated is left out with a warning, the others stay. ``overwrite`` takes a
    changed list over: tools of the same name are replaced.
    Raises `ValueError`, with nothing registered, for a name that is taken, an included one that is not there, or a ``timeout_s``
    that is no time.
    """
    if effects not in ("annotations", *get_args(Effects)):
        raise ValueError(f"effects={effects!r}: it is 'annotations', 'once', 'idempotent' or 'pure'")
    check_settings(ToolDefinition(f"{prefix}*", timeout_s=timeout_s))  # a slip of the host's is no fault of each tool
    offers = _chosen([offer async for offer in _offers(source, effects)], include, exclude)
    names = names_for(offers, prefix, () if overwrite else registry)
    limits = {"needs_approval": needs_approval, "timeout_s": timeout_s}
    tools = [bound for name in names if (bound := _bound(name, offers[name.original], limits)) is not None]
    kept = [bound.definition.name for bound in tools]
    if taken := [name for name in kept if name in registry and not overwrite]:
        raise ValueError(f"registered already: {', '.join(taken)}; give these tools a prefix, or register them with overwrite=True")
    if overwrite:
        for bound in tools:
            registry.register(bound.definition, bound.handler, overwrite=True)
    else:
        registry.add(*tools)
    return [name for name in names if name in kept]


async def _offers(source: MCPToolSource, effects: McpEffects) -> AsyncIterator[Offer]:
    listed: Any = source.list_tools()
    for each in specs_of(await listed if isawaitable(listed) else listed):
        try:
            spec = spec_of(each)
        except ValueError as error:
            log.warning("left out %s", error)
            continue
        its = _effects_of(spec.annotations) if effects == "annotations" else effects
        yield Offer(spec, its, _handler(source, spec.name, repeatable=its != "once"))
    if isinstance(source, HasResources) and await source.serves_resources():
        yield Offer(LIST_RESOURCES, "pure", _lister(source))
        yield Offer(READ_RESOURCE, "pure", _reader(source))


def _chosen(offers: list[Offer], include: Collection[str] | None, exclude: Collection[str] | None) -> dict[str, Offer]:
    """The tools that are wanted, by the server's names. Of two that the server calls alike, the first."""
    by_name: dict[str, Offer] = {}
    for offer in offers:
        if offer.spec.name in by_name:
            log.warning("left out the second of two MCP tools named %r", offer.spec.name)
        by_name.setdefault(offer.spec.name, offer)
    if unknown := sorted(set(include or ()) - set(by_name)):
        raise ValueError(f"the server has no tool {', '.join(map(repr, unknown))}; it has {', '.join(sorted(by_name)) or 'none'}")
    wanted = by_name if include is None else set(include)
    return {name: offer for name, offer in by_name.items() if name in wanted and name not in (exclude or ())}


def _bound(name: McpName, offer: Offer, limits: Mapping[str, Any]) -> BoundTool | None:
    """The tool, ready to be registered; None, with a warning, for one whose schema cannot be validated."""
    try:
        definition = ToolDefinition(str(name), _described(name, offer.spec), offer.spec.input_schema, effects=offer.effects, **limits)
        return as_bound((definition, offer.handler))
    except (ValueError, TypeError, RecursionError) as error:
        log.warning("left out the MCP tool %r: %s", name.original, error)
        return None


def _described(name: McpName, spec: McpToolSpec) -> str:
    """What the server says of it, with its own name where the registered one hides it."""
    if name.endswith(name.original):
        return spec.description
    return f"{spec.description}\n\n(On its server this tool is called {name.original}.)".lstrip()


def _effects_of(hints: Mapping[str, Any]) -> Effects:
    if hints.get("readOnlyHint") is True:
        return "pure"
    return "idempotent" if hints.get("idempotentHint") is True else "once"


# --- handlers: the one free parameter is the arguments, under a name that no schema has --------------------


def _handler(source: MCPToolSource, name: str, *, repeatable: bool) -> Handler:
    async def call_mcp_tool(run: ToolRun, mcp_arguments_: dict[str, Any], /) -> Any:
        if isinstance(source, CallsForRun):
            return result_of(await source.call_for_run(run, name, mcp_arguments_, repeatable=repeatable))
        given: Any = source.call_tool(name, mcp_arguments_)
        return result_of(await given if isawaitable(given) else given)

    return call_mcp_tool


def _lister(source: HasResources) -> Handler:
    async def list_mcp_resources() -> Any:
        return await source.list_resources()

    return list_mcp_resources


def _reader(source: HasResources) -> Handler:
    async def read_mcp_resource(uri: str) -> Any:
        return resource_of(await source.read_resource(uri))

    return read_mcp_resource
