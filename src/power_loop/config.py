"""`AgentLoopConfig`: what a loop does when a call does not say otherwise.

A mutable dataclass whose assignments are checked; the groups are frozen. The flat names of the 3.x line are
readable and writable attributes and constructor keywords that lead into the groups.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field, fields, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any, cast

from power_loop.context.represent import VERBATIM, Representation, VerbatimRepresentation
from power_loop.context.spill import SpillPolicy
from power_loop.context.strategy import FoldStrategy, LLMSummaryFold, NeverFold
from power_loop.contracts.notes import DEFAULT_NOTES_POLICY, NotesPolicy
from power_loop.contracts.retry import LLMRetryPolicy
from power_loop.contracts.tool import Effects
from power_loop.contracts.usage import Price, UsageLimits
from power_loop.tools.projectors import default_runtime_projectors

if TYPE_CHECKING:
    from power_loop.contracts.memory import MemoryProvider
    from power_loop.contracts.projection import RuntimeProjector

# How large a request may become when neither the configuration nor the model says so.
DEFAULT_CONTEXT_TOKENS = 64_000


DEFAULT_SPILL = SpillPolicy()


@dataclass(frozen=True)
class ContextPolicy:
    """How history is shown, and when it is folded."""

    representation: Any = field(default_factory=VerbatimRepresentation)
    """A `Representation`: how finished sends are shown."""
    fold_strategy: Any = field(default_factory=LLMSummaryFold)
    """A `FoldStrategy`: how older sends are replaced."""
    fold_timeout_s: float = 120.0
    fold_target_ratio: float = 0.5
    """A fold brings the request to this part of the budget."""
    migrate_history_on_switch: bool = True
    """Sends of before a switch of the representation are shown in it too."""
    repair_corrupt_history: bool = False
    """What a host's broken history lacks is written down, instead of being left out of what is shown."""
    spill: SpillPolicy = DEFAULT_SPILL


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
    projectors: tuple[RuntimeProjector, ...] = field(default_factory=default_runtime_projectors)
    skills_dir: str | os.PathLike[str] | None = None


@dataclass(frozen=True)
class MemoryPolicy:
    """How much of what is remembered a request may hold, where it stands, and how many notes a session keeps."""

    budget_tokens: int = 1500
    position: str = "tail"
    builtin_hook: bool = True
    notes: NotesPolicy = DEFAULT_NOTES_POLICY


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


DEFAULT_CONTEXT, DEFAULT_RECALL, DEFAULT_TOOLING, DEFAULT_RUNNING = ContextPolicy(), MemoryPolicy(), ToolPolicy(), RunPolicy()

# The flat 3.x name of a setting → (group, its name there).
FLAT: Mapping[str, tuple[str, str]] = {
    "representation": ("context", "representation"),
    "fold_strategy": ("context", "fold_strategy"),
    "fold_timeout_s": ("context", "fold_timeout_s"),
    "fold_target_ratio": ("context", "fold_target_ratio"),
    "migrate_history_on_switch": ("context", "migrate_history_on_switch"),
    "repair_corrupt_history": ("context", "repair_corrupt_history"),
    "spill": ("context", "spill"),
    "microcompact_enabled": ("context", "spill.enabled"),
    "microcompact_size_limit": ("context", "spill.size_limit"),
    "microcompact_hot_tail": ("context", "spill.hot_tail"),
    "microcompact_spill_dir": ("context", "spill.dir"),
    "memory_budget_tokens": ("recall", "budget_tokens"),
    "memory_position": ("recall", "position"),
    "builtin_memory_hook": ("recall", "builtin_hook"),
    "notes_policy": ("recall", "notes"),
    "inject_tool_descriptions": ("tooling", "catalog"),
    "tool_catalog_header": ("tooling", "catalog_header"),
    "runtime_projectors": ("tooling", "projectors"),
    "skills_dir": ("tooling", "skills_dir"),
}

# A deprecated name → (what it is called now, what stands for None).
DEPRECATED: Mapping[str, tuple[str, type[Any]]] = {
    "compactor": ("fold_strategy", NeverFold),
    "history_projector": ("representation", VerbatimRepresentation),
}

