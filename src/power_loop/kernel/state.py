"""`apply`: what a record changes.

A fresh process that replays the records of the last send stands where the dead one stood, so recovery has no
code of its own. Earlier sends leave no trace here: the first word of a send begins a new state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from power_loop.contracts.made import made
from power_loop.contracts.messages import ToolCall
from power_loop.contracts.records import (
    Answered,
    CallCharged,
    ContextFolded,
    Decided,
    FoldSkipped,
    ModelReplied,
    Record,
    RoundSkipped,
    SendEnded,
    SendProjected,
    SendRested,
    SendResumed,
    StepChanged,
    StopRequested,
    ToolParked,
    ToolReturned,
    ToolStarted,
    UnknownPolicy,
    UserSaid,
)
from power_loop.contracts.usage import NO_USAGE, CallUsage

NONE: frozenset[str] = frozenset()

# A hook that stops a send here leaves it without an answer: what was said before was none.
SILENCING = ("session.start", "round.start")


class Stop(NamedTuple):
    """Why a send shall end before the model says that it is done."""

    status: str
    reason: str = ""


class State(NamedTuple):
    """Where the last send of a session stands. Derived from its records alone, never stored."""

    idle: bool = True
    """No send is under way."""
    status: str = ""
    """How the send ended, or rests; empty while it runs."""
    stop: Stop | None = None
    reason: str = ""
    error: Mapping[str, Any] | None = None
    counted: bool = False
    """The send is in the session's ``sends`` counter already."""
    extra_rounds: int = 0
    tool_calls: int = 0
    vetoes: int = 0
    unknown: UnknownPolicy = "report"
    overrides: Mapping[str, Any] | None = None
    retried: tuple[str, ...] = ()
    """Per `ModelRetry` of this send: the name of its tool."""
    reasks: int = 0
    """How often this send was told that its answer is not what was asked for."""
    answered: bool = False
    """The last reply asked for no tool, and nothing was said since."""
    rounds: int = 0
    usage: CallUsage = NO_USAGE
    """Of this send: every model call, folds and failed ones included."""
    asked: tuple[ToolCall, ...] = ()
    """All calls of the round, in the model's order."""
    open_calls: tuple[ToolCall, ...] = ()
    """Of these, the ones without a result."""
    rewritten: tuple[ToolCall, ...] = ()
    """Of these, the ones that a hook changed, as it made them."""
    started: frozenset[str] = NONE
    """Of these, the ones whose run began."""
    parked: frozenset[str] = NONE
    """Of these, the ones that wait for someone outside."""
    questions: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    """What was asked of someone outside in this round: (call id, interaction)."""
    answers: tuple[tuple[str, str, Any], ...] = ()
    """What was answered for the calls of this round that go on with it: (call id, interaction id, answer)."""
    decisions: tuple[Decided, ...] = ()
    """What was decided about calls of this round that waited for an approval, in order."""
    fold_due: bool = True
    """There is material that no attempt to fold has seen."""
    empties: int = 0
    """Replies in a row with neither text nor calls."""
    text: str = ""
    """The text of the last reply."""
    finish_reason: str | None = None
    purpose: str = "round"
    """Of the next model call."""

    def call(self, call_id: str) -> ToolCall | None:
        """The open call of this id."""
        return next((call for call in self.open_calls if call.id == call_id), None)

    def as_run(self, call: ToolCall) -> ToolCall:
        """``call`` as a hook made it, if one did: under this name and with these arguments it runs."""
        return next((changed for changed in self.rewritten if changed.id == call.id), call)

    def question(self, call_id: str) -> Mapping[str, Any] | None:
        """What was last asked about this call."""
        return next((asked for of, asked in reversed(self.questions) if of == call_id), None)

    def asking(self) -> list[Mapping[str, Any]]:
        """What the parked calls wait with, in the order of the calls."""
        last = dict(self.questions)
        return [last[call.id] for call in self.open_calls if call.id in self.parked and call.id in last]


