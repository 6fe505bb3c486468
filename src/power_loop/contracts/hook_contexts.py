"""The context of each point: what a handler there sees, and what it may change.

Loaded late, when the first handler is asked. What a handler looks at is its own copy, made at the first look:
editing it in place reaches neither the store nor a later request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, overload

from power_loop.contracts.copies import copied
from power_loop.contracts.hooks import BaseHookCtx, HookPoint
from power_loop.contracts.messages import Content, Message

T = TypeVar("T")


class Copied(Generic[T]):
    """A field that holds a live value (or a callable that gives it) and shows a deep copy of it."""

    name: str
    shown: str
    source: str

    def __set_name__(self, owner: type, name: str) -> None:
        self.name, self.source, self.shown = name, f"_live_{name}", f"_seen_{name}"

    @overload
    def __get__(self, ctx: None, owner: type) -> Copied[T]: ...
    @overload
    def __get__(self, ctx: BaseHookCtx, owner: type) -> T: ...
    def __get__(self, ctx: BaseHookCtx | None, owner: type) -> T | Copied[T]:
        if ctx is None:
            return self  # @dataclass takes this for the default; __set__ knows it again
        mine = ctx.__dict__
        if self.shown not in mine:
            live = mine[self.source]
            mine[self.shown] = copied(live() if callable(live) else live)
        return mine[self.shown]

    def __set__(self, ctx: BaseHookCtx, value: T | Callable[[], T]) -> None:
        mine = ctx.__dict__
        if self.source not in mine:  # the constructor; every later assignment is a handler's
            mine[self.source] = [] if value is self else value
        else:
            mine[self.shown] = value

    def adopted(self, ctx: BaseHookCtx) -> T | None:
        """What a handler looked at or put in place; None when nobody did either."""
        return ctx.__dict__.get(self.shown)


@dataclass(kw_only=True, eq=False, repr=False)
class MessagesCtx(BaseHookCtx):
    """A point that shows the messages of the run."""

    messages: Copied[list[Message]] = Copied()

    def adopted(self) -> list[Message] | None:
        """The messages as the handlers left them; None when nobody looked."""
        return MESSAGES.adopted(self)


MESSAGES: Copied[list[Message]] = MessagesCtx.__dict__["messages"]


# --- runs and rounds ---------------------------------------------------------------------------


@dataclass(kw_only=True, eq=False, repr=False)
class SessionStartCtx(MessagesCtx):
    """A run begins. Messages put in place are shown to the model in this run."""

    stop_event: Any = None


@dataclass(kw_only=True, eq=False, repr=False)
class SessionEndCtx(MessagesCtx):
    """A run is over; ``reason`` is its status."""

    final_text: str = ""


@dataclass(kw_only=True, eq=False, repr=False)
class RoundStartCtx(MessagesCtx):
    """A round may begin."""

    stop_event: Any = None


@dataclass(kw_only=True, eq=False, repr=False)
class RoundEndCtx(MessagesCtx):
    """A round is over."""

    has_tools: bool = False
    response_text: str = ""
    used_todo: bool = False


@dataclass(kw_only=True, eq=False, repr=False)
class CompleteDecideCtx(MessagesCtx):
    """The model has answered. SKIP with a ``message`` says: not done yet."""

    final_text: str = ""
    vetoes: int = 0
    """How often the end of this send was put off already."""
    message: str | None = None
    """What the model is told when the handler returns SKIP."""


# --- models ------------------------------------------------------------------------------------


@dataclass(kw_only=True, eq=False, repr=False)
class LlmBeforeCtx(MessagesCtx):
    """The model is about to be asked."""

    system_prompt: str | None = None
    tools: Copied[list[dict[str, Any]] | None] = Copied()
    max_tokens: int | None = None
    temperature: float | None = None
    model: str | None = None
    response_format: Any = None
    purpose: str = "round"
    """``round``, ``limit_summary`` or ``output_retry``."""
    output: Any = None
    """With SHORT_CIRCUIT: the `LLMResponse` to take instead."""
    run: int = 0
    """The same for all requests of a run, another for the next run of the session."""
    memory_of: str | None = None
    """Of a sub-agent with ``memory="inherit"``: the session whose memory it is shown."""

    def standing(self) -> list[Message]:
        """The messages as the handlers left them; the live ones, not to be changed, when nobody looked."""
        shown = self.adopted()
        if shown is not None:
            return shown
        live: Callable[[], list[Message]] | list[Message] = self.__dict__[MESSAGES.source]
        return live() if callable(live) else live

    def to_read(self) -> list[Message]:
        """The messages as they stand, copied at the first level only: for handlers that change nothing."""
        return [dict(message) for message in self.standing()]

    def show(self, *, front: Sequence[Message] = (), tail: Sequence[Message] = ()) -> None:
        """Show ``front`` before and ``tail`` behind all messages of this request. Nothing that was said is copied for that."""
        standing = [*front, *self.standing(), *tail]
        self.__dict__[MESSAGES.source if self.adopted() is None else MESSAGES.shown] = standing


@dataclass(kw_only=True, eq=False, repr=False)
class LlmAfterCtx(MessagesCtx):
    """The model has answered; nothing of it is stored yet."""

    output: Any = None
    """The `LLMResponse`, which may be replaced."""


# --- tools -------------------------------------------------------------------------------------


@dataclass(kw_only=True, eq=False, repr=False)
class RoundDecideCtx(MessagesCtx):
    """The model asked for tools."""

    tool_calls: Copied[list[Any]] = Copied()
    assistant_text: str = ""
    output: str | None = None
    """With SKIP or BREAK: what every call is answered with."""


@dataclass(kw_only=True, eq=False, repr=False)
class ToolsBatchBeforeCtx(MessagesCtx):
    """The calls of a round are about to run."""

    tool_calls: Copied[list[Any]] = Copied()
    output: str | None = None
    """With SKIP or BREAK: what every call is answered with."""


@dataclass(kw_only=True, eq=False, repr=False)
class ToolsBatchAfterCtx(MessagesCtx):
    """Every call of the round has its result."""

    used_todo: bool = False


@dataclass(kw_only=True, eq=False, repr=False)
class ToolCallCtx(BaseHookCtx):
    """One call. ``tool_args`` is a copy: its handler gets what the context ends up with."""

    tool_call: Any = None
    """The call as the model asked for it: ``{"id", "type", "function": {"name", "arguments"}}``."""
    tool_name: str = ""
    tool_args: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        self.tool_call, self.tool_args = copied(self.tool_call), copied(dict(self.tool_args))


@dataclass(kw_only=True, eq=False, repr=False)
class ToolBeforeCtx(ToolCallCtx):
    """A call is about to run; ``tool_name`` and ``tool_args`` may be rewritten, and are validated again."""

    output: Content | None = None
    """With SKIP or BREAK: the result that the model sees."""


@dataclass(kw_only=True, eq=False, repr=False)
class ToolAfterCtx(ToolCallCtx):
    """A call has its result, which is not stored yet; ``output`` and ``failed`` may be replaced."""

    output: Content | None = None
    failed: bool = False
    outcome: str = "ok"


@dataclass(kw_only=True, eq=False, repr=False)
class ToolErrorCtx(ToolCallCtx):
    """A handler raised."""

    error: BaseException | None = None
    error_message: str = ""
    output: Content | None = None
    """With SKIP: the result, which then counts as not failed."""


# --- folds, messages, memory, timers -----------------------------------------------------------


@dataclass(kw_only=True, eq=False, repr=False)
class CompactBeforeCtx(MessagesCtx):
    """Older sends are about to be folded."""


@dataclass(kw_only=True, eq=False, repr=False)
class CompactAfterCtx(MessagesCtx):
    """A fold is done."""

    messages_before_count: int = 0
    messages_after_count: int = 0


@dataclass(kw_only=True, eq=False, repr=False)
class MessageAppendCtx(BaseHookCtx):
    """A message is about to be stored; its ``content`` and ``name`` may be replaced."""

    message: Message = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        self.message = copied(self.message)


@dataclass(kw_only=True, eq=False, repr=False)
class MemoryRecalledCtx(BaseHookCtx):
    """What memory brought; the list may be edited."""

    recalled: list[Message] = field(default_factory=list[Message])
    budget_tokens: int = 0

    def __post_init__(self) -> None:
        self.recalled = copied(self.recalled)


@dataclass(kw_only=True, eq=False, repr=False)
class TimerFireCtx(BaseHookCtx):
    """A timer's note has come out of the inbox."""

    timer_id: str = ""
    note: str = ""
    due_at: int = 0
    """Milliseconds, UTC."""
    message: str = ""
    """What the model is told; may be rewritten."""
    postpone_s: float = 0.0
    """Above 0, with CONTINUE: fire again after so long instead."""


