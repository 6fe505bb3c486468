"""What a send is given to work with: the ports it reaches outside through, and the terms it runs under."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Protocol

from power_loop.contracts.cancel import CancellationToken
from power_loop.contracts.clock import Clock, Ids
from power_loop.contracts.digest import closing
from power_loop.contracts.limits import NO_LIMITS, Limits
from power_loop.contracts.model import LLMRequest, LLMService
from power_loop.contracts.retry import LLMRetryPolicy
from power_loop.contracts.store import SessionLog
from power_loop.contracts.tool import Effects, Toolbox, ToolRun
from power_loop.contracts.usage import CallUsage, Price

if TYPE_CHECKING:
    from power_loop.context.spill import SpillPolicy
    from power_loop.contracts.kept_rows import NoteRow
    from power_loop.contracts.notes import NotesPolicy
    from power_loop.contracts.projection import RuntimeProjector
    from power_loop.contracts.structured import OutputForm
    from power_loop.runtime.bus import AgentEventBus
    from power_loop.runtime.hooks import AgentHooks


class Threads(Protocol):
    """Where synchronous handlers run, so that they block neither the event loop nor the store."""

    def run(
        self, call: Callable[[], Any], late: Callable[[Any, BaseException | None], Coroutine[Any, Any, None]] | None = None
    ) -> Awaitable[Any]:
        """``late`` is told (value, error) of a call that ends after this was cancelled."""
        ...

    def ask(self, function: Callable[..., Any], *given: Any) -> Awaitable[Any]:
        """What a function says, be it async or not; one that cancels itself has failed."""
        ...


class NoteKeeper(Protocol):
    """Where the notes of sessions are kept, for folds that write some."""

    @property
    def notes_policy(self) -> NotesPolicy: ...

    async def list_notes(self, session_id: str) -> list[NoteRow]: ...

    async def add_note(self, session_id: str, content: str, *, pinned: bool = False, key: str | None = None) -> NoteRow: ...

    async def update_note(
        self, session_id: str, note_id: int, *, content: str | None = None, pinned: bool | None = None
    ) -> NoteRow | None: ...


class Closings:
    """The part of a request's digest that is the same from call to call, hashed when it changes."""

    def __init__(self) -> None:
        self._last: tuple[tuple[Any, ...], bytes] | None = None

    def of(self, request: LLMRequest) -> bytes:
        if request.extra:
            return closing(request)
        shape = (
            request.system_prompt, request.model, request.temperature, request.max_tokens, request.tool_choice,
            request.response_format, request.tools,
        )  # fmt: skip
        last = self._last
        if last is None or last[0] != shape:
            self._last = last = (shape, closing(request))
        return last[1]


@dataclass(slots=True)
class Ports:
    """What all sends of one loop share."""

    log: SessionLog
    model: LLMService
    hooks: AgentHooks
    bus: AgentEventBus
    clock: Clock
    ids: Ids
    threads: Threads
    holder: str
    agent: str = "agent"
    notes: NoteKeeper | None = None
    closings: Closings = field(default_factory=Closings)
    left: set[asyncio.Task[Any]] = field(default_factory=set[asyncio.Task[Any]])
    """Handlers that would not be cancelled and run on by themselves; an event loop keeps only weak references to its tasks."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the loop's configuration says; read once, at the start of a send."""

    system_prompt: str | None = None
    model: str | None = None
    temperature: float | None = 0.0
    max_tokens: int | None = 8000
    response_format: Any = None
    retry: LLMRetryPolicy | None = None
    prices: Mapping[str, Price] | None = None
    lease_ttl_ms: int = 30_000
    cancel_grace_s: float = 5.0
    max_vetoes: int = 3
    concurrency: int = 8
    tool_timeout_s: float | None = None
    default_effects: Effects = "once"
    result_max_chars: int = 50_000
    catalog: bool | None = None
    catalog_header: str = "# Available Tools"
    fold: Any = None
    """A `FoldStrategy`; None never folds."""
    fold_timeout_s: float = 120.0
    fold_target_tokens: int = 0
    limits: Limits = NO_LIMITS
    """Those of a send that sets none of its own."""
    projectors: tuple[RuntimeProjector, ...] = ()
    approval_ttl_ms: int | None = None
    output: OutputForm | None = None
    """The form of the answers of sends that ask for none of their own."""
    output_validators: tuple[Callable[[Any], Any], ...] = ()
    output_retries: int = 2
    context_tokens: int | None = None
    """What a request may have before its send folds; None where nothing is ever folded."""
    context_is_known: bool = False
    """Somebody said so: more is not even tried."""
    representation: Any = None
    """How finished sends are shown; None: word for word."""
    shown_as: Any = None
    """The same as it was configured, for whoever asks."""
    spill: SpillPolicy | None = None
    """Which old results of a request become files; None: none."""
    migrate_history: bool = True
    """Sends of before are shown in the representation too."""
    repair_history: bool = False
    """A history that requests only show as sound is folded away, once."""
    keep_requests: bool = False
    """Every request is kept whole, beside its reply."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What one send runs under; sends that set nothing of their own share one."""

    settings: Settings
    limits: Limits
    tools: Toolbox | None = None
    system_text: str = ""
    """The whole system prompt of its requests."""
    cancel: CancellationToken | None = None
    deps: Any = None
    depth: int = 0
    scope: str = "main"
    memory_of: str | None = None
    """Whose memory a sub-agent is shown; None: nobody's."""
    tool_run: ToolRun | None = None
    """What every call's `ToolRun` starts from: store, loop, config, environment."""
    output: OutputForm | None = None
    """The form that the answer must have."""
    response_format: Any = None
    projectors: tuple[RuntimeProjector, ...] = ()
    """Those that may have something to show with these tools on offer."""
    head_tokens: int = 0
    """Estimated: the system prompt and the tools."""


def effects_of(tools: Toolbox | None, settings: Settings, name: str) -> Effects:
    """The effect class of the tool ``name``. What nobody offers may be of any, so it is not repeated."""
    tool = tools.get(name) if tools is not None else None
    return "once" if tool is None else tool.definition.effects or settings.default_effects


def priced(settings: Settings, usage: CallUsage, *models: str | None) -> CallUsage:
    """``usage`` with its cost, by the first of ``models`` that has a price: providers answer under dated names of what was asked."""
    if settings.prices is None or usage.cost is not None:
        return usage
    prices = (price_of(settings.prices, model) for model in [model for model in models if model] or [None])
    price = next((price for price in prices if price is not None), None)
    return usage if price is None else usage._replace(cost=price.of(usage))


def check_priced(prices: Mapping[str, Price] | None, model: str | None, what: str, where: str = "") -> None:
    """Raises `ValueError` where ``model`` has no price: ``what`` would count nothing of it."""
    if price_of(prices or {}, model) is None:
        raise ValueError(f"{what} needs a price for the model {model!r}{where}: set AgentLoopConfig.prices")


def price_of(prices: Mapping[str, Price], model: str | None) -> Price | None:
    """The price of ``model``: its own entry, else the longest glob that fits."""
    fitting = [glob for glob in prices if fnmatchcase(model or "", glob)]
    return prices[max(fitting, key=len)] if fitting else None
