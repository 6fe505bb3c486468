"""From configuration and call to the terms that one send runs under. Per call comes before session before config."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from power_loop.config import AgentLoopConfig
from power_loop.context.prompt import system_text
from power_loop.contracts.cancel import CancellationLike, CancellationToken
from power_loop.contracts.codec import dumps
from power_loop.contracts.errors import StructuredOutputError
from power_loop.contracts.limits import Limits
from power_loop.contracts.messages import estimate_text_tokens
from power_loop.contracts.model import capabilities_of
from power_loop.contracts.tool import Toolbox, ToolDefinition, ToolRun
from power_loop.contracts.usage import UsageLimits
from power_loop.runtime.ports import Settings, Terms, check_priced
from power_loop.runtime.projecting import wanted
from power_loop.runtime.session import Session
from power_loop.tools.toolbox import ToolRegistry

if TYPE_CHECKING:
    from power_loop.contracts.structured import OutputForm

# The tool whose skills stand in the system prompt.
LOAD_SKILL = "load_skill"


class OwnTerms(NamedTuple):
    """How a sub-agent's model is asked, and where it stands."""

    depth: int
    model: str | None
    """None: the parent's."""
    temperature: float | None
    max_tokens: int | None
    scope: str = "subagent"
    inherit_context: bool = True
    """False: its context is folded and shown as in a loop that configures nothing."""
    memory_of: str | None = None
    """Whose memory it is shown; None: nobody's."""

    def of(self, settings: Settings, model: object) -> Settings:
        """The parent's ``settings`` for the sub-agent. What bounds the parent's send bounds it through the parent's ledger."""
        settings = settings if self.inherit_context else with_plain_context(settings, model)
        return replace(
            settings, model=self.model or settings.model, temperature=self.temperature, max_tokens=self.max_tokens, output=None,
            output_validators=(), response_format=None, limits=replace(settings.limits, usage=None),
        )  # fmt: skip


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
    output: OutputForm | None = None
    own: OwnTerms | None = None
    """What a sub-agent has of its own, instead of what is configured."""

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
        if self.output is not None:
            kept["output"] = self.output.stored()
        if self.own is not None:
            kept["own"] = self.own._asdict()
        return kept or None


PLAIN = Call()


def call_of(
    tools: Toolbox | None,
    system_prompt: str | None,
    limits: UsageLimits | None,
    max_rounds: int | None,
    stop_event: CancellationLike,
    deps: Any,
    output_type: Any = None,
) -> Call:
    """What the caller set, checked. Raises `ValueError` or `TypeError`."""
    if max_rounds is not None and not (type(max_rounds) is int and max_rounds > 0):
        raise ValueError(f"max_rounds is {max_rounds!r}; it must be a whole number of at least 1")
    if limits is not None and not isinstance(cast("Any", limits), UsageLimits):
        raise TypeError(f"limits= takes UsageLimits(…), not {type(limits).__name__}")
    if system_prompt is not None and not isinstance(cast("Any", system_prompt), str):
        raise TypeError(f"system_prompt takes text, not {type(system_prompt).__name__}")
    if tools is system_prompt is limits is max_rounds is stop_event is deps is output_type is None:
        return PLAIN
    cancel = CancellationToken.from_any(stop_event) if stop_event is not None else None
    return Call(tools, system_prompt, limits, max_rounds, cancel, deps, form_of(output_type) if output_type is not None else None)


def form_of(output_type: Any) -> OutputForm:
    """The form that a caller wants of the answer. Raises `ValueError` or `TypeError`."""
    from power_loop.tools.structured import output_form  # most sends ask for none

    return output_form(output_type)


def output_in(text: str, stored: Mapping[str, Any]) -> Any:
    """The value of an answer by the form that was ``stored`` with its send; None where it is none."""
    from power_loop.contracts.structured import StructuredOutputSpec  # few sends have one

    try:
        return form_of(StructuredOutputSpec(**stored)).read(text)
    except StructuredOutputError:
        return None


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
    fold_at, fold_target = config.fold_at_tokens(window), int(config.effective_context_budget(window) * context.fold_target_ratio)
    form, response_format = _configured_form(config)
    return Settings(
        config.system_prompt, config.model, config.temperature, config.max_tokens, response_format,
        config.retry_policy, config.prices,
        int(running.lease_ttl_s * 1000), running.cancel_grace_s, running.max_completion_vetoes,
        tooling.concurrency, tooling.timeout_s, tooling.default_effects, tooling.result_max_chars, tooling.catalog, tooling.catalog_header,
        context.fold_strategy if fold_at is not None else None, context.fold_timeout_s, fold_target,
        Limits(config.max_rounds, config.limits, fold_at, empty_retries=running.empty_reply_retries), tuple(tooling.projectors),
        int(tooling.approval_ttl_s * 1000) if tooling.approval_ttl_s is not None else None,
        form, tuple(config.output_validators), running.output_retries,
        config.effective_context_budget(window) if fold_at is not None else None, config.context_tokens is not None or bool(window),
        config.projection_representation, context.representation, config.spilling(), context.migrate_history_on_switch,
        context.repair_corrupt_history, running.keep_requests,
    )  # fmt: skip


