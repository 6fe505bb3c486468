"""Where a host may step in: the points, the directives, and what each point honours.

The context that a handler gets at each point stands in `hook_contexts`, which is loaded when the first handler
is asked: a loop without handlers needs none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Protocol, TypeVar


class HookPoint(StrEnum):
    """Every built-in point; each equals its plain string."""

    SESSION_START = "session.start"
    SESSION_END = "session.end"
    ROUND_START = "round.start"
    ROUND_END = "round.end"
    LLM_BEFORE = "llm.before"
    LLM_AFTER = "llm.after"
    ROUND_DECIDE = "round.decide"
    TOOLS_BATCH_BEFORE = "tools.batch.before"
    TOOLS_BATCH_AFTER = "tools.batch.after"
    TOOL_BEFORE = "tool.before"
    TOOL_AFTER = "tool.after"
    TOOL_ERROR = "tool.error"
    COMPACT_BEFORE = "compact.before"
    COMPACT_AFTER = "compact.after"
    MESSAGE_APPEND = "message.append"
    MEMORY_RECALLED = "memory.recalled"
    TIMER_FIRE = "timer.fire"
    COMPLETE_DECIDE = "complete.decide"


class HookDirective(StrEnum):
    """What a handler asks for. The strictest that the point honours wins."""

    CONTINUE = "continue"
    SHORT_CIRCUIT = "short_circuit"
    """Take the handler's answer instead of asking outside; at ``tool.error``: try once more."""
    SKIP = "skip"
    """Leave out what was about to happen."""
    BREAK = "break"
    """Leave it out and end the run."""
    CANCEL = "cancel"
    """BREAK, and the run's status is ``cancelled``."""

    @property
    def strictness(self) -> int:
        """The stricter wins; of equals, the first."""
        return STRICTNESS[self]


STRICTNESS: Mapping[HookDirective, int] = MappingProxyType(
    {
        HookDirective.CONTINUE: 0,
        HookDirective.SHORT_CIRCUIT: 1,
        HookDirective.SKIP: 2,
        HookDirective.BREAK: 3,
        HookDirective.CANCEL: 3,
    }
)

_NONE: frozenset[HookDirective] = frozenset()
_SKIP = frozenset({HookDirective.SKIP})
_BREAK = frozenset({HookDirective.BREAK, HookDirective.CANCEL})

# Besides CONTINUE, which every point honours. At any other string all directives count: its host gives them their meaning.
HONOURED: Mapping[str, frozenset[HookDirective]] = MappingProxyType(
    {
        HookPoint.SESSION_START: _BREAK,
        HookPoint.SESSION_END: _NONE,
        HookPoint.ROUND_START: _SKIP | _BREAK,
        HookPoint.ROUND_END: _NONE,
        HookPoint.LLM_BEFORE: _BREAK | {HookDirective.SHORT_CIRCUIT},
        HookPoint.LLM_AFTER: _BREAK,
        HookPoint.ROUND_DECIDE: _SKIP | _BREAK,
        HookPoint.TOOLS_BATCH_BEFORE: _SKIP | _BREAK,
        HookPoint.TOOLS_BATCH_AFTER: _NONE,
        HookPoint.TOOL_BEFORE: _SKIP | _BREAK,
        HookPoint.TOOL_AFTER: _BREAK,
        HookPoint.TOOL_ERROR: _SKIP | {HookDirective.SHORT_CIRCUIT},
        HookPoint.COMPACT_BEFORE: _SKIP,
        HookPoint.COMPACT_AFTER: _NONE,
        HookPoint.MESSAGE_APPEND: _SKIP,
        HookPoint.MEMORY_RECALLED: _SKIP,
        HookPoint.TIMER_FIRE: _SKIP | _BREAK,
        HookPoint.COMPLETE_DECIDE: _SKIP,
    }
)

# Here ``ctx.output`` is the thing itself, which one handler after the other may replace; elsewhere it belongs to a directive.
OUTPUT_IS_PASSED_ON = frozenset({HookPoint.LLM_AFTER, HookPoint.TOOL_AFTER})


def honours(point: str, directive: HookDirective) -> bool:
    """Has ``directive`` an effect at ``point``?"""
    return directive == HookDirective.CONTINUE or point not in HONOURED or directive in HONOURED[point]


@dataclass(kw_only=True, eq=False, repr=False)
class BaseHookCtx:
    """What a handler is told at every point, and where it may leave what it asks for."""

    round_index: int | None = None
    directive: HookDirective = HookDirective.CONTINUE
    """What stands so far; assigning a stricter one has the effect of returning it."""
    session_id: str | None = None
    send_index: int = 0
    depth: int = 0
    """0 for the session itself, 1 for its sub-agents, and so on."""
    scope: str = "main"
    """``main``, ``subagent`` or ``workflow``."""
    reason: str = ""
    """Why; goes with the directive of the handler that sets it."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        self.__dict__.setdefault("_assigned", set()).add(name)

    def take_assigned(self) -> set[str]:
        """The names of the fields that were assigned since this was last asked."""
        return self.__dict__.pop("_assigned", None) or set()

    def __repr__(self) -> str:
        """Without what a look would copy."""
        told = {name: value for name, value in self.__dict__.items() if not name.startswith("_")}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in told.items())})"


@dataclass(eq=False, repr=False)
class HookContext(BaseHookCtx):
    """The context of a host's own points: whatever it puts into ``values``."""

    values: dict[str, Any] = field(default_factory=dict[str, Any])
    output: Any = None


@dataclass
class HookResult:
    """A directive with what belongs to it; what `run` and `run_async` give back, with the context's ``values``."""

    directive: HookDirective = HookDirective.CONTINUE
    output: Any = None
    reason: str = ""
    values: dict[str, Any] = field(default_factory=dict[str, Any])


HookReturn = HookDirective | HookResult | None
HookHandler = Callable[[Any], HookReturn | Awaitable[HookReturn]]
"""Takes the context of its point; sync or async."""

Context = TypeVar("Context", bound=BaseHookCtx)


class HookManagerProtocol(Protocol):
    """Who keeps the handlers and asks them."""

    def register(self, point: str, handler: HookHandler, *, order: int = 0, name: str | None = None, replace: bool = False) -> None: ...

    def stands(self, *points: str) -> bool: ...

    def run_typed(self, point: str, ctx: Context) -> Context: ...

    async def run_typed_async(self, point: str, ctx: Context) -> Context: ...