CONTEXTS: Mapping[str, type[BaseHookCtx]] = {
    HookPoint.SESSION_START: SessionStartCtx,
    HookPoint.SESSION_END: SessionEndCtx,
    HookPoint.ROUND_START: RoundStartCtx,
    HookPoint.ROUND_END: RoundEndCtx,
    HookPoint.LLM_BEFORE: LlmBeforeCtx,
    HookPoint.LLM_AFTER: LlmAfterCtx,
    HookPoint.ROUND_DECIDE: RoundDecideCtx,
    HookPoint.TOOLS_BATCH_BEFORE: ToolsBatchBeforeCtx,
    HookPoint.TOOLS_BATCH_AFTER: ToolsBatchAfterCtx,
    HookPoint.TOOL_BEFORE: ToolBeforeCtx,
    HookPoint.TOOL_AFTER: ToolAfterCtx,
    HookPoint.TOOL_ERROR: ToolErrorCtx,
    HookPoint.COMPACT_BEFORE: CompactBeforeCtx,
    HookPoint.COMPACT_AFTER: CompactAfterCtx,
    HookPoint.MESSAGE_APPEND: MessageAppendCtx,
    HookPoint.MEMORY_RECALLED: MemoryRecalledCtx,
    HookPoint.TIMER_FIRE: TimerFireCtx,
    HookPoint.COMPLETE_DECIDE: CompleteDecideCtx,
}


def context_for(point: str, **fields: Any) -> BaseHookCtx:
    """The context of the built-in ``point``. ``messages`` is the live list or a callable that gives it.

    Raises `TypeError` for a field that the point does not have, `ValueError` for a point that is not built in.
    """
    chosen = CONTEXTS.get(point)
    if chosen is None:
        raise ValueError(f"{point!r} is no built-in hook point; run your own points with a HookContext")
    return chosen(**fields)
