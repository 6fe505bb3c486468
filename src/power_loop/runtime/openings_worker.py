"""How a run begins that nobody's call begins: what waits is heard, what was cut off or failed goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from power_loop.contracts.records import SendEnded, SendResumed, UserSaid
from power_loop.kernel.hears import hears, says_nothing
from power_loop.runtime.approvals import let_expire
from power_loop.runtime.openings import OVER, Opening, Resume, Say, refuse_archived
from power_loop.runtime.send import Send
from power_loop.runtime.session import Session

# The code of what no further attempt of the same request will mend.
PERMANENT = "llm.permanent"


@dataclass(slots=True)
class LookAfter:
    """A worker: the next word begins a send, or goes on with the one that is open; nothing is said besides.

    Calls that are parked, or that wait for tools which this loop does not have, are left alone.
    """

    recovers: bool = True
    """Go on with a send whose holder died or was cut off, and with one whose question was answered."""
    retries: bool = False
    """Go on with a send that failed, for a reason that may pass."""
    word: UserSaid | None = None
    key: str | None = None
    hears: bool = True

    def begin(self, send: Send) -> bool:
        refuse_archived(send)
        state = send.ahead
        if state.idle:
            return _a_word_waits(send.session) or (self.retries and may_pass(state.status, state.error) and _reopens(send))
        if state.status == "failed":
            return self.retries
        if not self.recovers:
            return self._closes_what_was_cut_off(send)
        if state.status in ("waiting_for_input", "pending_tools"):
            let_expire(send)
            # Answers enter now; words only once all calls have theirs.
            return bool(send.noted) or any(hears(state, item.record) and not says_nothing(item.record) for item in send.session.waiting)
        return True

    def _closes_what_was_cut_off(self, send: Send) -> bool:
        """As `send` does: a word gets past a send that was cut off with no call open."""
        if send.ahead.open_calls or not _a_word_waits(send.session):
            return False
        send.note(SendEnded("interrupted"))
        return True


@dataclass(slots=True)
class HearKey(Say):
    """`send`, when its word waits in the inbox already, under the same key: that is heard instead."""

    def begin(self, send: Send) -> bool:
        return _a_word_waits(send.session) and Say.begin(self, send)


def goes_on(opening: Opening, session: Session) -> bool:
    """The run that ``opening`` begins belongs to the session's last send, and so to what was set for that send alone."""
    match opening:
        case Resume():
            return not (session.state.idle and session.state.status in OVER)
        case LookAfter():
            return not (session.state.idle and _a_word_waits(session))
        case _:
            return False


def _a_word_waits(session: Session) -> bool:
    return any(isinstance(item.record, UserSaid) for item in session.waiting)


def may_pass(status: str, error: Mapping[str, Any] | None) -> bool:
    """A send that ended so may end otherwise at another attempt."""
    return status == "failed" or (status == "degraded" and (error or {}).get("code") != PERMANENT)


def _reopens(send: Send) -> bool:
    send.note(SendResumed())
    return True
