"""Shims for programs written against the 3.x line. New code needs none of them.

`AgentRunner` is a `StatefulAgentLoop` with a new session per run; `phase` wraps a host's own step in hooks and
events, for which `AgentHooks.run_async` and `AgentEventBus.publish` serve as well. Each warns when it is used.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, fields
from functools import wraps
from typing import Any, ParamSpec, Self

from power_loop.contracts.events import AgentEvent, BaseEventPayload
from power_loop.contracts.hooks import HookContext, HookDirective, HookResult
from power_loop.contracts.outcome import AgentLoopResult
from power_loop.loop import StatefulAgentLoop
from power_loop.runtime.bus import AgentEventBus
from power_loop.runtime.hooks import AgentHooks

__all__ = ("AgentRunner", "PhaseContext", "PhaseEventPayload", "PhaseResult", "phase")

Parameters = ParamSpec("Parameters")


def _warn(name: str, instead: str) -> None:
    # Level 3 is the line that calls a function; a dataclass has its generated __init__ in between.
    warnings.warn(f"{name} is kept for 3.x programs only; use {instead}", DeprecationWarning, stacklevel=4 if name == "PhaseContext" else 3)


class AgentRunner:
    """Runs one prompt after the other, each in a session of its own. Takes the parameters of `StatefulAgentLoop`."""

    def __init__(self, **loop_parameters: Any) -> None:
        _warn("AgentRunner", "StatefulAgentLoop and its run()")
        self.loop: StatefulAgentLoop = StatefulAgentLoop(**loop_parameters)

    async def run(self, user_input: Any, **send_parameters: Any) -> AgentLoopResult:
        """Send ``user_input`` in a new session; the outcome, with the session's messages."""
        result = await self.loop.run(user_input, **send_parameters)
        shared = {each.name for each in fields(AgentLoopResult)} & {each.name for each in fields(result)}
        messages = await self.loop.get_messages(result.session_id)
        return AgentLoopResult(messages=messages, **{name: getattr(result, name) for name in shared})

    async def aclose(self) -> None:
        await self.loop.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()


# --- a host's own step ------------------------------------------------------------------------


@dataclass
class PhaseContext:
    """What a step runs under: whom to ask, whom to tell, and the values that handlers may change."""

    name: str = ""
    hooks: AgentHooks | None = None
    event_bus: AgentEventBus | None = None
    session_id: str | None = None
    round_index: int | None = None
    values: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        _warn("PhaseContext", "HookContext and AgentEvent")

    async def ask(self, point: str | None, output: Any = None, **more: Any) -> HookResult:
        """What the handlers at ``point`` say; they see and may change ``values``."""
        asked = HookContext({**self.values, **more}, output, session_id=self.session_id, round_index=self.round_index)
        if point is None or self.hooks is None:
            return HookResult(output=output, values=asked.values)
        result = await self.hooks.run_async(point, asked)
        self.values = {name: value for name, value in result.values.items() if name not in more}
        return result

    def tell(self, event_type: str | None, status: str, error: BaseException | None = None) -> None:
        if event_type is not None and self.event_bus is not None and self.event_bus.wants(event_type):
            data = PhaseEventPayload(self.name, status, None if error is None else type(error).__name__)
            self.event_bus.publish(AgentEvent(event_type, data=data, session_id=self.session_id, round_index=self.round_index))


@dataclass
class PhaseResult:
    """What came of a step, or of the handlers that stood in its way."""

    output: Any = None
    directive: HookDirective = HookDirective.CONTINUE
    reason: str = ""


@dataclass
class PhaseEventPayload(BaseEventPayload):
    """What the events of a step say."""

    phase: str = ""
    status: str = ""
    """``started``, ``completed`` or ``failed``."""
    error_type: str | None = None


def phase(
    *,
    before: str | None = None,
    after: str | None = None,
    error: str | None = None,
    start_event: str | None = None,
    end_event: str | None = None,
) -> Callable[[Callable[Parameters, Any]], Callable[Parameters, Awaitable[PhaseResult]]]:
    """Wrap a step in hooks and events. One of its arguments is the `PhaseContext`; it becomes awaitable.

    Any directive at ``before`` keeps the step from running; at ``after`` the output may be replaced; SKIP at ``error``
    puts the handler's output in place of the exception.
    """
    _warn("phase", "AgentHooks.run_async and AgentEventBus.publish")

    def wrap(step: Callable[Parameters, Any]) -> Callable[Parameters, Awaitable[PhaseResult]]:
        @wraps(step)
        async def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> PhaseResult:
            ctx = _context_in((*args, *kwargs.values()))
            ctx.name = ctx.name or step.__name__
            asked = await ctx.ask(before)
            if asked.directive != HookDirective.CONTINUE:
                return PhaseResult(asked.output, asked.directive, asked.reason)
            ctx.tell(start_event, "started")
            try:
                output = step(*args, **kwargs)
                output = await output if inspect.isawaitable(output) else output
            except Exception as failure:  # the host's own step
                return await _after_failure(ctx, failure, error, end_event)
            said = await ctx.ask(after, output)
            ctx.tell(end_event, "completed")
            return PhaseResult(said.output, said.directive, said.reason)

        return wrapped

    return wrap


async def _after_failure(ctx: PhaseContext, failure: Exception, error: str | None, end_event: str | None) -> PhaseResult:
    asked = await ctx.ask(error, error=failure)
    ctx.tell(end_event, "failed", failure)
    if asked.directive != HookDirective.SKIP:
        raise failure
    return PhaseResult(asked.output, asked.directive, asked.reason)


def _context_in(arguments: tuple[Any, ...]) -> PhaseContext:
    for argument in arguments:
        if isinstance(argument, PhaseContext):
            return argument
    raise TypeError("a phase is called with a PhaseContext among its arguments")