def with_plain_context(settings: Settings, model: object) -> Settings:
    """``settings`` with the context of a loop that configures none. How finished sends are shown stays: a sub-agent has one send."""
    plain = settings_of(AgentLoopConfig(), model)
    return replace(
        settings, fold=plain.fold, fold_timeout_s=plain.fold_timeout_s, fold_target_tokens=plain.fold_target_tokens,
        projectors=plain.projectors, context_tokens=plain.context_tokens, context_is_known=plain.context_is_known,
        limits=replace(settings.limits, fold_at_tokens=plain.limits.fold_at_tokens),
    )  # fmt: skip


def _configured_form(config: AgentLoopConfig) -> tuple[OutputForm | None, Any]:
    """(the form of every answer, the response format of every request)."""
    wanted, given = config.output_type, config.response_format
    if wanted is None and given is None:
        return (form_of(str) if config.output_validators else None), None
    from power_loop.tools.structured import is_output_type  # most configurations have neither

    if wanted is None and is_output_type(given):
        wanted = given
    if wanted is None:
        return (form_of(str) if config.output_validators else None), given
    form = form_of(wanted)
    return form, form.response_format


def system_text_of(settings: Settings, model: object, tools: Toolbox | None, explicit: str | None, skills: str) -> str:
    """The system prompt of requests; tools are described in it for a model that cannot take them natively, then ``skills``."""
    listed = settings.catalog if settings.catalog is not None else capabilities_of(model).tools is False
    catalog = tools.to_openai_tools() if listed and tools is not None else None
    base = settings.system_prompt if explicit is None else explicit
    loadable = tools is not None and tools.get(LOAD_SKILL) is not None
    return system_text(base, catalog=catalog, header=settings.catalog_header, skills=skills if loadable else "")


def terms_of(
    session: Session, call: Call, *, settings: Settings, registry: ToolRegistry | None, model: Any, tool_run: ToolRun, resumes: bool,
    skills: str = "",
) -> Terms:  # fmt: skip
    """The terms of the next run of ``session``; a resume goes on under what its send was given. ``skills``: for the prompt.

    A sub-agent's sends have what its first one was given.
    """
    kept: Mapping[str, Any] = (session.state.overrides if resumes else None) or session.given or {}
    own = call.own or (OwnTerms(**kept["own"]) if "own" in kept else None)
    settings = own.of(settings, model) if own is not None else settings
    tools: Toolbox | None = call.tools if call.tools is not None else registry
    lacks: frozenset[str] = frozenset()
    if call.tools is None and "tools" in kept and registry is not None:
        tools = registry.subset([name for name in kept["tools"] if registry.has(name)])
        lacks = frozenset(kept["tools"]).difference(tools.names())
    offered = tools if tools is not None and tools.to_openai_tools() else None
    prompt = call.system_prompt if call.system_prompt is not None else kept.get("system_prompt")
    base = settings.limits
    usage = _limits(call.limits, kept.get("limits"), base.usage)
    _refuse_unpriced(usage, settings, model)
    rounds = call.max_rounds or kept.get("max_rounds") or base.rounds
    form = output_asked(call, kept, settings)
    retries = settings.output_retries if form is not None else None
    limits = Limits(rounds, usage, base.fold_at_tokens, offered is not None, lacks, base.empty_retries, retries)
    text = system_text_of(settings, model, offered, prompt if prompt is not None else session.prompt, skills)
    asked = settings.response_format if form is settings.output or form is None else form.response_format
    shown = wanted(settings.projectors, offered)
    return Terms(
        settings, limits, offered, text, call.cancel, call.deps, depth=own.depth if own is not None else 0,
        scope=own.scope if own is not None else "main", tool_run=tool_run, output=form, response_format=asked, projectors=shown,
        memory_of=own.memory_of if own is not None else None,
        head_tokens=head_tokens(text, offered) if settings.fold is not None else 0,
    )  # fmt: skip


def head_tokens(system_text: str, tools: Toolbox | None) -> int:
    """Roughly how many tokens stand before the messages of a request."""
    return estimate_text_tokens(system_text) + (estimate_text_tokens(dumps(tools.to_openai_tools())) if tools is not None else 0)


def output_asked(call: Call, kept: Mapping[str, Any], settings: Settings) -> OutputForm | None:
    """The form of the answer: what the call says, else what its send was begun with (``kept``), else as configured."""
    stored = kept.get("output")
    if call.output is not None or stored is None:
        return call.output or settings.output
    # The configuration may have the type whose instances the stored schema does not know.
    if settings.output is not None and settings.output.stored() == stored:
        return settings.output
    from power_loop.contracts.structured import StructuredOutputSpec  # only a resume meets a stored schema

    return form_of(StructuredOutputSpec(**stored))


def _limits(given: UsageLimits | None, kept: Mapping[str, Any] | None, base: UsageLimits | None) -> UsageLimits | None:
    own = given or (UsageLimits(**kept) if kept else None)
    return own.over(base) if own is not None else base


def _refuse_unpriced(limits: UsageLimits | None, settings: Settings, model: Any) -> None:
    if limits is None or limits.cost is None:
        return
    names = [settings.model or getattr(model, "model", None)]
    if (summariser := getattr(settings.fold, "summary_llm", None)) is not None:
        names.append(getattr(summariser, "model", None))
    for name in names:
        check_priced(settings.prices, name, "a cost limit")
