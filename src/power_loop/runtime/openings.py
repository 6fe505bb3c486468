"""How a run begins: what each verb of the door notes before the loop goes on.

All of them take the lease and then do the same; they differ in the first records only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from power_loop.contracts.errors import SessionArchivedError, SessionPendingError
from power_loop.contracts.log import log
from power_loop.contracts.messages import ToolCall
from power_loop.contracts.records import SendEnded, SendResumed, ToolReturned, UnknownPolicy, UserSaid
from power_loop.kernel.decide import rounds_left
from power_loop.kernel.hears import says_nothing
from power_loop.runtime.approvals import let_expire
from power_loop.runtime.mended import mend
from power_loop.runtime.reports import UNKNOWN, in_doubt
from power_loop.runtime.send import Send

# A send that ended so has nothing to go on with.
OVER = ("", "completed", "invalid_output")


class Opening(Protocol):
    """What a verb notes on a send whose lease is about to be taken."""

    word: UserSaid | None
    """Said once the session may hear it."""
    key: str | None
    """What makes the send unique in its session."""
    hears: bool
    """What waits in the inbox may begin a send, or enter the one that is open."""

    def begin(self, send: Send) -> bool:
        """Note the first records; False when there is nothing to do. Raises what the verb refuses."""
        ...


@dataclass(slots=True)
class Say:
    """`send`: a word from outside begins a send."""

    word: UserSaid | None
    heal_pending: bool = False
    key: str | None = None
    hears: bool = True
    healed: int = 0

    def begin(self, send: Send) -> bool:
        refuse_archived(send)
        state = send.ahead
        if state.open_calls and not state.idle:
            if not self.heal_pending:
                raise pending_error(send)
            self.healed = len(state.open_calls)
            log.warning("session %s: %d unresolved calls were aborted before a new send", send.session_id, len(state.open_calls))
            abort(send, "a new send began", "interrupted")
        elif not state.idle:
            send.note(SendEnded("interrupted"))
        if send.terms.settings.repair_history:
            mend(send)
        return True


@dataclass(slots=True)
class Resume:
    """`resume`: go on from what the records say."""

    extra_rounds: int = 0
    unknown: UnknownPolicy = "report"
    overrides: dict[str, Any] | None = None
    broken_only: bool = False
    """Leave alone a send that ended otherwise than by failing."""
    word: UserSaid | None = None
    key: str | None = None
    hears: bool = True

    def begin(self, send: Send) -> bool:
        refuse_archived(send)
        let_expire(send)
        state = send.ahead
        if state.idle and (state.status in OVER or (self.broken_only and state.status != "failed") or self._is_used_up(send)):
            return not self.broken_only and any(isinstance(item.record, UserSaid) for item in send.session.waiting)
        rests = state.open_calls and all(call.id in state.parked for call in state.open_calls)
        # A run that was cut off could not say that it waits; this one does.
        if rests and state.status == "waiting_for_input" and all(says_nothing(item.record) for item in send.session.waiting):
            return False
        if state.idle or self.extra_rounds or self.unknown != "report" or self.overrides:
            send.note(SendResumed(self.extra_rounds, self.unknown, self.overrides))
        return True

    def _is_used_up(self, send: Send) -> bool:
        """No round is left to it, and that was summed up when it ended."""
        state, limits = send.ahead, send.terms.limits
        return state.status == "hit_round_limit" and state.error is None and not rounds_left(state, limits, self.extra_rounds)


@dataclass(slots=True)
class GoOnAnswered(Resume):
    """`submit_input`: as `Resume`, but a send that was cancelled before the answer was heard stays so."""

    def begin(self, send: Send) -> bool:
        refuse_archived(send)
        state = send.ahead
        return not (state.idle and state.status == "cancelled") and Resume.begin(self, send)


@dataclass(slots=True)
class Abort:
    """`abort_pending`: every open call is answered as aborted, and the send ends."""

    reason: str
    word: UserSaid | None = None
    key: str | None = None
    hears: bool = False
    written: int = 0

    def begin(self, send: Send) -> bool:
        self.written = len(send.ahead.open_calls) if not send.ahead.idle else 0
        if not self.written:
            return False
        abort(send, self.reason, "cancelled")
        return True


@dataclass(slots=True)
class Forsake(Abort):
    """The send of a sub-agent that nobody waits for: it ends as aborted, also where it was cut off with no call open."""

    def begin(self, send: Send) -> bool:
        state = send.ahead
        if state.open_calls or state.status:  # one that failed stays failed
            return Abort.begin(self, send)
        send.note(SendEnded("cancelled", self.reason))
        return True


def answered_in_place(opening: Opening) -> int:
    """How many calls it answered in the place of whom they waited for."""
    return opening.written if isinstance(opening, Abort) else opening.healed if isinstance(opening, Say) else 0


def abort(send: Send, reason: str, status: str) -> None:
    """Answer every open call and end the send, with nothing performed outside. What was decided meanwhile is on record."""
    send.hear_decisions()
    for call in send.ahead.open_calls:
        send.note(aborted(send, call, reason))
    send.note(SendEnded(status, reason))


def aborted(send: Send, call: ToolCall, reason: str) -> ToolReturned:
    begun = in_doubt(send, call)
    text = f"<aborted: {reason}>" + (f" {call.name}: {UNKNOWN}" if begun else "")
    return ToolReturned(call.id, text, "unknown" if begun else "aborted", call.name, ran=False)


def refuse_archived(send: Send) -> None:
    if send.session.head.archived:
        raise SessionArchivedError(send.session_id)


def pending_error(send: Send) -> SessionPendingError:
    state = send.ahead
    return SessionPendingError(
        send.session_id,
        assistant_seq=send.session.asked_at,
        pending_tool_calls=[call.to_message() for call in state.open_calls],
        pending_interactions=[dict(asked) for asked in state.asking()],
    )
