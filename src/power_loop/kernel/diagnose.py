"""What is the matter with a session, from what was read of it: the findings of the doctor, and the records that cure.

Pure. Reading, and writing the cure under the lease, is the runtime's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from power_loop.contracts.diagnosis import Diagnosis, Finding
from power_loop.contracts.late import LateResult
from power_loop.contracts.limits import NO_LIMITS, Limits
from power_loop.contracts.messages import ToolCall, text_of
from power_loop.contracts.records import Answered, ContextFolded, Decided, Record, SendEnded, ToolReturned
from power_loop.contracts.store import Head, InboxItem
from power_loop.contracts.tool import Effects
from power_loop.kernel.decide import interrupted, over_budget
from power_loop.kernel.state import State

REPAIRED = "repaired by doctor"


class Seen(NamedTuple):
    """All that the doctor looked at; times in ms."""

    head: Head
    state: State
    inbox: Sequence[InboxItem] = ()
    now: int = 0
    holder_dead: bool = False
    """The holder of the lease provably died."""
    overdue: int = 0
    """Armed timers whose time has come."""
    orphans: Sequence[str] = ()
    """Jobs that are said to run, and whose holder provably died."""
    late: Sequence[LateResult] = ()
    """What handlers of the last send gave after nobody waited for them."""
    repairs: Mapping[str, int] = {}
    """What was put right when the session was imported, and how often."""
    limits: Limits = NO_LIMITS
    effects_of: Callable[[str], Effects] = lambda _: "once"
    tokens: int = 0
    """Of the next request, roughly."""
    context_tokens: int | None = None
    """How many it may have."""
    broken: str | None = None
    """Why no provider would take the history."""
    unreadable: ContextFolded | None = None
    """What would stand in for the part of the history that no provider takes."""


def diagnose(seen: Seen) -> Diagnosis:
    """Where the session stands, and every finding, the gravest first."""
    findings = (*_of_the_lease(seen), *_of_the_history(seen), *_of_the_send(seen), *_of_what_waits(seen))
    return Diagnosis(seen.head.session_id, standing(seen), findings)


def standing(seen: Seen) -> str:
    """One word for where the session stands."""
    head, state = seen.head, seen.state
    if head.archived:
        return "archived"
    if is_held(seen):
        return "running"
    if head.poisoned:
        return "poisoned"
    if state.idle:
        return "idle"
    if not state.open_calls:
        return "interrupted"
    return "waiting" if all(call.id in state.parked for call in state.open_calls) else "pending"


def is_held(seen: Seen) -> bool:
    """Somebody who may be alive holds the lease."""
    return seen.head.held_at(seen.now) and not seen.holder_dead


def cure(seen: Seen) -> list[Record]:
    """The records that put right what is ``automatic``: afterwards the session takes sends, or waits for a person."""
    cures: list[Record] = []
    if seen.unreadable is not None and seen.state.idle:
        cures.append(seen.unreadable)
    if seen.state.idle:
        return cures
    lost = {call.id for call in _begun(seen)}
    kept = {call.id for call in seen.state.open_calls if call.id in seen.state.parked and not _expired(seen, call)}
    for call in seen.state.open_calls:
        if call.id in kept:
            continue
        if call.id in lost:
            cures.append(ToolReturned(call.id, f"<aborted: {REPAIRED}> {call.name}: {IN_DOUBT}", "unknown", call.name, ran=False))
        elif call.id in seen.state.parked:
            text = f"<aborted: {REPAIRED}> {call.name}: nobody approved it in time; it was not run."
            cures.append(ToolReturned(call.id, text, "denied", call.name, ran=False))
        else:
            cures.append(ToolReturned(call.id, f"<aborted: {REPAIRED}>", "aborted", call.name, ran=False))
    return cures if kept else [*cures, SendEnded("interrupted", REPAIRED)]


IN_DOUBT = "it was begun and then interrupted. It may or may not have taken effect: check before you repeat it."


# --- the lease ------------------------------------------------------------------------------------


def _of_the_lease(seen: Seen) -> Iterator[Finding]:
    head = seen.head
    if is_held(seen):
        left = (head.lease_until - seen.now) // 1000
        yield Finding("lease_held", f"{head.holder} drives the session, its lease ends in {left} s", fix="wait, or cancel() it")
        return
    if head.holder is not None:
        why = "died" if seen.holder_dead else "let its lease run out"
        text = f"{head.holder} drove the session and {why}; the next send or resume takes over"
        yield Finding("lease_stale", text, fix="nothing: whoever comes next takes over", automatic=True)
    if head.poisoned:
        text = f"taken over {head.takeovers} times without progress; workers leave the session alone, send() and resume() still work"
        yield Finding("poisoned", text, fix="find out what ends the process, then resume() by hand, or repair", automatic=True)


# --- the history ----------------------------------------------------------------------------------


def _of_the_history(seen: Seen) -> Iterator[Finding]:
    if seen.broken is not None:
        text = f"the history holds messages that no provider takes, and requests show them otherwise: {seen.broken}"
        yield Finding("invalid_import", text, fix="fold them away", automatic=seen.unreadable is not None)
    if seen.repairs:
        told = "; ".join(f"{what} ({times})" for what, times in sorted(seen.repairs.items()))
        fix = "look whether that is what was meant"
        yield Finding("invalid_import", f"what was imported did not fit together and was put right: {told}", fix=fix, automatic=True)
    if seen.context_tokens is not None and seen.tokens > seen.context_tokens:
        text = f"the next request has about {seen.tokens} tokens, and {seen.context_tokens} are allowed"
        yield Finding("context_too_long", text, fix="send with a fold strategy, raise context_tokens, or fork at an earlier send")


# --- the send -------------------------------------------------------------------------------------


def _of_the_send(seen: Seen) -> Iterator[Finding]:
    state = seen.state
    spent = over_budget(state, seen.limits)
    if spent is not None and (not state.idle or state.status == "budget_exceeded"):
        yield Finding("over_budget", f"the last send used up its {spent}; resume() ends at once", fix="resume(limits=...) with more room")
    yield from _of_what_came_late(seen)
    if is_held(seen):
        return
    if state.idle:
        yield from _of_a_bad_end(state)
        return
    lost = _begun(seen)
    for call in state.open_calls:
        yield _of_a_call(seen, call, call in lost)
    if not state.open_calls:
        text = (
            "the last send was cut off; resume() asks the model again"
            if not state.answered
            else "the last send was cut off behind its answer"
        )
        yield Finding("interrupted_send", text, fix="resume(), or send() something new", automatic=True)


def _of_a_bad_end(state: State) -> Iterator[Finding]:
    """Nobody has gone on with it yet, or a worker gave it up."""
    if state.status in ("failed", "degraded"):
        error = state.error
        why = f"{error.get('type')}: {error.get('message')}" if error else state.reason or "no reason is known"
        text = f"the last send ended {state.status} ({why:.300}); resume() goes on with it"
        yield Finding("interrupted_send", text, fix="resume(), or send() something new")


def _of_what_came_late(seen: Seen) -> Iterator[Finding]:
    for late in seen.late:
        told = f"{late.name or late.call_id} came to an end after nobody waited for it ({late.outcome}): {text_of(late.output):.200}"
        if late.answered == "unknown":
            fix = "tell the model, with send() or follow_up()"
            yield Finding("unknown_call", f"{told}; the model was told that its outcome is unknown", late.call_id, fix)
        elif late.answered is None:
            yield Finding("unknown_call", told, late.call_id, "resume() takes that as its result")


def _of_a_call(seen: Seen, call: ToolCall, begun: bool) -> Finding:
    shown = f"{call.name}({call.arguments:.200})"
    if begun:
        text = f"{shown} began and was cut off; resume() does not run it again, but tells the model that its outcome is unknown"
        return Finding("unknown_call", text, call.id, "look whether it took effect; resume(unknown='rerun') runs it again", True)
    if call.id not in seen.state.parked:
        return Finding("open_call", f"{shown} has no result; resume() runs it", call.id, "resume(), or abort_pending()", True)
    if _is_decided(seen, call):
        return Finding("open_call", f"{shown} was decided on; resume() hears it and goes on", call.id, "resume()")
    question = _question(seen.state, call)
    if _expired(seen, call):
        fix = "resume() tells the model that it was not run"
        return Finding("expired_approval", f"{shown} waited for an approval that came too late", call.id, fix, True)
    text = f"{shown} waits for someone outside: {question.get('prompt', '')!s:.200}; resume() does not run it"
    verb, more = ("approve", "digest=...") if "digest" in question else ("submit_input", "...")
    return Finding("parked_call", text, call.id, f"{verb}(session, {question.get('interaction_id')!r}, {more}), or abort_pending()")


def _begun(seen: Seen) -> tuple[ToolCall, ...]:
    return interrupted(seen.state, seen.effects_of)


def _expired(seen: Seen, call: ToolCall) -> bool:
    expires_at = _question(seen.state, call).get("expires_at")
    return isinstance(expires_at, int) and expires_at <= seen.now and not _is_decided(seen, call)


def _is_decided(seen: Seen, call: ToolCall) -> bool:
    """A decision about it, or an answer that it goes on with, waits to be heard."""
    return any(isinstance(item.record, (Decided, Answered)) and item.record.call_id == call.id for item in seen.inbox)


def _question(state: State, call: ToolCall) -> Mapping[str, object]:
    return state.question(call.id) or {}


# --- what waits -----------------------------------------------------------------------------------


def _of_what_waits(seen: Seen) -> Iterator[Finding]:
    if seen.inbox and not is_held(seen):
        text = f"waiting to be heard: {len(seen.inbox)}; the next send or resume hears what waits"
        yield Finding("inbox_waiting", text, fix="resume(), or run a worker")
    if seen.overdue:
        yield Finding("timer_overdue", f"timers that are due and have not fired: {seen.overdue}", fix="run a worker, or call fire_due()")
    for job in seen.orphans:
        yield Finding("orphan_worker", f"the job {job} is said to run, and its process is gone", fix=f"stop_job(session, {job!r})")
