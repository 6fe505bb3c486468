"""`decide`: what follows from a state. The order of the rules is the policy: read it from the top."""

from __future__ import annotations

from collections.abc import Callable

from power_loop.contracts.effects import (
    CallModel,
    CheckOutput,
    Effect,
    EndSend,
    FoldContext,
    ReportCancelled,
    ReportDenied,
    ReportUnknown,
    Rest,
    RunTools,
)
from power_loop.contracts.limits import Limits
from power_loop.contracts.messages import ToolCall
from power_loop.contracts.records import UserSaid
from power_loop.contracts.tool import Effects
from power_loop.kernel.state import State

REST, FOLD, CALL_MODEL, COMPLETED = Rest(), FoldContext(), CallModel(), EndSend("completed")
CHECK_OUTPUT = CheckOutput()

EMPTY_REPLY_REMINDER = "Your last reply was empty. Answer the user, or call a tool."


def fits() -> bool:
    """No window is too long."""
    return False


def decide(state: State, limits: Limits, effects_of: Callable[[str], Effects], too_long: Callable[[], bool] = fits) -> Effect:
    """What to do next. ``too_long``: the window that the records make exceeds what may be sent; asked only where it matters."""
    if state.idle:
        return REST
    if state.open_calls:
        return of_calls(state, limits, effects_of)
    if state.stop is not None:
        return EndSend(*state.stop)
    if state.answered and not asks_again(state, limits):
        return COMPLETED if limits.output_retries is None else CHECK_OUTPUT
    if not rounds_left(state, limits):
        return EndSend("hit_round_limit")
    if limits.usage is not None and (spent := over_budget(state, limits)):
        return EndSend("budget_exceeded", spent)
    if state.fold_due and too_long():
        return FOLD
    if state.empties or state.purpose != "round":
        return CallModel(EMPTY_REPLY_REMINDER if state.empties else None, state.purpose)
    return CALL_MODEL


def rounds_left(state: State, limits: Limits, more: int = 0) -> bool:
    """Whether the model may be asked once more. An answer that is asked for again has a round for it: its own limit bounds those."""
    return state.rounds < limits.rounds + state.extra_rounds + more + state.reasks


def of_calls(state: State, limits: Limits, effects_of: Callable[[str], Effects]) -> Effect:
    """What to do next while calls have no result. `Rest` where all wait for someone outside."""
    if lost := interrupted(state, effects_of):
        return ReportUnknown(lost)
    if state.stop is not None:
        return ReportCancelled(state.open_calls)
    if state.decisions and (refused := denied(state)):
        return ReportDenied(refused)
    ready = runnable(state)
    if limits.lacks:
        ready = tuple(call for call in ready if state.as_run(call).name not in limits.lacks)
    return RunTools(ready) if ready and limits.has_tools else REST


def after_check(state: State, limits: Limits, wrong: str | None, reason: str = "") -> EndSend | UserSaid:
    """What follows once an answer was looked at: the end of the send, or what the model is told.

    ``wrong`` is what is wrong with it in words for the model, None for nothing; ``reason`` is that for the caller.
    """
    if wrong is None:
        return COMPLETED
    if state.reasks < (limits.output_retries or 0):
        return UserSaid(wrong, "schema")
    return EndSend("invalid_output", reason)


def interrupted(state: State, effects_of: Callable[[str], Effects]) -> tuple[ToolCall, ...]:
    """Calls that began, have no result, and may not be repeated."""
    if not state.started:
        return ()
    return tuple(c for c in state.open_calls if c.id in state.started and effects_of(state.as_run(c).name) == "once")


def denied(state: State) -> tuple[ToolCall, ...]:
    """Open calls that somebody looked at, and said no."""
    verdicts = {made.call_id: made.approved for made in state.decisions}
    return tuple(c for c in state.open_calls if c.id not in state.parked and not verdicts.get(c.id, True))


def runnable(state: State) -> tuple[ToolCall, ...]:
    """Open calls that wait for nobody."""
    if not state.parked:
        return state.open_calls
    return tuple(c for c in state.open_calls if c.id not in state.parked)


def asks_again(state: State, limits: Limits) -> bool:
    """The reply was empty, and the model is given another chance."""
    return 0 < state.empties <= limits.empty_retries


def over_budget(state: State, limits: Limits) -> str | None:
    """The name of the limit that is used up; None while there is room."""
    if limits.usage is None:
        return None
    used = {
        "total_tokens": state.usage.total,
        "input_tokens": state.usage.prompt,
        "output_tokens": state.usage.completion,
        "requests": state.usage.calls,
        "tool_calls": state.tool_calls,
        "cost": state.usage.cost or 0.0,
    }
    limit = limits.usage.to_dict()
    return next((name for name, spent in used.items() if name in limit and spent >= limit[name]), None)
