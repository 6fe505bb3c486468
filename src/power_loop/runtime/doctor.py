"""The doctor: looks at a session without taking it, says what is the matter, and repairs by adding records.

What follows from what is seen is `kernel.diagnose`'s business. A repair is one batch under the fence: it takes the
lease, adds what cures, and gives the lease back; nothing is deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from power_loop.context.pairing import pairing_problem
from power_loop.context.represent import Representation
from power_loop.contracts.clock import Clock, Ids
from power_loop.contracts.diagnosis import Diagnosis
from power_loop.contracts.errors import SessionArchivedError, SessionBusyError
from power_loop.contracts.limits import NO_LIMITS, Limits
from power_loop.contracts.store import FAR, Conflict, SessionLog
from power_loop.contracts.tool import Effects
from power_loop.kernel.diagnose import Seen, cure, diagnose, is_held
from power_loop.kernel.history import Standing, alone
from power_loop.kernel.outside import REPAIRS
from power_loop.runtime.lifeline import Lifeline
from power_loop.runtime.mended import folded_away
from power_loop.runtime.session import Session

# So many places where a history does not fit together are named.
MENDED_SHOWN = 3


class Examined(SessionLog, Protocol):
    """What the doctor asks of a store, beside the log."""

    @property
    def clock(self) -> Clock: ...

    @property
    def ids(self) -> Ids: ...

    async def overdue_timers(self, session_id: str, now: int) -> int: ...

    async def get_runtime_state(self, session_id: str, key: str, default: Any = None) -> Any: ...

    async def delete_runtime_state(self, session_id: str, key: str) -> None: ...

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
    shown_as: Representation | None = None,
    effects_of: Callable[[str], Effects] | None = None,
    is_dead: Callable[[str], bool] | None = None,
) -> Diagnosis:
    """What is the matter with the session; with ``repair`` what is ``automatic`` is put right first.

    ``shown_as`` is how requests show finished sends (none: word for word), ``effects_of`` says what class a tool is of
    (none: all are ``once``), ``is_dead`` which holders provably died.
    Raises `SessionNotFoundError`, and for a repair `SessionBusyError` while somebody drives it, `SessionArchivedError`.
    """
    dead = is_dead or Lifeline("doctor").is_dead
    while True:
        seen = await examine(store, session_id, limits, context_tokens, shown_as, effects_of or (lambda _: "once"), dead)
        diagnosis = diagnose(seen)
        if repair and seen.repairs:  # somebody has read of it, and agrees
            await store.delete_runtime_state(session_id, REPAIRS)
            continue
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
    shown_as: Representation | None,
    effects_of: Callable[[str], Effects],
    is_dead: Callable[[str], bool],
) -> Seen:
    """Everything that `diagnose` wants to know, read without taking anything."""
    session = await Session.load(store, session_id)
    head, now = session.head, store.clock.now_ms()
    window = session.window
    broken = (pairing_problem(window.messages) or "; ".join(window.mended[:MENDED_SHOWN]) or None) if session.state.idle else None
    shown = window if shown_as is None else (await Session.load(store, session_id, shown_as)).window
    jobs = await store.running_jobs(session_id)
    return Seen(
        head, session.state, session.waiting, now,
        holder_dead=head.holder is not None and is_dead(head.holder),
        overdue=await store.overdue_timers(session_id, now),
        orphans=[job for job, _, holder in jobs if holder is not None and is_dead(holder)],
        limits=limits, effects_of=effects_of, tokens=shown.tokens, context_tokens=context_tokens,
        late=[late for late in await store.late_results(session_id) if late.send_index == head.send_index],
        repairs=await store.get_runtime_state(session_id, REPAIRS, {}), broken=broken, unreadable=folded_away(session) if broken else None,
    )  # fmt: skip