IDLE, BEGUN = State(), State(idle=False)

# Its fields stand in parts: how the send stands, the send, the round. What changes one of them takes the others over as they are.
AT_STOP, AT_SEND, AT_ROUND = map(State._fields.index, ("stop", "extra_rounds", "answered"))
UNDER_WAY = BEGUN[:AT_STOP]


def apply(state: State, record: Record) -> State:
    """The state after ``record``."""
    return CHANGES[type(record)](state, record)


def _said(state: State, record: UserSaid) -> State:
    if state.idle:
        return BEGUN if record.overrides is None else BEGUN._replace(overrides=record.overrides)
    vetoes, again = state.vetoes + (record.name == "hook"), record.name == "schema"
    overrides = record.overrides or state.overrides
    return state._replace(
        answered=False, empties=0, vetoes=vetoes, fold_due=True, overrides=overrides, status="",
        reasks=state.reasks + again, purpose="output_retry" if again else "round",
    )  # fmt: skip


def _replied(state: State, record: ModelReplied) -> State:
    text, calls, purpose, used, finish_reason, *_ = record
    usage = state.usage.plus(used)
    if purpose == "degraded":
        return state._replace(usage=usage, text=text, stop=Stop("degraded"))
    if purpose == "limit_summary":
        return state._replace(usage=usage, text=text, finish_reason=finish_reason, stop=Stop("hit_round_limit"))
    empties = 0 if calls or text.strip() else state.empties + 1
    waits = calls if len(calls) < 2 else _one_of_each(calls)
    # Every send comes through here and through its end: ``_replace`` takes several times as long.
    of_the_round = (
        not calls, state.rounds + 1, usage, calls, waits, (), NONE, NONE, (), (), (), True, empties, text, finish_reason, "round",
    )  # fmt: skip
    return made(State, UNDER_WAY + state[AT_STOP:AT_ROUND] + of_the_round)


def _ended(state: State, record: SendEnded) -> State:
    status, reason, error = record
    ended = (True, status, None, reason, error, state.counted or finishes(status))
    return made(State, ended + state[AT_SEND:])


def _stop_asked(state: State, record: StopRequested) -> State:
    # The first one stands; but a summary of what was done is no wish of anybody's.
    if state.stop is not None and (state.stop.status != "hit_round_limit" or record.status != "cancelled"):
        return state
    text = "" if record.by in SILENCING else state.text
    return state._replace(stop=Stop(record.status, record.reason), text=text)


def _rested(state: State, record: SendRested) -> State:
    return state._replace(status=record.status, error=record.error)


def _skipped(state: State, _: RoundSkipped) -> State:
    return state._replace(rounds=state.rounds + 1)


def _charged(state: State, record: CallCharged) -> State:
    return state._replace(usage=state.usage.plus(record.usage))


def _folded(state: State, _: ContextFolded | FoldSkipped) -> State:
    return state._replace(fold_due=False)


def _projected(state: State, _: SendProjected) -> State:
    return state


def _called(state: State, record: ToolReturned | ToolStarted | ToolParked | Decided | Answered) -> State:
    call = frozenset((record.call_id,))
    match record:
        case ToolStarted(call_id, name, arguments):
            new = (ToolCall(call_id, name, arguments or "{}"),) if name is not None else ()
            return state._replace(started=state.started | call, rewritten=state.rewritten + new)
        case ToolParked(call_id, interaction):
            questions, rewritten = (*state.questions, (call_id, interaction)), state.rewritten
            if "rewritten" in interaction:  # a hook changed the call before somebody was asked about it
                rewritten = (*rewritten, ToolCall(call_id, interaction.get("tool_name", ""), interaction["rewritten"]))
            return state._replace(started=state.started - call, parked=state.parked | call, questions=questions, rewritten=rewritten)
        case Decided():
            return state._replace(parked=state.parked - call, decisions=(*state.decisions, record), status="")
        case Answered(interaction_id, call_id, answer):
            return state._replace(parked=state.parked - call, answers=(*state.answers, (call_id, interaction_id, answer)), status="")
        case ToolReturned():
            left = _without(state.open_calls, record.call_id)
            tool_calls = state.tool_calls + record.ran
            started, parked = state.started - call, state.parked - call
            retried = (*state.retried, record.name or "") if record.retry else state.retried
            return state._replace(open_calls=left, started=started, parked=parked, tool_calls=tool_calls, retried=retried, status="")


