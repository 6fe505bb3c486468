"""The tools on offer: `ToolRegistry`, by name. What a tool is and how it is called is the business of `bound`."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable, Mapping
from types import MethodType
from typing import Any, cast

from power_loop.contracts.errors import AsyncToolInSyncContext, ToolNotFound, ToolValidationError
from power_loop.contracts.tool import ToolDefinition, ToolRun
from power_loop.tools.bound import BoundTool
from power_loop.tools.define import FunctionTool, function_tool
from power_loop.tools.env import RuntimeEnv

ToolHandler = Callable[..., Any]
ToolHandlerMap = Mapping[str, ToolHandler]
ToolArgsValidator = Callable[[str, Mapping[str, Any]], str | None]
"""``(tool name, arguments) → what is wrong, or None``."""

Tools = dict[str, BoundTool]


class ToolRegistry:
    """Tools by name, in the order of registration.

    May be changed while sends run, from any thread: a change makes a new table, and who reads keeps the one it began with.
    """

    def __init__(self, tools: Iterable[Any] = ()) -> None:
        self._tools: Tools = {}
        self._wire: tuple[Tools, list[dict[str, Any]]] | None = None
        self._changing = threading.Lock()
        self.env: RuntimeEnv | None = None
        """What its tools are bound to, where all of them are: `create_default_tool_registry` sets it."""
        self.add(*tools)

    # --- what is on offer ----------------------------------------------------------------------------------

    def register(self, definition: ToolDefinition, handler: ToolHandler, *, overwrite: bool = False) -> None:
        """Offer ``handler`` as ``definition`` says.

        Raises `ValueError` for a name that is taken (unless ``overwrite``) or invalid and for a schema that cannot be
        validated; `TypeError` for a handler that the schema's arguments do not fit.
        """
        self._put([BoundTool(definition, handler)], overwrite=overwrite)

    def add(self, *tools: Any) -> None:
        """Offer functions, bound methods and other callables, ``@tool`` functions, or ``(definition, handler)`` pairs.

        All or none; a name that is taken is a `ValueError`.
        """
        self._put([as_bound(each) for each in tools], overwrite=False)

    def unregister(self, name: str) -> None:
        """Raises `ToolNotFound` when there is no such tool."""
        with self._changing:
            if name not in self._tools:
                raise ToolNotFound(name, known=self.names())
            self._tools = {each: bound for each, bound in self._tools.items() if each != name}

    def has(self, name: str) -> bool:
        return name in self._tools

    def get(self, name: str) -> BoundTool | None:
        return self._tools.get(name)

    def names(self) -> list[str]:
        return list(self._tools)

    def definitions(self) -> list[ToolDefinition]:
        return [bound.definition for bound in self._tools.values()]

    def subset(self, names: Iterable[str]) -> ToolRegistry:
        """A registry of its own with these tools only. Raises `ToolNotFound` for a name that is none of them."""
        chosen = ToolRegistry()
        chosen._tools = {name: self._find(name) for name in names}
        chosen.env = self.env
        return chosen

    def to_openai_tools(self) -> list[dict[str, Any]]:
        """The tools as a request names them, sorted by name; the same list until the registry changes, so leave it as it is."""
        tools, cached = self._tools, self._wire
        if cached is None or cached[0] is not tools:
            cached = self._wire = (tools, [tools[name].definition.to_openai_tool() for name in sorted(tools)])
        return cached[1]

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    def __len__(self) -> int:
        return len(self._tools)

    def __repr__(self) -> str:
        return f"ToolRegistry({', '.join(self._tools)})"

    # --- by hand, without a loop ---------------------------------------------------------------------------

    def validate(self, name: str, args: Mapping[str, Any]) -> str | None:
        """Everything in which ``args`` break the tool's schema; None when they keep it. Raises `ToolNotFound`."""
        return self._find(name).violations(args)

    def invoke(self, name: str, args: Mapping[str, Any], *, run: ToolRun | None = None) -> Any:
        """Validate ``args`` and call a synchronous handler, here and now; what it returns is given back as it is.

        Raises `ToolNotFound`, `ToolValidationError`, `AsyncToolInSyncContext`, and what the handler raises.
        """
        bound, run = self._checked(name, args), run or ToolRun(tool_name=name)
        if bound.is_async:
            raise AsyncToolInSyncContext(f"the handler of {name!r} is async; await invoke_async({name!r}, …)")
        value = bound.call(run, args)
        if inspect.isawaitable(value):
            _dismiss(value)
            raise AsyncToolInSyncContext(f"the handler of {name!r} gave an awaitable; await invoke_async({name!r}, …)")
        return value

    async def invoke_async(self, name: str, args: Mapping[str, Any], *, run: ToolRun | None = None) -> Any:
        """The same for every handler; a synchronous one runs in the caller's thread."""
        value = self._checked(name, args).call(run or ToolRun(tool_name=name), args)
        return await value if inspect.isawaitable(value) else value

    def _checked(self, name: str, args: Mapping[str, Any]) -> BoundTool:
        bound = self._find(name)
        if (violations := bound.violations(args)) is not None:
            raise ToolValidationError(name, violations)
        return bound

    def _find(self, name: str) -> BoundTool:
        bound = self._tools.get(name)
        if bound is None:
            raise ToolNotFound(name, known=self.names())
        return bound

    def _put(self, added: list[BoundTool], *, overwrite: bool) -> None:
        with self._changing:
            tools = dict(self._tools)
            for bound in added:
                name = bound.definition.name
                if name in tools and not overwrite:
                    raise ValueError(f"a tool named {name!r} is registered already; rename it, or register it with overwrite=True")
                tools[name] = bound
            self._tools = tools


def as_bound(offered: Any) -> BoundTool:
    """What may stand in ``tools=[…]``, ready to be called."""
    match offered:
        case BoundTool():
            return offered
        case FunctionTool():
            return cast("FunctionTool[..., Any]", offered).bind()
        case MethodType(__func__=FunctionTool()):  # @classmethod over @tool
            return cast("FunctionTool[..., Any]", offered.__func__).__get__(offered.__self__).bind()
        case (ToolDefinition() as definition, handler) if callable(handler):
            return BoundTool(definition, handler)
        case ToolDefinition(name=name):
            raise TypeError(f"the definition {name!r} has no handler; use register(definition, handler), or give the pair of both")
        case _ if callable(offered):
            return function_tool(offered).bind()
        case _:
            raise TypeError(f"{offered!r} is no tool: give a function, a @tool, or a (definition, handler) pair")


def build_registry(definitions: Iterable[ToolDefinition], handlers: ToolHandlerMap) -> ToolRegistry:
    """A registry of ``definitions`` with the handlers of their names. Raises `ValueError` for one without a handler."""
    registry = ToolRegistry()
    for definition in definitions:
        if definition.name not in handlers:
            raise ValueError(f"no handler for {definition.name!r} among {', '.join(handlers) or 'none'}")
        registry.register(definition, handlers[definition.name])
    return registry


def _dismiss(awaitable: Any) -> None:
    """Leave nothing behind that warns of never having been awaited."""
    close = getattr(awaitable, "close", None)
    if callable(close):
        close()