SAME_LIMITS: Any = property(attrgetter("limits"))


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
    """Handed to the model as it is; a type in its place is an ``output_type``."""
    output_type: Any
    """What the answer of every send must be: a type, a JSON Schema or a `StructuredOutputSpec`."""
    output_validators: Sequence[Callable[[Any], Any]]
    """Called in turn with the value of an answer; each gives the next value, or raises `ModelRetry`."""
    limits: UsageLimits | None
    retry_policy: LLMRetryPolicy | None
    memory: MemoryProvider | None
    """Recalled at every run, and told of every send that has ended."""
    context: ContextPolicy
    recall: MemoryPolicy
    tooling: ToolPolicy
    running: RunPolicy
    prices: Mapping[str, Price] | None
    """Model name or glob → price, for cost limits and cost figures."""
    revision: int = field(init=False, repr=False, compare=False)
    """Grows with every assignment."""
    limits_before: InitVar[Any] = SAME_LIMITS
    """What `dataclasses.replace` hands on beside ``limits``: where both are the same object, it was given no limits."""

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
        memory: MemoryProvider | None = None,
        context: ContextPolicy = DEFAULT_CONTEXT,
        recall: MemoryPolicy = DEFAULT_RECALL,
        tooling: ToolPolicy = DEFAULT_TOOLING,
        running: RunPolicy = DEFAULT_RUNNING,
        prices: Mapping[str, Price] | None = None,
        output_type: Any = None,
        output_validators: Sequence[Callable[[Any], Any]] = (),
        **flat: Any,
    ) -> None:
        given = dict(locals())
        for each in fields(self):
            object.__setattr__(self, each.name, given.get(each.name, 0))
        before = flat.pop("limits_before", None)
        replacing = before is not None and before is limits
        if unknown := sorted(set(flat) - set(FLAT) - {"max_tokens_per_run", *DEPRECATED}):
            known = ", ".join([*(each.name for each in fields(self)), *FLAT, "max_tokens_per_run"])
            raise TypeError(f"AgentLoopConfig has no setting {', '.join(unknown)}; it has {known}")
        self._check()
        cap, limit = flat.get("max_tokens_per_run"), self.max_tokens_per_run
        if cap is not None and limit not in (None, cap) and not replacing:
            raise ValueError(f"max_tokens_per_run={cap} and limits.total_tokens={limit} differ; give one of them")
        for name, value in flat.items():
            if name != "max_tokens_per_run" or value is not None or replacing:
                setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if name in FLAT:
            group, inner = FLAT[name]
            return attrgetter(inner)(getattr(self, group))
        if name == "max_tokens_per_run":
            return self.limits.total_tokens if self.limits is not None else None
        raise AttributeError(f"AgentLoopConfig has no setting {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "max_tokens_per_run":
            others = {**(self.limits.to_dict() if self.limits is not None else {}), "total_tokens": value}
            self.limits = UsageLimits(**others) if any(limit is not None for limit in others.values()) else None
        elif name in DEPRECATED:
            self._set_deprecated(name, value)
        elif name in FLAT:
            group, inner = FLAT[name]
            policy, (outer, _, deep) = getattr(self, group), inner.partition(".")
            setattr(self, group, replace(policy, **{outer: replace(getattr(policy, outer), **{deep: value}) if deep else value}))
        else:
            self._assign(name, value)

    def budget(self, window: int | None = None) -> int:
        """How many tokens a request may have; ``window`` is the model's declared one."""
        if self.context_tokens is not None:
            return self.context_tokens
        return max(window * 3 // 4 if window else DEFAULT_CONTEXT_TOKENS, self.max_tokens or 0)

    def effective_context_budget(self, window: int | None = None) -> int:
        """What is left of it for the transcript: memory that is recalled for a request has room of its own."""
        return max(1, self.budget(window) - self._memory_tokens())

    def _memory_tokens(self) -> int:
        """What recalled memory may take; nothing where none is recalled."""
        return self.recall.budget_tokens if self.memory is not None and self.recall.builtin_hook else 0

    @property
    def projection_representation(self) -> Representation | None:
        """How finished sends are shown, where that is not word for word."""
        chosen: Representation = self.context.representation
        return None if chosen.kind == VERBATIM else chosen

    def spilling(self) -> SpillPolicy | None:
        """Which old results become files; the environment's ``CONTEXT_MICRO_…`` stand in for what is left at its default."""
        spill = self.context.spill
        if not spill.enabled:
            return None
        size, tail = from_environment("CONTEXT_MICRO_SIZE_LIMIT"), from_environment("CONTEXT_MICRO_HOT_TAIL")
        size_limit = size if size is not None and spill.size_limit == DEFAULT_SPILL.size_limit else spill.size_limit
        hot_tail = tail if tail is not None and spill.hot_tail == DEFAULT_SPILL.hot_tail else spill.hot_tail
        return replace(spill, size_limit=size_limit, hot_tail=hot_tail)

    def fold_at_tokens(self, window: int | None = None) -> int | None:
        """At how many tokens older sends are folded; None: never. The environment's ``CONTEXT_COMPACT_THRESHOLD`` comes first."""
        strategy: FoldStrategy = self.context.fold_strategy
        if isinstance(strategy, NeverFold):
            return None
        threshold = from_environment("CONTEXT_COMPACT_THRESHOLD")
        return threshold if threshold is not None else int(self.effective_context_budget(window) * strategy.trigger_ratio)

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

    def _set_deprecated(self, name: str, value: Any) -> None:
        now, none = DEPRECATED[name]
        warnings.warn(f"{name} is deprecated; use {now} ({none.__name__}() for None)", DeprecationWarning, stacklevel=4)
        self.context = replace(self.context, **{now: none() if value is None else value})

    def _check(self) -> None:
        for name, (holds, wanted) in CHECKS.items():
            value: Any = self
            for part in name.split("."):
                value = getattr(value, part)
            if not holds(value):
                raise ValueError(f"AgentLoopConfig.{name} is {value!r}; it must be {wanted}")
        if not isinstance(self.context.fold_strategy, FoldStrategy):
            raise TypeError(f"fold_strategy {self.context.fold_strategy!r} needs fold_id, keep_last_sends, trigger_ratio and fold()")
        if not isinstance(self.context.representation, Representation):
            raise TypeError(f"representation {self.context.representation!r} needs kind, version, project_send() and render()")


def from_environment(name: str) -> int | None:
    """The whole number in this variable; None when it is unset or empty. Raises `ValueError` for anything else."""
    text = os.environ.get(name, "")
    if text and not text.isdecimal():
        raise ValueError(f"the environment variable {name} is {text!r}; it must be a whole number")
    return int(text) if text else None


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


def _projectors(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(callable(getattr(each, "project", None)) for each in cast("list[Any]", value))


def _callables(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(map(callable, cast("list[Any]", value)))


def _no_value(value: Any) -> bool:
    return not isinstance(value, (bool, int, float, bytes))


def _memory(value: Any) -> bool:
    return value is None or (callable(getattr(value, "recall", None)) and callable(getattr(value, "remember", None)))


def _path(value: Any) -> bool:
    return value is None or (isinstance(value, (str, os.PathLike)) and bool(str(cast("Any", value))))


# Setting → (what holds of a sound value, how the error names it); the groups before what is in them.
CHECKS: Mapping[str, tuple[Holds, str]] = {
    "system_prompt": (_of(str, optional=True), "text, or None for the built-in prompt"),
    "model": (_of(str, optional=True), "a model's name, or None for the service's own"),
    "max_rounds": (_whole(1), "a whole number of at least 1"),
    "max_tokens": (_whole(1, optional=True), "a whole number of at least 1, or None to send no cap"),
    "context_tokens": (_whole(1, optional=True), "a whole number of at least 1, or None"),
    "temperature": (_number(optional=True, zero=True), "a number of at least 0, or None to send none"),
    "response_format": (_no_value, "a dict, a type or a StructuredOutputSpec, or None"),
    "output_type": (_no_value, "a type, a JSON Schema or a StructuredOutputSpec, or None"),
    "limits": (_of(UsageLimits, optional=True), "UsageLimits(…), or None"),
    "retry_policy": (_of(LLMRetryPolicy, optional=True), "LLMRetryPolicy(…), or None"),
    "output_validators": (_callables, "callables that take a value and give one, as a tuple; () for none"),
    "memory": (_memory, "an object with async recall() and remember(), or None"),
    "prices": (_prices, "a mapping from model names to Price(…), or None"),
    "context": (_of(ContextPolicy), "ContextPolicy(…)"),
    "recall": (_of(MemoryPolicy), "MemoryPolicy(…)"),
    "recall.budget_tokens": (_whole(1), "a whole number of at least 1"),
    "recall.position": (lambda v: v in ("tail", "front"), "'tail' or 'front'"),
    "recall.notes": (_of(NotesPolicy), "NotesPolicy(…)"),
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
    "tooling.approval_ttl_s": (_number(optional=True), "seconds above 0, or None"),
    "tooling.result_max_chars": (_whole(1), "a whole number of at least 1"),
    "tooling.projectors": (_projectors, "objects with project(), as a tuple; () for none"),
    "tooling.skills_dir": (_path, "the path of a folder, or None"),
    "context.spill": (_of(SpillPolicy), "SpillPolicy(…)"),
    "context.spill.size_limit": (_whole(1), "a whole number of at least 1"),
    "context.spill.hot_tail": (_whole(0), "a whole number of at least 0"),
    "context.fold_timeout_s": (_number(), "seconds above 0"),
    "context.fold_target_ratio": (lambda v: type(v) in (int, float) and 0 < v <= 1, "above 0 and at most 1"),
}
