"""Finding work among many sessions: a worker claims what is due, and no other worker looks at it meanwhile.

A claim keeps workers apart; it is no right to write, that is the lease. So one that ends early costs a look, never
data. ``runnable_at`` says when somebody should look: posts set it, and who looked and found nothing clears it, under
a guard on all that it saw. Whether there is something to do is decided by whoever drives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from power_loop.contracts.rows import RUN_PREFIX
from power_loop.contracts.store import MAX_TAKEOVERS, Row, Statement
from power_loop.store.inbox import SWEPT_AFTER_MS
from power_loop.store.part import Part

# Long enough to take the lease, which keeps others away from then on; a worker that died with a claim costs no more than this.
CLAIM_MS = 10_000

DUE = "status = 0 AND runnable_at <= {begun} AND claimed_until <= {t} AND takeovers < ?"
# What is claimed stands at the end of those that are due, so that nobody has to look past it for the next one.
CLAIM = "UPDATE {p}sessions SET claim = ?, claimed_until = {t}, runnable_at = {t} WHERE "

STANDING = """SELECT s.session_id, s.head, s.epoch, s.wake_no, s.holder, s.send_index, s.attempts,
 (SELECT r.kind FROM {p}records r WHERE r.session_id = s.session_id AND r.seq = s.head),
 (SELECT d.parent_session_id FROM {p}session_info d WHERE d.session_id = s.session_id),
 (SELECT MAX(CASE WHEN i.kind = 'user_said' THEN 2 ELSE 1 END) FROM {p}inbox i WHERE i.session_id = s.session_id
  AND i.heard_seq IS NULL AND i.mode <> 'aside' AND (i.not_before IS NULL OR i.not_before <= {t})),
 (SELECT MIN(i.not_before) FROM {p}inbox i WHERE i.session_id = s.session_id AND i.heard_seq IS NULL AND i.not_before > {t}), {clock}
 FROM {p}sessions s WHERE """
OF_CLAIM = "s.claim = ? ORDER BY s.runnable_at, s.session_id"
OF_SESSION = "s.session_id = ?"

SETTLE = """UPDATE {p}sessions SET claim = NULL, claimed_until = 0, runnable_at = {t}, attempts = ?
 WHERE session_id = ? AND claim = ? AND epoch = ? AND head = ? AND wake_no = ?"""
# What came too late for a send that is over is never heard any more.
DROP_LATE = "UPDATE {p}inbox SET heard_seq = ? WHERE session_id = ? AND heard_seq IS NULL AND kind <> 'user_said' AND mode <> 'aside'"
GIVE_BACK = "UPDATE {p}sessions SET claim = NULL, claimed_until = 0, runnable_at = {t} WHERE session_id = ? AND claim = ?"

HELD = """SELECT session_id, epoch, holder, CASE WHEN lease_until <= {t} THEN 1 ELSE 0 END
 FROM {p}sessions WHERE holder IS NOT NULL AND status = 0 AND takeovers < ?"""
CLAIMED = "SELECT session_id, claim FROM {p}sessions WHERE claim IS NOT NULL"
# The lease ends now, if it has not ended before; a holder that lives after all keeps writing under its epoch.
REVIVE = """UPDATE {p}sessions SET lease_until = CASE WHEN lease_until < {t} THEN lease_until ELSE {t} END,
 runnable_at = CASE WHEN runnable_at < {t} THEN runnable_at ELSE {t} END WHERE session_id = ? AND epoch = ? AND holder = ?"""
SWEEP_ALL = "DELETE FROM {p}waiters WHERE alive_until < {t}"


# What a workflow is kept in is told by its name.
NO_RUNS = f" AND SUBSTR(session_id, 1, {len(RUN_PREFIX)}) <> '{RUN_PREFIX}'"
# The end of a detached workflow wakes its parent as a timer does.
TIMED = """ AND EXISTS (SELECT 1 FROM {p}inbox i WHERE i.session_id = {p}sessions.session_id AND i.heard_seq IS NULL
 AND (i.name = 'timer' OR SUBSTR(i.item_key, 1, 9) = 'workflow:'))"""


class Standing(NamedTuple):
    """How a session stands, as far as a worker has to know before it drives it, or gives it back."""

    session_id: str
    head: int
    epoch: int
    wake_no: int
    holder: str | None
    send_index: int
    attempts: int
    """How often workers tried the last send in vain."""
    last_kind: str | None
    """The kind of the last record; None when there is none."""
    parent: str | None
    words: bool
    """A word waits in the inbox that may be heard by now."""
    waiting: bool
    """Or something else does: an answer, a cancel."""
    next_due: int | None
    """When (ms) the next of what may not be heard yet will be due."""

    @property
    def over(self) -> bool:
        """Its last send is, or none was ever begun."""
        return self.last_kind in (None, "send_ended")


class HeldLease(NamedTuple):
    """A lease that somebody holds, alive or not."""

    session_id: str
    epoch: int
    holder: str
    lapsed: bool
    """It ran out and was not given back."""


class Claims(Part):
    """What workers ask of a store."""

    async def claim(
        self, claimant: str, *, limit: int, agents: Sequence[str] | None = None, free: bool = True, orphaned: bool = True,
        timed: bool = False, runs: bool = True,
    ) -> tuple[str, list[Standing]]:  # fmt: skip
        """Claim up to ``limit`` sessions that are due, the longest waiting first: the claim's token, and how they stand.

        ``claimant``: who claims, as in leases, so that its death can be seen. ``agents``: only sessions of these
        agents; None: of all. ``free``: those that nobody holds; ``orphaned``: those whose holder let its lease run out.
        ``timed``: only those that a timer wakes, or the end of a workflow. ``runs``: workflows too. Nobody else gets them
        for `CLAIM_MS`, or before they are settled or given back.
        """
        now, token = self._now(), f"{claimant}#{self._ids.token(8)}"
        where, params = _wanted(now, agents, free, orphaned)
        where += TIMED if timed else ""
        where += "" if runs else NO_RUNS
        tail = self._dialect.first_rows(f"{self._prefix}sessions", "session_id", where, "runnable_at", limit)
        await self._write_once([Statement(self._sql(CLAIM + tail), (token, now + CLAIM_MS, now + CLAIM_MS, *params))])
        return token, await self._standings(OF_CLAIM, token)

    async def standing(self, session_id: str) -> Standing | None:
        """How the session stands now; None when it is gone."""
        found = await self._standings(OF_SESSION, session_id)
        return found[0] if found else None

    async def settle(self, seen: Standing, token: str, *, due_in_ms: int | None, attempts: int = 0) -> bool:
        """Give the session back as one that somebody should look at again in ``due_in_ms``.

        None: when the next item is due, or something is posted. Once its last send is over, what waits besides words is
        dropped. Raises `Conflict` when it does not stand as ``seen`` any more, or is claimed by somebody else: nothing
        is written then.
        """
        runnable_at = self._clock.now_ms() + due_in_ms if due_in_ms is not None else seen.next_due
        guard = (seen.session_id, token, seen.epoch, seen.head, seen.wake_no)
        batch = [Statement(self._sql(SETTLE), (self._at_or_none(runnable_at), attempts, *guard), 1)]
        if seen.over and seen.waiting:
            batch.append(Statement(self._sql(DROP_LATE), (seen.head, seen.session_id)))
        return await self._write_once(batch)

    async def give_back(self, session_id: str, token: str, *, for_ms: int = 0) -> None:
        """Let others claim the session, ``for_ms`` from now."""
        due = self._at(self._clock.now_ms() + for_ms)
        await self._write_once([Statement(self._sql(GIVE_BACK), (due, session_id, token))])

    # --- after deaths ----------------------------------------------------------------------------

    async def leases(self, *, agents: Sequence[str] | None = None, due: bool = False) -> list[HeldLease]:
        """All leases of sessions that may be driven. ``due``: only of those that workers look at, which are quick to find."""
        sql = self._sql(HELD) + (" AND runnable_at IS NOT NULL" if due else "")
        chosen, names = _of_agents(agents)
        rows = await self._database.read(sql + chosen, (self._now(), MAX_TAKEOVERS, *names))
        return [HeldLease(session_id, epoch, holder, bool(lapsed)) for session_id, epoch, holder, lapsed in rows]

    async def orphan(self, lease: HeldLease) -> None:
        """The holder of ``lease`` is dead, or silent: its lease ends now, and the session is due."""
        now = self._now()
        await self._write_once([Statement(self._sql(REVIVE), (now, now, now, now, lease.session_id, lease.epoch, lease.holder))])

    async def claims(self) -> list[tuple[str, str, str]]:
        """(session, token, claimant) of what is claimed now."""
        rows = await self._database.read(self._sql(CLAIMED))
        return [(session_id, token, token.rpartition("#")[0]) for session_id, token in rows]

    async def sweep_line(self) -> None:
        """Clear away the tickets of those who will not come back."""
        await self._write_once([Statement(self._sql(SWEEP_ALL), (self._now() - SWEPT_AFTER_MS,))])

    async def _standings(self, where: str, value: str) -> list[Standing]:
        now = self._now()
        rows = await self._database.read(self._sql(STANDING) + where, (now, now, value))
        return [self._standing(row) for row in rows]

    def _standing(self, row: Row) -> Standing:
        *columns, most, next_due, clock = row
        return Standing(*columns, words=most == 2, waiting=bool(most), next_due=next_due and self._here(next_due, clock))


def _wanted(now: int, agents: Sequence[str] | None, free: bool, orphaned: bool) -> tuple[str, list[Any]]:
    """The condition of a claim, and its parameters."""
    assert free or orphaned, "a worker that looks for neither has nothing to claim"
    chosen, names = _of_agents(agents)
    held = [text for wanted, text in ((free, "holder IS NULL"), (orphaned, "(holder IS NOT NULL AND lease_until <= {t})")) if wanted]
    return f"{DUE} AND ({' OR '.join(held)}){chosen}", [now, now, MAX_TAKEOVERS, *([now] if orphaned else []), *names]


def _of_agents(agents: Sequence[str] | None) -> tuple[str, Sequence[str]]:
    return ("", ()) if agents is None else (f" AND agent IN ({', '.join('?' * len(agents))})", agents)
