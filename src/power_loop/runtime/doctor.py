"""The doctor: looks at a session without taking it, says what is the matter, and repairs by adding records.

What follows from what is seen is `kernel.diagnose`'s business. A repair is one batch under the fence: it takes the
lease, adds what cures, and gives the lease back; nothing is deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from power_loop.context.pairing import pairing_problem
from power_loop.context.summary import as_text
from power_loop.context.window import Window
from power_loop.contracts.clock import Clock, Ids
from power_loop.contracts.diagnosis import Diagnosis
from power_loop.contracts.errors import SessionArchivedError, SessionBusyError
from power_loop.contracts.limits import NO_LIMITS, Limits
from power_loop.contracts.records import ContextFolded
from power_loop.contracts.store import FAR, Conflict, SessionLog
from power_loop.contracts.tool import Effects
from power_loop.kernel.diagnose import Seen, cure, diagnose, is_held
from power_loop.kernel.history import Standing, alone
from power_loop.runtime.lifeline import Lifeline
from power_loop.runtime.session import Session

# What stands in for messages that no provider takes: their text, as far as a summary may go.
UNREADABLE_CHARS = 20_000


class Examined(SessionLog, Protocol):
    """What the doctor asks of a store, beside the log."""

    @property
    def clock(self) -> Clock: ...

    @property
    def ids(self) -> Ids: ...

    async def overdue_timers(self, session_id: str, now: int) -> int: ...

    async def running_jobs(self, session_id: str) -> Sequence[tuple[str, str, str | None]]:
        """(id, kind, holder) of what is said to run beside the session."""
        ...


async def doctor(
    store: Examined,
    session_id: str,
    *,
    repair: bool = False,
    limits: Limits = NO_LIMITS,
    context_tokens: int | None = None,
    effects_of: Callable[[str], Effects] | None = None,
    is_dead: Callable[[str], bool] | None = None,
) -> Diagnosis:
    """What is the matter with the session; with ``repair`` what is ``automatic`` is put right first.

    ``effects_of`` says what class a tool is of (none: all are ``once``), ``is_dead`` which holders provably died.
    Raises `SessionNotFoundError`, and for a repair `SessionBusyError` while somebody drives it, `SessionArchivedError`.
    """
    dead = is_dead or Lifeline("doctor").is_dead
    while True:
        seen = await examine(store, session_id, limits, context_tokens, effects_of or (lambda _: "once"), dead)
        diagnosis = diagnose(seen)
        if not repair or not any(finding.automatic for finding in diagnosis.findings):
            return diagnosis
        if seen.head.archived:
            raise SessionArchivedError(session_id)
        if is_held(seen):
            raise SessionBusyError(session_id, holder=seen.head.holder, expires_at=seen.head.lease_until)
        try:
            # A lease that ended must not live again by a late renewal; a dead holder renews nothing.
            bound = FAR if seen.holder_dead or seen.head.holder is None else seen.now + 1
            standing = Standing(seen.head, seen.state)
            await store.append(alone(standing, cure(seen), now=seen.now, take_id=store.ids.bits(62), bound=bound))
        except Conflict:
            continue


async def examine(
    store: Examined,
    session_id: str,
    limits: Limits,
    context_tokens: int | None,
    effects_of: Callable[[str], Effects],
    is_dead: Callable[[str], bool],
) -> Seen:
    """Everything that `diagnose` wants to know, read without taking anything."""
    session = await Session.load(store, session_id)
    head, now = session.head, store.clock.now_ms()
    broken = pairing_problem(session.window.messages) if session.state.idle else None
    jobs = await store.running_jobs(session_id)
    return Seen(
        head, session.state, session.waiting, now,
        holder_dead=head.holder is not None and is_dead(head.holder),
        overdue=await store.overdue_timers(session_id, now),
        orphans=[job for job, _, holder in jobs if holder is not None and is_dead(holder)],
        limits=limits, effects_of=effects_of, tokens=session.window.tokens, context_tokens=context_tokens,
        broken=broken, unreadable=folded_away(session) if broken else None,
    )  # fmt: skip


def folded_away(session: Session) -> ContextFolded:
    """All that is shown now as one text, in place of messages that no provider takes."""
    window: Window = session.window
    return ContextFolded(session.head.head, as_text(window.messages, UNREADABLE_CHARS), session.head.send_index, window.tokens)
