"""What a loop is made of, looked at before any I/O: a part that is none is told by its name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, cast

from power_loop.config import AgentLoopConfig
from power_loop.runtime.bus import AgentEventBus
from power_loop.runtime.hooks import AgentHooks
from power_loop.tools.toolbox import ToolRegistry

TEXT = (str, "text")
KINDS: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "dsn": ((str, os.PathLike), "text, or a path"),
    "db_path": ((str, os.PathLike), "a path"),
    "table_prefix": TEXT,
    "config": (AgentLoopConfig, "an AgentLoopConfig"),
    "tool_registry": (ToolRegistry, "a ToolRegistry (tools= takes functions and definitions)"),
    "hooks": (AgentHooks, "AgentHooks"),
    "event_bus": (AgentEventBus, "an AgentEventBus"),
    "name": TEXT,
    "holder_id": TEXT,
}


def check_parts(**parts: Any) -> None:
    """TypeError for the first that is not of its kind; None is of any."""
    for name, part in parts.items():
        kind, shown = KINDS[name]
        if part is not None and not isinstance(part, kind):
            raise TypeError(f"{name}= takes {shown}, not {type(part).__name__}")


def check_store(store: Any) -> None:
    """TypeError for what nothing can be written to; None is the store that the loop opens itself."""
    if store is not None and not callable(getattr(store, "look", None)):
        raise TypeError(f"store= takes what open_store() gives, not {type(store).__name__}; dsn= takes the name of a database")


def usable_model(llm: Any) -> Any:
    """The model that ``llm`` is or names. Raises `TypeError` for what is none."""
    if isinstance(llm, str):
        from power_loop.providers.open import create_llm  # the string chooses the provider

        return create_llm(llm)
    if not callable(getattr(llm, "complete", None)) and not callable(getattr(llm, "stream", None)):
        raise TypeError(
            f"llm= takes an object with an awaitable complete(request), or a string like 'openai:MODEL', not {type(llm).__name__}"
        )
    return llm


def joined_registry(registry: ToolRegistry | None, tools: Iterable[Any] | None) -> ToolRegistry | None:
    """The registry of a loop that was given one, or tools, or both."""
    if tools is None:
        return registry
    if not isinstance(cast("Any", tools), Iterable) or isinstance(tools, (str, bytes)):
        raise TypeError(f"tools= takes a list of functions, @tools or (definition, handler) pairs, not {type(tools).__name__}")
    joined = registry.subset(registry.names()) if registry is not None else ToolRegistry()  # its own: others may use the one given
    joined.add(*tools)
    return joined
