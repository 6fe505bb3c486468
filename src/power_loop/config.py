"""`AgentLoopConfig`: what a loop does when a call does not say otherwise.

A mutable dataclass whose assignments are checked; the groups are frozen. The flat names of the 3.x line are
readable and writable attributes and constructor keywords that lead into the groups.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from power_loop.context.strategy import FoldStrategy, LLMSummaryFold, NeverFold
from power_loop.contracts.retry import LLMRetryPolicy
from power_loop.contracts.tool import Effects
from power_loop.contracts.usage import Price, UsageLimits

# How large a request may become when neither the configuration nor the model says so.
DEFAULT_CONTEXT_TOKENS = 64_000


@dataclass(frozen=True)
class ContextPolicy:
    """How history is shown, and when it is folded."""

    fold_strategy: Any = field(default_factory=LLMSummaryFold)
    fold_timeout_s: float = 120.0
    fold_target_ratio: float = 0.5


@dataclass(frozen=True)
class ToolPolicy:
    """How tools are offered and run."""

    concurrency: int = 8
    sync_threads: int = 32
    timeout_s: float | None = None
    default_effects: Effects = "once"
    result_max_chars: int = 50_000
    approval_ttl_s: float | None = None
    catalog: bool | None = None
    catalog_header: str = "# Available Tools"


@dataclass(frozen=True)
class RunPolicy:
    """Leases, waiting, cancelling, asking again."""

    lease_ttl_s: float = 30.0
    on_busy: str = "wait"
    busy_timeout_s: float | None = None
    cancel_grace_s: float = 5.0
    empty_reply_retries: int = 1
    output_retries: int = 2
    max_completion_vetoes: int = 3
    durable_stream: bool = False
    keep_requests: bool = False


DEFAULT_CONTEXT, DEFAULT_TOOLING, DEFAULT_RUNNING = ContextPolicy(), ToolPolicy(), RunPolicy()

# The flat 3.x name of a setting → (group, its name there).
FLAT: Mapping[str, tuple[str, str]] = {
    "fold_strategy": ("context", "fold_strategy"),
    "fold_timeout_s": ("context", "fold_timeout_s"),
    "inject_tool_descriptions": ("tooling", "catalog"),
    "tool_catalog_header": ("tooling", "catalog_header"),
}


@dataclass(init=False)
class AgentLoopConfig:
    """The settings of a loop. One object may be shared; a send reads it once, at its start."""

    system_prompt: str | None
    """None: a built-in default."""
    model: str | None
    max_rounds: int
    temperature: float | None
    max_tokens: int | None
    """Cap of one reply; never touches folding."""
    context_tokens: int | None
    """How large a request may become; None: from the model's declared window."""
    response_format: Any
    limits: UsageLimits | None
    retry_policy: LLMRetryPolicy | None
    context: ContextPolicy
    tooling: ToolPolicy
    running: RunPolicy
    prices: Mapping[str, Price] | None
    """Model name or glob → price, for cost limits and cost figures."""
    revision: int = field(init=False, repr=False, compare=False)
    """Grows with every assignment."""

    def __init__(
        self,
        system_prompt: str | None = None,
        model: str | None = None,
        max_rounds: int = 24,
        temperature: float | None = 0.0,
        max_tokens: int | None = 8000,
        context_tokens: int | None = None,
        response_format: Any = None,
        limits: UsageLimits | None = None,
        retry_policy: LLMRetryPolicy | None = None,
        context: ContextPolicy = DEFAULT_CONTEXT,
        tooling: ToolPolicy = DEFAULT_TOOLING,
        running: RunPolicy = DEFAULT_RUNNING,
        prices: Mapping[str, Price] | None = None,
        **flat: Any,
    ) -> None:
        given = dict(locals())
        for name in self.__dataclass_fields__:
            object.__setattr__(self, name, given.get(name, 0))
        if unknown := sorted(set(flat) - set(FLAT) - {"max_tokens_per_run", "compactor"}):
            known = ", ".join([*self.__dataclass_fields__, *FLAT, "max_tokens_per_run"])
            raise TypeError(f"AgentLoopConfig has no setting {', '.join(unknown)}; it has {known}")
        self._check()
        cap, limit = flat.get("max_tokens_per_run"), self.max_tokens_per_run
        if cap is not None and limit is not None and cap != limit:
            raise ValueError(
                f"max_tokens_per_run={cap} and limits.total_tokens={limit} differ; give one of them, or limits= in a replace()"
            )
        for name, value in flat.items():
            if name != "max_tokens_per_run" or value is not None:
                setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if name in FLAT:
            group, inner = FLAT[name]
            return getattr(getattr(self, group), inner)
        if name == "max_tokens_per_run":
            return self.limits.total_tokens if self.limits is not None else None
        raise AttributeError(f"AgentLoopConfig has no setting {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "max_tokens_per_run":
            others = {**(self.limits.to_dict() if self.limits is not None else {}), "total_tokens": value}
            self.limits = UsageLimits(**others) if any(limit is not None for limit in others.values()) else None
        elif name == "compactor":
            self._set_compactor(value)
        elif name in FLAT:
            group, inner = FLAT[name]
            setattr(self, group, replace(getattr(self, group), **{inner: value}))
        else:
            self._assign(name, value)

    def budget(self, window: int | None = None) -> int:
        """How many tokens a request may have; ``window`` is the model's declared one."""
        if self.context_tokens is not None:
            return self.context_tokens
        return max(window * 3 // 4 if window else DEFAULT_CONTEXT_TOKENS, self.max_tokens or 0)

    def effective_context_budget(self) -> int:
        return self.budget()

    def fold_at_tokens(self, window: int | None = None) -> int | None:
        """At how many tokens older sends are folded; None: never."""
        strategy: FoldStrategy = self.context.fold_strategy
        return None if isinstance(strategy, NeverFold) else int(self.budget(window) * strategy.trigger_ratio)

    def _assign(self, name: str, value: Any) -> None:
        if name not in self.__dataclass_fields__:
            raise AttributeError(f"AgentLoopConfig has no setting {name!r}")
        before = getattr(self, name)
        object.__setattr__(self, name, value)
        try:
            self._check()
        except BaseException:
            object.__setattr__(self, name, before)
            raise
        object.__setattr__(self, "revision", self.revision + 1)

    def _set_compactor(self, value: Any) -> None:
        warnings.warn("compactor is deprecated; use fold_strategy (NeverFold() for None)", DeprecationWarning, stacklevel=4)
        self.fold_strategy = NeverFold() if value is None else value

    def _check(self) -> None:
        for name, (holds, wanted) in CHECKS.items():
            value: Any = self
            for part in name.split("."):
                value = getattr(value, part)
            if not holds(value):
                raise ValueError(f"AgentLoopConfig.{name} is {value!r}; it must be {wanted}")
        if not isinstance(self.context.fold_strategy, FoldStrategy):
            raise TypeError(f"fold_strategy {self.context.fold_strategy!r} needs fold_id, keep_last_sends and trigger_ratio")


Holds = Callable[[Any], bool]


def _whole(low: int, *, optional: bool = False) -> Holds:
    return lambda value: (optional and value is None) or (type(value) is int and value >= low)


def _number(*, optional: bool = False, zero: bool = False) -> Holds:
    return lambda value: (optional and value is None) or (type(value) in (int, float) and (value > 0 or (zero and value == 0)))


def _of(kind: type, *, optional: bool = False) -> Holds:
    return lambda value: (optional and value is None) or isinstance(value, kind)


def _prices(value: Any) -> bool:
    return value is None or (
        isinstance(value, Mapping) and all(isinstance(price, Price) for price in cast("Mapping[str, Any]", value).values())
    )


# Setting → (what holds of a sound value, how the error names it); the groups before what is in them.
CHECKS: Mapping[str, tuple[Holds, str]] = {
    "system_prompt": (_of(str, optional=True), "text, or None for the built-in prompt"),
    "model": (_of(str, optional=True), "a model's name, or None for the service's own"),
    "max_rounds": (_whole(1), "a whole number of at least 1"),
    "max_tokens": (_whole(1, optional=True), "a whole number of at least 1, or None to send no cap"),
    "context_tokens": (_whole(1, optional=True), "a whole number of at least 1, or None"),
    "temperature": (_number(optional=True, zero=True), "a number of at least 0, or None to send none"),
    "limits": (_of(UsageLimits, optional=True), "UsageLimits(…), or None"),
    "retry_policy": (_of(LLMRetryPolicy, optional=True), "LLMRetryPolicy(…), or None"),
    "prices": (_prices, "a mapping from model names to Price(…), or None"),
    "context": (_of(ContextPolicy), "ContextPolicy(…)"),
    "tooling": (_of(ToolPolicy), "ToolPolicy(…)"),
    "running": (_of(RunPolicy), "RunPolicy(…)"),
    "running.lease_ttl_s": (_number(), "seconds above 0"),
    "running.on_busy": (lambda v: v in ("wait", "raise"), "'wait' or 'raise'"),
    "running.busy_timeout_s": (_number(optional=True), "seconds above 0, or None"),
    "running.cancel_grace_s": (_number(zero=True), "seconds, at least 0"),
    "running.empty_reply_retries": (_whole(0), "a whole number of at least 0"),
    "running.output_retries": (_whole(0), "a whole number of at least 0"),
    "running.max_completion_vetoes": (_whole(0), "a whole number of at least 0"),
    "tooling.concurrency": (_whole(1), "a whole number of at least 1"),
    "tooling.sync_threads": (_whole(1), "a whole number of at least 1"),
    "tooling.timeout_s": (_number(optional=True), "seconds above 0, or None"),
    "tooling.default_effects": (lambda v: v in ("pure", "idempotent", "once"), "'pure', 'idempotent' or 'once'"),
    "tooling.result_max_chars": (_whole(1), "a whole number of at least 1"),
    "context.fold_timeout_s": (_number(), "seconds above 0"),
    "context.fold_target_ratio": (lambda v: type(v) in (int, float) and 0 < v <= 1, "above 0 and at most 1"),
}