def _one_of_each(calls: tuple[ToolCall, ...]) -> tuple[ToolCall, ...]:
    """Of calls that share an id only the first can be answered."""
    first: dict[str, ToolCall] = {}
    for call in calls:
        first.setdefault(call.id, call)
    return calls if len(first) == len(calls) else tuple(first.values())


def _without(calls: tuple[ToolCall, ...], call_id: str) -> tuple[ToolCall, ...]:
    """Results come nearly in order, so the call stands near the front; the rest is copied as a block, not looked at."""
    at = next((at for at, call in enumerate(calls) if call.id == call_id), None)
    return calls if at is None else calls[:at] + calls[at + 1 :]


def _step_changed(state: State, record: StepChanged) -> State:
    """A step that waits for somebody is an open call that is parked; whatever else becomes of it closes the call."""
    step, change = record.step, record.change
    waits, known = change.get("state") == "waiting", state.call(step) is not None if state.open_calls else False
    if not waits and not known:
        return state._replace(status="") if state.status else state
    calls = _without(state.open_calls, step) if known else state.open_calls
    if not waits:
        return state._replace(open_calls=calls, parked=state.parked - {step}, status="")
    asked: Mapping[str, Any] = change.get("interaction") or {}
    calls = (*calls, ToolCall(step, asked.get("tool_name", "step"), "{}"))
    others = tuple(each for each in state.questions if each[0] != step) if known else state.questions
    return state._replace(open_calls=calls, parked=state.parked | {step}, questions=(*others, (step, asked)), status="")


def _resumed(state: State, record: SendResumed) -> State:
    """The send is open again: its counts stand, what ended it does not; begun calls run again when the caller says so."""
    return state._replace(
        idle=False, stop=None, status="", reason="", error=None, empties=0, fold_due=True,
        extra_rounds=state.extra_rounds + record.extra_rounds,
        unknown=record.unknown, started=NONE if record.unknown == "rerun" else state.started,
        overrides={**(state.overrides or {}), **record.overrides} if record.overrides else state.overrides,
    )  # fmt: skip


CHANGES: Mapping[type[Record], Callable[[State, Any], State]] = {
    UserSaid: _said,
    ModelReplied: _replied,
    SendEnded: _ended,
    ToolReturned: _called,
    ToolStarted: _called,
    ToolParked: _called,
    Decided: _called,
    Answered: _called,
    SendResumed: _resumed,
    SendRested: _rested,
    StopRequested: _stop_asked,
    RoundSkipped: _skipped,
    CallCharged: _charged,
    ContextFolded: _folded,
    FoldSkipped: _folded,
    SendProjected: _projected,
    StepChanged: _step_changed,
}


def round_of(before: State, record: Record) -> int:
    """The round that ``record`` belongs to: a reply opens one, what answers its calls stays in it. Each send counts from 0."""
    kind = type(record)
    if kind is UserSaid and before.idle:
        return 0
    if kind is ToolReturned or kind is ToolStarted or before.open_calls:
        return max(0, before.rounds - 1)
    return before.rounds


def finishes(status: str) -> bool:
    """A send with this status counts as finished in the session's statistics."""
    return status not in ("failed", "cancelled", "interrupted")


def replay(records: Iterable[Record], state: State = IDLE) -> State:
    """The state that ``records`` amount to."""
    for record in records:
        state = apply(state, record)
    return state
