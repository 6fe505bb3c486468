"""From configuration and call to the terms that one send runs under. Per call comes before session before config."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from power_loop.config import AgentLoopConfig
from power_loop.context.prompt import system_text
from power_loop.contracts.cancel import CancellationLike, CancellationToken
from power_loop.contracts.limits import Limits
from power_loop.contracts.model import capabilities_of
from power_loop.contracts.tool import Toolbox, ToolDefinition, ToolRun
from power_loop.contracts.usage import UsageLimits
from power_loop.runtime.ports import Settings, Terms, price_of
from power_loop.runtime.session import Session
from power_loop.tools.toolbox import ToolRegistry


@dataclass(frozen=True, slots=True)
class Call:
    """What one call of `send` (or `resume`, `follow_up`) sets for its send."""

    tools: Toolbox | None = None
    """None: the loop's own."""
    system_prompt: str | None = None
    limits: UsageLimits | None = None
    max_rounds: int | None = None
    cancel: CancellationToken | None = None
    deps: Any = None

    def stored(self) -> dict[str, Any] | None:
        """What of it a resume in another process can know; functions, types and ``deps`` are given again."""
        if self is PLAIN:
            return None
        kept: dict[str, Any] = {}
        if self.tools is not None:
            kept["tools"] = self.tools.names()
        if self.system_prompt is not None:
            kept["system_prompt"] = self.system_prompt
        if self.limits is not None:
            kept["limits"] = self.limits.to_dict()
        if self.max_rounds is not None:
            kept["max_rounds"] = self.max_rounds
        return kept or None


PLAIN = Call()


def call_of(
    tools: Toolbox | None,
    system_prompt: str | None,
    limits: UsageLimits | None,
    max_rounds: int | None,
    stop_event: CancellationLike,
    deps: Any,
) -> Call:
    """What the caller set, checked. Raises `ValueError` or `TypeError`."""
    if max_rounds is not None and not (type(max_rounds) is int and max_rounds > 0):
        raise ValueError(f"max_rounds is {max_rounds!r}; it must be a whole number of at least 1")
    if limits is not None and not isinstance(cast("Any", limits), UsageLimits):
        raise TypeError(f"limits= takes UsageLimits(…), not {type(limits).__name__}")
    if system_prompt is not None and not isinstance(cast("Any", system_prompt), str):
        raise TypeError(f"system_prompt= takes text, not {type(system_prompt).__name__}")
    if tools is system_prompt is limits is max_rounds is stop_event is deps is None:
        return PLAIN
    cancel = CancellationToken.from_any(stop_event) if stop_event is not None else None
    return Call(tools, system_prompt, limits, max_rounds, cancel, deps)


def chosen_tools(given: Any, registry: ToolRegistry | None) -> ToolRegistry | None:
    """The tools of one call: names, functions, definitions or a registry. Raises `ToolNotFound` for an unknown name."""
    if given is None:
        return None
    if isinstance(given, ToolRegistry):
        return given
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"tools= takes a list of names, functions or definitions, or a ToolRegistry, not {type(given).__name__}")
    # A bare definition has no handler; it stands for the registered tool of its name.
    items = [item.name if isinstance(item, ToolDefinition) else item for item in cast("Iterable[Any]", given)]
    chosen = (registry or ToolRegistry()).subset([item for item in items if isinstance(item, str)])
    chosen.add(*(item for item in items if not isinstance(item, str)))
    return chosen


def settings_of(config: AgentLoopConfig, model: Any) -> Settings:
    """What a send needs to know of the configuration, and of the model's declared abilities."""
    window = capabilities_of(model).context_window
    context, tooling, running = config.context, config.tooling, config.running
    fold_at, fold_target = config.fold_at_tokens(window), int(config.budget(window) * context.fold_target_ratio)
    return Settings(
        config.system_prompt, config.model, config.temperature, config.max_tokens, config.response_format,
        config.retry_policy, config.prices,
        int(running.lease_ttl_s * 1000), running.cancel_grace_s, running.max_completion_vetoes,
        tooling.concurrency, tooling.timeout_s, tooling.default_effects, tooling.result_max_chars, tooling.catalog, tooling.catalog_header,
        context.fold_strategy if fold_at is not None else None, context.fold_timeout_s, fold_target,
        Limits(config.max_rounds, config.limits, fold_at, True, running.empty_reply_retries),
    )  # fmt: skip


def system_text_of(settings: Settings, model: object, tools: Toolbox | None, explicit: str | None) -> str:
    """The system prompt of requests; tools are described in it for a model that cannot take them natively."""
    listed = settings.catalog if settings.catalog is not None else capabilities_of(model).tools is False
    catalog = tools.to_openai_tools() if listed and tools is not None else None
    return system_text(settings.system_prompt if explicit is None else explicit, catalog=catalog, header=settings.catalog_header)


def terms_of(
    session: Session, call: Call, *, settings: Settings, registry: ToolRegistry | None, model: Any, tool_run: ToolRun, resumes: bool
) -> Terms:
    """The terms of the next run of ``session``; a resume goes on under what its send was given."""
    kept: Mapping[str, Any] = (session.state.overrides or {}) if resumes else {}
    tools: Toolbox | None = call.tools if call.tools is not None else registry
    if call.tools is None and "tools" in kept and registry is not None:
        tools = registry.subset([name for name in kept["tools"] if registry.has(name)])
    offered = tools if tools is not None and tools.to_openai_tools() else None
    prompt = call.system_prompt if call.system_prompt is not None else kept.get("system_prompt")
    base = settings.limits
    usage = _limits(call.limits, kept.get("limits"), base.usage)
    _refuse_unpriced(usage, settings, model)
    rounds = call.max_rounds or kept.get("max_rounds") or base.rounds
    limits = Limits(rounds, usage, base.fold_at_tokens, offered is not None, base.empty_retries)
    text = system_text_of(settings, model, offered, prompt if prompt is not None else session.prompt)
    return Terms(settings, limits, offered, text, call.cancel, call.deps, tool_run=tool_run)


def _limits(given: UsageLimits | None, kept: Mapping[str, Any] | None, base: UsageLimits | None) -> UsageLimits | None:
    own = given or (UsageLimits(**kept) if kept else None)
    return own.over(base) if own is not None else base


def _refuse_unpriced(limits: UsageLimits | None, settings: Settings, model: Any) -> None:
    if limits is None or limits.cost is None:
        return
    name = settings.model or getattr(model, "model", None)
    if settings.prices is None or price_of(settings.prices, name) is None:
        raise ValueError(f"a cost limit needs a price for the model {name!r}: set AgentLoopConfig.prices")
